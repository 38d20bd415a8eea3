package deploy

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
)

// What a host holds may be composed of several commits. It is made again of the manifest that history
// remembers, entry by entry; the commits only give the bytes and the values of keys, by their digests.

// A standing is the last good generation of a host, as far as is known.
type standing struct {
	manifest bundle.Manifest // of a host that never had anything: empty
	digest   string          // "" for that
	commit   string          // that it came from; "" when not known
	origins  []bundle.Origin // of services that are not at commit
	services []string
}

// standing is what last holds, nil when it is not known. On another machine than last time nothing
// stands.
func (a archive) standing(ctx context.Context, last history.Host, elsewhere bool) (*standing, error) {
	nothing := !last.Had && last.Digest == ""
	if nothing || elsewhere {
		return &standing{}, nil
	}

	m, digest, err := a.lastManifest(ctx, last)
	if m == nil || err != nil {
		return nil, err
	}
	s := &standing{manifest: *m, digest: digest, services: m.ServiceNames()}
	s.commit = last.Commit
	if g, ok := a.generation(last.Name, digest); ok {
		s.commit, s.origins = g.Commit, g.Origins
	}
	return s, nil
}

// commitOf is the commit that a service stands at, "" when it is not there.
func (s *standing) commitOf(service string) string {
	if !slices.Contains(s.services, service) {
		return ""
	}
	for _, o := range s.origins {
		if o.Service == service {
			return o.Commit
		}
	}
	return s.commit
}

// generation is the newest of a host that has a digest.
func (a archive) generation(host, digest string) (history.Generation, bool) {
	for _, g := range a.history.Generations(host) {
		if g.Digest == digest {
			return g, true
		}
	}
	return history.Generation{}, false
}

// olderTime bounds how long the commits of a composed bundle are read.
const olderTime = time.Minute

// older opens the bundles of the commits that services came from, when something of them is asked for.
func (a archive) older(ctx context.Context, host string, origins []bundle.Origin) func() ([]*fleet.Bundle, error) {
	ctx = context.WithoutCancel(ctx)
	return sync.OnceValues(func() ([]*fleet.Bundle, error) {
		ctx, cancel := context.WithTimeout(ctx, olderTime)
		defer cancel()

		var all []*fleet.Bundle
		var errs error
		for _, commit := range commitsIn(origins) {
			b, err := a.partialAt(ctx, commit, host)
			if err != nil {
				errs = errors.Join(errs, fmt.Errorf("read commit %s: %w", short(commit), err))
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

// partialAt is a host's bundle at an older commit, also where services of it can't be made.
func (a archive) partialAt(ctx context.Context, commit, host string) (*fleet.Bundle, error) {
	f, err := a.fleetAt(ctx, commit)
	if err != nil {
		return nil, err
	}
	if _, ok := f.Host(host); !ok {
		return nil, fmt.Errorf("commit %s has no host %s", short(commit), host)
	}
	return f.Partial(host)
}

// fleetAt is the fleet of an older commit, by a loader of its own.
func (a archive) fleetAt(ctx context.Context, commit string) (*fleet.Fleet, error) {
	if a.At == nil {
		return nil, errors.New("no older commit can be had")
	}
	snap, err := a.At(ctx, commit)
	if err != nil {
		return nil, err
	}
	l := a.loader.Fresh()
	l.Arch = a.arch
	return l.Load(ctx, snap.Tree)
}

// composedAt is the composed bundle of a generation of a host.
func (a archive) composedAt(ctx context.Context, host string, g history.Generation) (*fleet.Bundle, error) {
	head, err := a.partialAt(ctx, g.Commit, host)
	if err != nil {
		return nil, err
	}

	older := a.older(ctx, host, g.Origins)
	m, digest, err := a.history.Manifest(host)
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
func (a archive) recompose(head *fleet.Bundle, g history.Generation, older func() ([]*fleet.Bundle, error)) (*bundle.Manifest, error) {
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

	if m.Digest() != g.Digest {
		return nil, fmt.Errorf("generation %d can't be made again from its commits", g.Generation)
	}
	return &m, nil
}
