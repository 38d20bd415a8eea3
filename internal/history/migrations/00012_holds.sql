-- +goose Up
-- Hosts that a person brought back to what they held before, and that stay there. The rest is a JSON
-- object: see Hold.
CREATE TABLE holds (
  host TEXT PRIMARY KEY,
  hold TEXT NOT NULL
) WITHOUT ROWID;
