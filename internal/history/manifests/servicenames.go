package manifests

import (
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"bellhop/internal/history/store"
)

// mostNames is of how many manifests the names are kept.
const mostNames = 4096

// ServiceNames are the services of manifests, by digest: status asks for those of all hosts, again and again.
type ServiceNames struct {
	mu    sync.Mutex
	known map[string][]string
}

// Of returns the services of a manifest, none where it is not stored or digest is "". The caller changes nothing in the list.
func (n *ServiceNames) Of(q store.RowQuerier, digest string) ([]string, error) {
	if digest == "" {
		return nil, nil
	}

	n.mu.Lock()
	defer n.mu.Unlock()
	if names, ok := n.known[digest]; ok {
		return names, nil
	}

	m, err := New().Read(q, digest)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", digest, err)
	}
	if n.known == nil || len(n.known) >= mostNames {
		n.known = map[string][]string{}
	}
	n.known[digest] = m.ServiceNames()
	return n.known[digest], nil
}
