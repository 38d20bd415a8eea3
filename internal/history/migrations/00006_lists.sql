-- +goose Up
-- What a run begins on many hosts, and what they keep of it, is written as lists: hosts is a JSON list
-- of objects. An entry may be overruled by a later one, or by a row in results: see lists.go.
CREATE TABLE begun (
    seq   INTEGER PRIMARY KEY,
    run   TEXT NOT NULL,
    hosts TEXT NOT NULL -- host, digest of the bundle that was pushed, at: an offer may have gone out
);
INSERT INTO begun(run, hosts)
    SELECT run, json_group_array(json_object('host', host, 'digest', digest, 'at', begun_at))
    FROM results JOIN runs ON runs.id = run WHERE begun_at > 0 AND ended_at = 0 GROUP BY run ORDER BY runs.seq;
UPDATE runs SET planned = (SELECT json_group_array(name) FROM (
        SELECT value AS name FROM json_each(planned) UNION
        SELECT host FROM results WHERE run = id AND begun_at > 0 AND ended_at = 0))
    WHERE id IN (SELECT run FROM begun);

CREATE TABLE kept (
    seq       INTEGER PRIMARY KEY,
    commit_id TEXT NOT NULL,
    hosts     TEXT NOT NULL -- host, generation, digest, at
);
INSERT INTO kept(commit_id, hosts)
    SELECT commit_id, json_group_array(json_object('host', host, 'generation', generation, 'digest', digest, 'at', at))
    FROM generations GROUP BY generation, commit_id ORDER BY generation;
DROP TABLE generations;

-- A result is of a host that ended, or that was not pushed.
ALTER TABLE results RENAME TO results_with_open;
CREATE TABLE results (
    run       TEXT NOT NULL,
    host      TEXT NOT NULL,
    digest    TEXT NOT NULL DEFAULT '',   -- of the bundle that was pushed
    begun_at  INTEGER NOT NULL DEFAULT 0, -- 0: no offer went out
    ended_at  INTEGER NOT NULL DEFAULT 0,
    outcome   TEXT NOT NULL DEFAULT '',
    changed   TEXT NOT NULL DEFAULT '[]',
    details   TEXT NOT NULL DEFAULT '{}',
    took_ms   INTEGER NOT NULL DEFAULT 0,
    error     TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (run, host)
) WITHOUT ROWID;
INSERT INTO results SELECT run, host, digest, begun_at, ended_at, outcome, changed, details, took_ms, error
    FROM results_with_open WHERE begun_at = 0 OR ended_at > 0;
DROP TABLE results_with_open;

-- What one transaction tells is one row.
ALTER TABLE outbox RENAME TO outbox_by_message;
CREATE TABLE outbox (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    messages TEXT NOT NULL -- a JSON list of objects: see Message
);
INSERT INTO outbox(seq, messages)
    SELECT seq, json_array(json_object('at', strftime('%Y-%m-%dT%H:%M:%S', at / 1000, 'unixepoch') || printf('.%03dZ', at % 1000),
        'kind', kind, 'run', run, 'host', host, 'was', was, 'now', now, 'commit', commit_id, 'error', error))
    FROM outbox_by_message ORDER BY seq;
DROP TABLE outbox_by_message;
