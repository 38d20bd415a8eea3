-- +goose Up
-- Why hosts are unconfirmed: apart from hosts, since few ever are.
CREATE TABLE unconfirmed (
  host   TEXT PRIMARY KEY,
  reason TEXT NOT NULL,   -- cut-off, deployer-away
  at     INTEGER NOT NULL -- when the host went back, Unix milliseconds
) WITHOUT ROWID;
ALTER TABLE failures ADD COLUMN reason TEXT NOT NULL DEFAULT ''; -- of those that are unconfirmed

-- What a host saw of a failure, as a JSON list of objects: see Evidence. Apart from results, since most
-- have none, and since who lists runs need not read it.
CREATE TABLE evidence (
  seq      INTEGER PRIMARY KEY AUTOINCREMENT,
  run      TEXT NOT NULL,
  host     TEXT NOT NULL,
  evidence TEXT NOT NULL,
  UNIQUE (run, host)
);
