-- +goose Up
-- Times are Unix milliseconds, 0 or NULL for "not yet". Nothing here holds a secret or the
-- contents of a file: manifests name digests, and a key's digest is keyed.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE runs (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL UNIQUE,
    commit_id   TEXT NOT NULL DEFAULT '',
    author      TEXT NOT NULL DEFAULT '',
    subject     TEXT NOT NULL DEFAULT '',
    cause       TEXT NOT NULL,
    by_whom     TEXT NOT NULL DEFAULT '',
    started_at  INTEGER NOT NULL,
    finished_at INTEGER NOT NULL DEFAULT 0,
    outcome     TEXT NOT NULL DEFAULT '',
    error       TEXT NOT NULL DEFAULT '',
    notes       TEXT NOT NULL DEFAULT '[]'
);

CREATE TABLE results (
    run       TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    host      TEXT NOT NULL,
    digest    TEXT NOT NULL DEFAULT '',   -- of the bundle that was pushed
    begun_at  INTEGER NOT NULL DEFAULT 0, -- an offer may have gone out
    ended_at  INTEGER NOT NULL DEFAULT 0,
    outcome   TEXT NOT NULL DEFAULT '',   -- '' while nothing is known
    changed   TEXT NOT NULL DEFAULT '[]',
    details   TEXT NOT NULL DEFAULT '{}',
    took_ms   INTEGER NOT NULL DEFAULT 0,
    error     TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (run, host)
) WITHOUT ROWID;
CREATE INDEX results_open ON results(host) WHERE begun_at > 0 AND ended_at = 0;

CREATE TABLE hosts (
    name          TEXT PRIMARY KEY,
    state         TEXT NOT NULL,
    follows       INTEGER NOT NULL DEFAULT 0,  -- its commit is the top one, whatever that is
    commit_id     TEXT NOT NULL DEFAULT '',    -- else this
    wanted        TEXT NOT NULL DEFAULT '',    -- digest planned last
    digest        TEXT NOT NULL DEFAULT '',    -- "last": digest deployed, as remembered
    generation    INTEGER NOT NULL DEFAULT 0,
    deployed_at   INTEGER NOT NULL DEFAULT 0,
    run           TEXT NOT NULL DEFAULT '',
    error         TEXT NOT NULL DEFAULT '',
    boot_id       TEXT NOT NULL DEFAULT '',
    arch          TEXT NOT NULL DEFAULT '',
    keys_expected INTEGER NOT NULL DEFAULT 0,
    keys_present  INTEGER NOT NULL DEFAULT 0,
    reach         TEXT NOT NULL DEFAULT '{}',  -- address, host keys, user, jump: for hosts that left
    had           INTEGER NOT NULL DEFAULT 0   -- this deployer put something there once
) WITHOUT ROWID;

CREATE TABLE manifests (
    host     TEXT PRIMARY KEY,
    digest   TEXT NOT NULL,
    manifest BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE generations (
    host       TEXT NOT NULL,
    generation INTEGER NOT NULL,
    digest     TEXT NOT NULL,
    commit_id  TEXT NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (host, generation)
) WITHOUT ROWID;

CREATE TABLE failures (
    host    TEXT NOT NULL,
    digest  TEXT NOT NULL,
    run     TEXT NOT NULL,
    outcome TEXT NOT NULL,
    error   TEXT NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (host, digest)
) WITHOUT ROWID;

CREATE TABLE deliveries (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    id      TEXT NOT NULL,
    at      INTEGER NOT NULL,
    event   TEXT NOT NULL,
    branch  TEXT NOT NULL DEFAULT '',
    commit_id TEXT NOT NULL DEFAULT '',
    answer  TEXT NOT NULL,
    run     TEXT NOT NULL DEFAULT '',
    seen    INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX deliveries_id ON deliveries(id);
CREATE INDEX deliveries_run ON deliveries(run);

CREATE TABLE outbox (
    seq  INTEGER PRIMARY KEY AUTOINCREMENT,
    at   INTEGER NOT NULL,
    kind TEXT NOT NULL,             -- "host" or "run"
    run  TEXT NOT NULL,
    host TEXT NOT NULL DEFAULT '',
    was  TEXT NOT NULL DEFAULT '',  -- state before
    now  TEXT NOT NULL,             -- state of a host, outcome of a run
    commit_id TEXT NOT NULL DEFAULT '',
    error TEXT NOT NULL DEFAULT ''
);
