-- +goose Up
-- How far each target of messages was told: see Mark.
CREATE TABLE targets (
  name TEXT PRIMARY KEY,
  seq  INTEGER NOT NULL,
  at   INTEGER,           -- Unix milliseconds; NULL: no message yet
  told TEXT NOT NULL      -- JSON
) WITHOUT ROWID;
