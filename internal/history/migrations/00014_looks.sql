-- +goose Up
-- What the last look at each host found there, in JSON. A look is no run: it changes nothing on its host.
CREATE TABLE looks (
  host  TEXT PRIMARY KEY,
  found TEXT NOT NULL
) WITHOUT ROWID;
