-- +goose Up
-- How single services of a host stand, where that differs from the host: a JSON list, as status prints it.
CREATE TABLE host_services (
  host     TEXT PRIMARY KEY,
  services TEXT NOT NULL
) WITHOUT ROWID;

-- Services that failed on a host while the rest of it was fine, by the digest of the service.
CREATE TABLE failed_services (
  host    TEXT NOT NULL,
  service TEXT NOT NULL,
  digest  TEXT NOT NULL,
  run     TEXT NOT NULL,
  error   TEXT NOT NULL,
  at      INTEGER NOT NULL, -- Unix milliseconds
  PRIMARY KEY (host, service, digest)
) WITHOUT ROWID;
