-- +goose Up
-- The hosts that a run is to push, as a JSON list of names, until it ends: a result has its row when
-- its host is begun.
ALTER TABLE runs ADD COLUMN planned TEXT NOT NULL DEFAULT '[]';
