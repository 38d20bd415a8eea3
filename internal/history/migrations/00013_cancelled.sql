-- +goose Up
-- Who cancelled the run that left the host out; '' when it stopped since too many others failed.
ALTER TABLE stopped ADD COLUMN cancelled_by TEXT NOT NULL DEFAULT '';
