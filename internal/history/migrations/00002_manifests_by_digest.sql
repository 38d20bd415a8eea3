-- +goose Up
-- A manifest is stored once for all hosts that were given it, under its digest.
ALTER TABLE hosts ADD COLUMN given TEXT NOT NULL DEFAULT ''; -- digest of the manifest it was given last
UPDATE hosts SET given = coalesce((SELECT digest FROM manifests WHERE host = name), '');
ALTER TABLE manifests RENAME TO manifests_by_host;
CREATE TABLE manifests (
    digest   TEXT PRIMARY KEY,
    manifest BLOB NOT NULL
) WITHOUT ROWID;
INSERT OR IGNORE INTO manifests SELECT digest, manifest FROM manifests_by_host WHERE host IN (SELECT name FROM hosts);
DROP TABLE manifests_by_host;
