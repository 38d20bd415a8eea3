-- +goose Up
-- A host's generations have six places, so that a new one takes that of the one which goes.
ALTER TABLE generations RENAME TO generations_by_number;
CREATE TABLE generations (
    host       TEXT NOT NULL,
    slot       INTEGER NOT NULL, -- generation % 6
    generation INTEGER NOT NULL,
    digest     TEXT NOT NULL,
    commit_id  TEXT NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (host, slot)
) WITHOUT ROWID;
INSERT OR REPLACE INTO generations SELECT host, generation % 6, generation, digest, commit_id, at FROM generations_by_number ORDER BY generation;
DROP TABLE generations_by_number;
