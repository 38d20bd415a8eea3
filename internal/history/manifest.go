package history

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"

	"bellhop/internal/bundle"
)

// Manifests are stored by digest, once for all hosts that were given the same: a thousand
// hosts of one kind cost one row. A row goes with the last host that has it.

// manifests holds those that were used lately, by digest, as they stand in the file. Nobody
// changes what is in it.
type manifests map[string]*bundle.Manifest

const mostKnown = 64

func (ms manifests) keep(digest string, m *bundle.Manifest) {
	for d := range ms {
		if len(ms) < mostKnown {
			break
		}
		delete(ms, d)
	}
	ms[digest] = m
}

// Manifest returns the last manifest that host was given, with the digests of its keys, and
// its digest; nil when none is known. Its lists are shared: the caller changes nothing in them.
func (db *DB) Manifest(host string) (*bundle.Manifest, string, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	digest := db.hosts[host].Given
	if digest == "" {
		return nil, "", nil
	}
	m := db.known[digest]
	if m == nil {
		var blob []byte
		err := db.sql.QueryRow(`SELECT manifest FROM manifests WHERE digest = ?`, digest).Scan(&blob)
		if err == nil {
			m, err = unpack(blob)
		}
		if err != nil {
			return nil, "", fmt.Errorf("read the manifest of %s: %w", host, err)
		}
		db.known.keep(digest, m)
	}
	own := *m
	own.Host = host
	return &own, digest, nil
}

// give remembers that h was given m. It is called inside write, before h is saved.
func (db *DB) give(tx *tx, h *Host, digest string, m *bundle.Manifest) error {
	h.Given = digest
	if db.given[digest] > 0 {
		return nil
	}
	blob, err := pack(m)
	if err != nil {
		return err
	}
	shared := *m
	db.known.keep(digest, &shared)
	_, err = tx.Exec(`INSERT OR REPLACE INTO manifests(digest, manifest) VALUES(?, ?)`, digest, blob)
	return err
}

// count follows a host from one manifest to another, and drops the one that nobody has.
func (db *DB) count(tx *tx, was, now string) error {
	if was == now {
		return nil
	}
	if now != "" {
		db.given[now]++
	}
	if was == "" {
		return nil
	}
	if db.given[was]--; db.given[was] > 0 {
		return nil
	}
	delete(db.given, was)
	delete(db.known, was)
	_, err := tx.Exec(`DELETE FROM manifests WHERE digest = ?`, was)
	return err
}

func pack(m *bundle.Manifest) ([]byte, error) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if err := json.NewEncoder(w).Encode(m); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func unpack(blob []byte) (*bundle.Manifest, error) {
	r, err := gzip.NewReader(bytes.NewReader(blob))
	if err != nil {
		return nil, err
	}
	var m bundle.Manifest
	if err := json.NewDecoder(io.LimitReader(r, 256<<20)).Decode(&m); err != nil {
		return nil, err
	}
	return &m, nil
}
