-- +goose Up
-- Hosts that a run was to push and left out, since too many others failed: they wait for another commit.
CREATE TABLE stopped (
  host      TEXT PRIMARY KEY,
  commit_id TEXT NOT NULL -- of that run
) WITHOUT ROWID;
