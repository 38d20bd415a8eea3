// Package preview plans a request to merge: what its head would change, if it were deployed now.
//
// Anybody may open a request, and anybody can seal a guess to the deployer's public key. So a plan that strangers can
// cause and read is made without the deployer's identity: no secret is opened. A key, and whatever a key goes into, is
// compared by the git blob ids of the files that it is made of, and by what is declared of it; nothing that such a plan shows
// depends on a value. Nothing is fetched, no host is contacted, and no NixOS system is evaluated.
//
// The head is compared with the commit that is deployed, and not with what hosts hold.
package preview

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/plandigest"
)

// A Plan is what a head changes. It is a value.
type Plan struct {
	Hosts    []Host // that change, or that something must be said of, by name
	Total    int    // hosts that the head names
	Digest   string // see plandigest.Of
	Problems []string
}

// A Host is what a head changes on one host.
type Host struct {
	Name    string
	Changes []bundle.Change
	Units   bundle.UnitPlan
	Notes   []string // what else must be said, each one line
}

// Make plans head against base, the commit that is deployed. loader makes loaders that open no secret: one that could is
// refused. A head that bellhop would refuse is a plan with problems, and no error.
func Make(ctx context.Context, loader func() *fleet.Loader, base, head fs.FS) (*Plan, error) {
	was, closeWas, err := load(ctx, loader(), base)
	if err != nil {
		return nil, fmt.Errorf("load the commit that is deployed: %w", err)
	}
	defer closeWas()

	wants, closeWants, err := load(ctx, loader(), head)
	var ps fleet.Problems
	if errors.As(err, &ps) {
		return refused(ps), nil
	}
	if err != nil {
		return nil, fmt.Errorf("load the head of the request: %w", err)
	}
	defer closeWants()
	return compare(ctx, side{was, base}, side{wants, head})
}

// A side is a fleet and the tree that it was read from.
type side struct {
	*fleet.Fleet
	tree fs.FS
}

func load(ctx context.Context, l *fleet.Loader, tree fs.FS) (*fleet.Fleet, func(), error) {
	l.Systems = nil // whoever may ask for a merge has nothing evaluated or built here
	if l.Open != nil || l.KeyDigest != nil || l.Systems != nil {
		return nil, nil, errors.New("preview: the loader can open secrets, or evaluate NixOS systems")
	}
	f, err := l.Load(ctx, tree)
	if err != nil {
		l.Close()
		return nil, nil, err
	}
	return f, func() { l.Close() }, nil
}

func refused(ps fleet.Problems) *Plan {
	p := &Plan{}
	for _, one := range ps.Capped() {
		p.Problems = append(p.Problems, one.Error())
	}
	return p
}

func compare(ctx context.Context, was, wants side) (*Plan, error) {
	p := &Plan{Total: len(wants.Hosts)}
	var digested []plandigest.Host
	for _, h := range wants.Hosts {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}

		one, b := compareHost(was, wants, h)
		if len(one.Changes) > 0 {
			digested = append(digested, plandigest.Host{Name: h.Name, Changes: one.Changes, Bundle: b})
		}
		if len(one.Changes) > 0 || len(one.Notes) > 0 {
			p.Hosts = append(p.Hosts, one)
		}
	}

	for _, h := range was.Hosts {
		if _, stays := wants.Host(h.Name); !stays {
			p.Hosts = append(p.Hosts, Host{Name: h.Name, Notes: []string{"leaves the repo: what is there stays, and nothing is brought any more"}})
		}
	}
	slices.SortFunc(p.Hosts, func(a, b Host) int { return strings.Compare(a.Name, b.Name) })
	p.Digest = plandigest.Of(wants.tree, digested)
	return p, nil
}

// compareHost is what changes on one host, and its new bundle.
func compareHost(was, wants side, h *fleet.Host) (Host, *fleet.Bundle) {
	one := Host{Name: h.Name}
	if h.NixOS != nil {
		one.Notes = append(one.Notes, "its NixOS system is not planned: nothing is evaluated for a request")
	}

	b, err := wants.Bundle(h.Name)
	if err != nil {
		one.Notes = append(one.Notes, "can't be planned: "+err.Error())
		return one, nil
	}
	before := bundle.Manifest{}
	if old, known := was.Host(h.Name); !known {
		one.Notes = append(one.Notes, "is a new host")
	} else {
		if isElsewhere(old, h) {
			one.Notes = append(one.Notes, "is reached at another address, by another key, user or jump host")
		}
		former, err := was.Bundle(h.Name)
		if err != nil {
			one.Notes = append(one.Notes, "can't be compared with what is deployed: "+err.Error())
			return one, nil
		}
		before = keysByBlob(former, was.tree)
	}

	after := keysByBlob(b, wants.tree)
	one.Changes = bundle.Diff(before, after)
	one.Units = bundle.PreviewUnits(before, after, one.Changes)
	return one, b
}

// keysByBlob is the manifest of a bundle with blob ids in place of the digests of keys.
func keysByBlob(b *fleet.Bundle, tree fs.FS) bundle.Manifest {
	m := b.Manifest
	m.Keys = slices.Clone(m.Keys)
	for i, k := range m.Keys {
		m.Keys[i].Digest = plandigest.BlobIDs(tree, b.KeySources(k.Name))
	}
	return m
}

func isElsewhere(a, b *fleet.Host) bool {
	isSame := slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.HostKeys, b.HostKeys) && a.User == b.User && a.Jump == b.Jump
	return !isSame
}
