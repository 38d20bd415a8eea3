// Package services remembers the state of single services of hosts, and which of them failed.
//
// Most services are at the commit of their host, and nothing is stored of them. A service that is held
// back stays as it was while the others of its host are brought on. A failure is a service's digest that
// did not work on a host: it is not tried there again.
package services

import (
	"slices"
	"strings"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/history/null"
)

// A State is the state of one service of a host. It is stored and printed as it is written here.
type State string

// States of a service.
const (
	Current State = "current"   // it is at its host's commit
	Held    State = "held-back" // it stays as it was, and the others are brought
	Failed  State = "failed"    // it failed, and the host as a whole went back
)

// A Status is the state of one service of a host. Its JSON is a contract.
type Status struct {
	Name   string  `json:"name"`
	Commit *string `json:"commit"` // that it is at; null when it is not there
	State  State   `json:"state"`
	Error  *string `json:"error"`
}

// New is a Status; commit and err may be "".
func New(name, commit string, state State, err string) Status {
	return Status{Name: name, Commit: null.Text(commit), State: state, Error: null.Text(err)}
}

// Kept are the services of a composed generation that are not at its commit, on a host that holds it again:
// a rollback brought it there, or a run that failed left it there.
func Kept(origins []bundle.Origin) []Status {
	var all []Status
	for _, o := range origins {
		all = append(all, New(o.Service, o.Commit, Held, "it was held back when the host came to this generation"))
	}
	return all
}

func (s Status) equal(o Status) bool {
	same := func(a, b *string) bool {
		if a == nil || b == nil {
			return a == b
		}
		return *a == *b
	}
	sameState := s.Name == o.Name && s.State == o.State
	return sameState && same(s.Commit, o.Commit) && same(s.Error, o.Error)
}

// A Failure is a service that did not work on a host: it is not tried there again while its digest
// is the same.
type Failure struct {
	Service, Digest, Run, Error string
	At                          time.Time

	// Barred says that the service's user barred the way to a path of his on that host. It is of the run alone, and is not stored.
	Barred bool
}

// keepFailures is how many are remembered of a host.
const keepFailures = 40

// Complete is the state of each service of a host: differing has those that are not at its commit, and names
// has all that it was given.
func Complete(commit *string, differing []Status, names []string) []Status {
	all := append([]Status{}, differing...)
	for _, name := range names {
		isListed := slices.ContainsFunc(differing, func(s Status) bool { return s.Name == name })
		if !isListed {
			all = append(all, Status{Name: name, Commit: commit, State: Current})
		}
	}
	slices.SortFunc(all, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return all
}
