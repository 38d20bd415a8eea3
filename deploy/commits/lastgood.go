package commits

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/plain"
)

// A LastGood is the last good generation of a host, as far as is known.
type LastGood struct {
	Manifest bundle.Manifest  // of a host that never had anything: empty
	Digest   string           // "" for that
	commit   string           // that it came from; "" when not known
	Origins  []bundle.Origin  // of services that are not at commit
	Head     *bundle.Manifest // what commit wants of the host as a whole; nil when it was not made again
	services []string
}

// LastGood is what last holds, nil when it is not known. On another machine than last time nothing
// stands.
func (a Archive) LastGood(ctx context.Context, last history.Host, elsewhere bool) (*LastGood, error) {
	nothing := !last.Had && last.Digest == ""
	if nothing || elsewhere {
		return &LastGood{}, nil
	}

	m, digest, err := a.LastManifest(ctx, last)
	if m == nil || err != nil {
		return nil, err
	}

	s := &LastGood{Manifest: *m, Digest: digest, services: m.ServiceNames()}
	s.commit = last.Commit
	if g, ok := a.Generation(last.Name, digest); ok {
		s.commit, s.Origins = g.Commit, g.Origins
	}

	return s, nil
}

// CommitOf is the commit that a service stands at, "" when it is not there.
func (s *LastGood) CommitOf(service string) string {
	if !slices.Contains(s.services, service) {
		return ""
	}

	for _, o := range s.Origins {
		if o.Service == service {
			return o.Commit
		}
	}

	return s.commit
}

// Generation is the newest of a host that has a digest.
func (a Archive) Generation(host, digest string) (history.Generation, bool) {
	for _, g := range a.History.Generations(host) {
		if g.Digest == digest {
			return g, true
		}
	}
	return history.Generation{}, false
}

// OlderTime bounds how long the commits of a composed bundle are read.
const OlderTime = time.Minute

// Older opens the bundles of the commits that services came from, when something of them is asked for.
func (a Archive) Older(ctx context.Context, host string, origins []bundle.Origin) func() ([]*fleet.Bundle, error) {
	ctx = context.WithoutCancel(ctx)
	return sync.OnceValues(func() ([]*fleet.Bundle, error) {
		ctx, cancel := context.WithTimeout(ctx, OlderTime)
		defer cancel()

		var all []*fleet.Bundle
		var errs error
		for _, commit := range commitsIn(origins) {
			b, err := a.PartialAt(ctx, commit, host)
			if err != nil {
				errs = errors.Join(errs, fmt.Errorf("read commit %s: %w", plain.Short(commit), err))
				continue
			}
			all = append(all, b)
		}
		return all, errs
	})
}

func commitsIn(origins []bundle.Origin) []string {
	var all []string
	for _, o := range origins {
		if o.Commit != "" && !slices.Contains(all, o.Commit) {
			all = append(all, o.Commit)
		}
	}

	return all
}

// PartialAt is a host's bundle at an older commit, also where services of it can't be made.
func (a Archive) PartialAt(ctx context.Context, commit, host string) (*fleet.Bundle, error) {
	f, err := a.FleetAt(ctx, commit)
	if err != nil {
		return nil, err
	}
	return a.bundleIn(f, commit, host, f.Partial)
}

// FleetAt is the fleet of an older commit, by a loader of its own.
func (a Archive) FleetAt(ctx context.Context, commit string) (*fleet.Fleet, error) {
	if a.At == nil {
		return nil, errors.New("no older commit can be had")
	}
	snap, err := a.At(ctx, commit)
	if err != nil {
		return nil, err
	}

	l := a.Loader.Fresh()
	l.Arch = a.arch
	return l.Load(ctx, snap.Tree)
}

// ComposedAt is the composed bundle of a generation of a host.
func (a Archive) ComposedAt(ctx context.Context, host string, g history.Generation) (*fleet.Bundle, error) {
	head, err := a.PartialAt(ctx, g.Commit, host)
	if err != nil {
		return nil, err
	}

	older := a.Older(ctx, host, g.Origins)
	m, digest, err := a.History.Manifest(host)
	if err != nil {
		return nil, err
	}

	if m == nil || digest != g.Digest {
		if m, err = a.recompose(head, g, older); err != nil {
			return nil, err
		}
	}

	var names []string
	for _, o := range g.Origins {
		names = append(names, o.Service)
	}

	return head.Composed(*m, names, older), nil
}

// recompose makes the manifest of a generation again from the commits of its services.
func (a Archive) recompose(head *fleet.Bundle, g history.Generation, older func() ([]*fleet.Bundle, error)) (*bundle.Manifest, error) {
	m, err := a.compose(head, g, older)
	if err == nil && m.Digest() != g.Digest {
		return nil, fmt.Errorf("generation %d can't be made again from its commits", g.Generation)
	}
	return m, err
}

// compose is head with the services that a generation has of other commits, or has not.
func (a Archive) compose(head *fleet.Bundle, g history.Generation, older func() ([]*fleet.Bundle, error)) (*bundle.Manifest, error) {
	m := head.Manifest
	bundles, err := older()
	if err != nil {
		return nil, err
	}

	for i, commit := range commitsIn(g.Origins) {
		var names []string
		for _, o := range g.Origins {
			if o.Commit == commit {
				names = append(names, o.Service)
			}
		}
		m = bundle.Compose(m, bundles[i].Manifest, names).Manifest
	}

	var absent []string
	for _, o := range g.Origins {
		if o.Commit == "" {
			absent = append(absent, o.Service)
		}
	}

	m = bundle.Compose(m, bundle.Manifest{}, absent).Manifest
	return &m, nil
}
