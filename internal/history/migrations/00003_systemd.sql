-- +goose Up
-- So that a plan can say that a host's systemd is too old for what is wanted of it.
ALTER TABLE hosts ADD COLUMN systemd INTEGER NOT NULL DEFAULT 0; -- version as its helper said, 0 when not known
