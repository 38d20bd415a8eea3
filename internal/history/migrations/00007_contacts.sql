-- +goose Up
-- When each host was heard last, and since when it does not answer: apart from hosts, since it
-- changes without anything else of a host.
CREATE TABLE contacts (
  host    TEXT PRIMARY KEY,
  seen_at INTEGER NOT NULL, -- Unix milliseconds, 0 when it was never heard
  away_at INTEGER NOT NULL  -- since when it does not answer, 0 when it does
) WITHOUT ROWID;
