package history

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"

	"bellhop/internal/bundle"
)

// maxManifest is how large a manifest may be once it is unpacked.
const maxManifest = 256 << 20

// manifests counts the hosts of each manifest, and caches some. A manifest is stored by its
// digest, once for all hosts that were given the same: a thousand hosts of one kind cost one
// row. The row goes with the last host that has it.
type manifests struct {
	hosts  map[string]int              // how many were given a manifest, by digest
	cached map[string]*bundle.Manifest // as the file has them; nobody changes what is in them
}

// mostCached is how many manifests are cached.
const mostCached = 64

func newManifests() *manifests {
	return &manifests{hosts: map[string]int{}, cached: map[string]*bundle.Manifest{}}
}

func (ms *manifests) cache(digest string, m *bundle.Manifest) {
	for d := range ms.cached {
		if len(ms.cached) < mostCached {
			break
		}
		delete(ms.cached, d)
	}
	ms.cached[digest] = m
}

// count follows a host from one manifest to another, "" for none. It says whether no host has
// the first one any more.
func (ms *manifests) count(was, now string) (unused bool) {
	if was == now {
		return false
	}
	if now != "" {
		ms.hosts[now]++
	}
	if was == "" {
		return false
	}
	if ms.hosts[was]--; ms.hosts[was] > 0 {
		return false
	}
	delete(ms.hosts, was)
	delete(ms.cached, was)
	return true
}

// move is count, and drops the row of a manifest that no host has any more. It is called inside
// a transaction.
func (ms *manifests) move(tx *tx, was, now string) error {
	if !ms.count(was, now) {
		return nil
	}
	_, err := tx.Exec(`DELETE FROM manifests WHERE digest = ?`, was)
	return err
}

// give stores m for a host, before the host is saved with its digest. It is called inside a
// transaction.
func (ms *manifests) give(tx *tx, digest string, m *bundle.Manifest) error {
	if ms.hosts[digest] > 0 {
		return nil
	}
	blob, err := pack(m)
	if err != nil {
		return err
	}

	shared := *m
	ms.cache(digest, &shared)
	_, err = tx.Exec(`INSERT OR REPLACE INTO manifests(digest, manifest) VALUES(?, ?)`, digest, blob)
	return err
}

// Manifest returns the last manifest that host was given, with the digests of its keys, and
// its digest; nil when none is known. Its lists are shared: the caller changes nothing in them.
func (db *DB) Manifest(host string) (*bundle.Manifest, string, error) {
	db.mu.Lock()
	defer db.mu.Unlock()

	digest := db.mem.hosts[host].Given
	if digest == "" {
		return nil, "", nil
	}
	m := db.mem.manifests.cached[digest]
	if m == nil {
		var blob []byte
		err := db.sql.QueryRow(`SELECT manifest FROM manifests WHERE digest = ?`, digest).Scan(&blob)
		if err == nil {
			m, err = unpack(blob)
		}
		if err != nil {
			return nil, "", fmt.Errorf("read the manifest of %s: %w", host, err)
		}
		db.mem.manifests.cache(digest, m)
	}

	own := *m
	own.Host = host
	return &own, digest, nil
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
	if err := json.NewDecoder(io.LimitReader(r, maxManifest)).Decode(&m); err != nil {
		return nil, err
	}
	return &m, nil
}
