// Package manifests stores the manifests that hosts were given.
//
// A manifest is stored by its digest, once for all hosts that were given the same: a thousand hosts of
// one kind cost one row. The row goes with the last host that has it.
package manifests

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"

	"bellhop/internal/bundle"
	"bellhop/internal/history/store"
)

// maxManifest is how large a manifest may be once it is unpacked.
const maxManifest = 256 << 20

// A Set counts the hosts of each manifest, and caches some manifests. Its caller serializes the calls.
type Set struct {
	hosts  map[string]int              // how many were given a manifest, by digest
	cached map[string]*bundle.Manifest // as the file has them; nobody changes what is in them
}

// mostCached is how many manifests are cached.
const mostCached = 64

// New is a set in which no host has a manifest.
func New() *Set {
	return &Set{hosts: map[string]int{}, cached: map[string]*bundle.Manifest{}}
}

func (s *Set) cache(digest string, m *bundle.Manifest) {
	for d := range s.cached {
		if len(s.cached) < mostCached {
			break
		}
		delete(s.cached, d)
	}
	s.cached[digest] = m
}

// Count follows a host from one manifest to another, "" for none. It says whether no host has
// the first one any more.
func (s *Set) Count(was, now string) (unused bool) {
	if was == now {
		return false
	}
	if now != "" {
		s.hosts[now]++
	}
	if was == "" {
		return false
	}
	if s.hosts[was]--; s.hosts[was] > 0 {
		return false
	}
	delete(s.hosts, was)
	delete(s.cached, was)
	return true
}

// Move is Count, and drops the row of a manifest that no host has any more. It is called inside
// a transaction.
func (s *Set) Move(tx *store.Tx, was, now string) error {
	if !s.Count(was, now) {
		return nil
	}
	_, err := tx.Exec(`DELETE FROM manifests WHERE digest = ?`, was)
	return err
}

// Give stores m for a host, before the host is saved with its digest. It is called inside a
// transaction.
func (s *Set) Give(tx *store.Tx, digest string, m *bundle.Manifest) error {
	if s.hosts[digest] > 0 {
		return nil
	}
	blob, err := pack(m)
	if err != nil {
		return err
	}

	shared := *m
	s.cache(digest, &shared)
	_, err = tx.Exec(`INSERT OR REPLACE INTO manifests(digest, manifest) VALUES(?, ?)`, digest, blob)
	return err
}

// Read returns the manifest of that digest. What it returns is cached: the caller changes nothing in it.
func (s *Set) Read(q store.RowQuerier, digest string) (*bundle.Manifest, error) {
	if m := s.cached[digest]; m != nil {
		return m, nil
	}

	var blob []byte
	if err := q.QueryRow(`SELECT manifest FROM manifests WHERE digest = ?`, digest).Scan(&blob); err != nil {
		return nil, err
	}
	m, err := unpack(blob)
	if err != nil {
		return nil, err
	}
	s.cache(digest, m)
	return m, nil
}

// KeepCache takes over what former has in its cache: it goes by digest, so it can't be out of date.
func (s *Set) KeepCache(former *Set) { s.cached = former.cached }

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
