-- +goose Up
-- The hosts that a run is to push, as a JSON list of names: a result gets its row when its host is begun,
-- or ends without that. When the run ends, those without a row stay.
ALTER TABLE runs ADD COLUMN planned TEXT NOT NULL DEFAULT '[]';
