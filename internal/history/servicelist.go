package history

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"bellhop/internal/history/manifests"
)

// mostNames is of how many manifests the names are kept.
const mostNames = 4096

// serviceNames are the services of manifests, by digest: status asks for those of all hosts, again and again.
type serviceNames struct {
	mu    sync.Mutex
	known map[string][]string
}

// of returns the services of a manifest, none where it is not stored or digest is "". The caller changes nothing in the list.
func (n *serviceNames) of(tx *sql.Tx, digest string) ([]string, error) {
	if digest == "" {
		return nil, nil
	}

	n.mu.Lock()
	defer n.mu.Unlock()
	if names, ok := n.known[digest]; ok {
		return names, nil
	}

	m, err := manifests.New().Read(tx, digest)
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

// allServices is the state of each service of a host: differing has those that are not at its commit, and names
// has all that it was given.
func allServices(commit *string, differing []ServiceStatus, names []string) []ServiceStatus {
	all := append([]ServiceStatus{}, differing...)
	for _, name := range names {
		isListed := slices.ContainsFunc(differing, func(s ServiceStatus) bool { return s.Name == name })
		if !isListed {
			all = append(all, ServiceStatus{Name: name, Commit: commit, State: ServiceCurrent})
		}
	}
	slices.SortFunc(all, func(a, b ServiceStatus) int { return strings.Compare(a.Name, b.Name) })
	return all
}
