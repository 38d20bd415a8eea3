// Package preview plans a request to merge: what its head would change, if it were deployed now.
//
// Anybody may open a request, and anybody can seal a guess to the deployer's public key. So a plan that strangers can
// cause and read is made without the deployer's identity: no secret is opened. A key, and whatever a key goes into, is
// compared by the git blob ids of the files that it is made of, and by what is declared of it; nothing that such a plan shows
// depends on a value. Nothing is fetched and no host is contacted. NixOS systems are evaluated where somebody switched that on,
// without a network, and a plan shows no text that came of it.
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
	Again    string // why it is not whole, and may be later; "": it is
}

// A Host is what a head changes on one host.
type Host struct {
	Name    string
	Changes []bundle.Change
	Units   bundle.UnitPlan
	Notes   []string // what else must be said, each one line

	evaluated map[string]bool // keys whose names are not shown
}

// A Maker makes plans. Its fields are set before Make.
type Maker struct {
	// Loader makes loaders that open no secret: one that could is refused.
	Loader func() *fleet.Loader
	// Systems says which NixOS systems hosts would hold, as fleet.Loader.Systems does, and builds and fetches nothing. Nil: NixOS
	// systems are not planned.
	Systems func(ctx context.Context, tree fs.FS, commit string, hosts []*fleet.Host) map[string]*fleet.HostSystem
}

// A Commit is a commit of the repo.
type Commit struct {
	ID   string
	Tree fs.FS
}

// Make plans head against base, the commit that is deployed. A head that bellhop would refuse is a plan with problems, and no
// error.
func (m Maker) Make(ctx context.Context, base, head Commit) (*Plan, error) {
	was, closeWas, err := m.load(ctx, base)
	if err != nil {
		return nil, fmt.Errorf("load the commit that is deployed: %w", err)
	}
	defer closeWas()

	wants, closeWants, err := m.load(ctx, head)
	var ps fleet.Problems
	if errors.As(err, &ps) {
		return refused(ps), nil
	}
	if err != nil {
		return nil, fmt.Errorf("load the head of the request: %w", err)
	}
	defer closeWants()
	return m.compare(ctx, side{was, base.Tree}, side{wants, head.Tree})
}

// A side is a fleet and the tree that it was read from.
type side struct {
	*fleet.Fleet
	tree fs.FS
}

func (m Maker) load(ctx context.Context, c Commit) (*fleet.Fleet, func(), error) {
	l := m.Loader()
	if l.Open != nil || l.KeyDigest != nil {
		return nil, nil, errors.New("preview: the loader can open secrets")
	}
	l.Systems = m.Systems // no other, which could build
	f, err := l.Load(ctx, c.Tree)
	if err != nil {
		l.Close()
		return nil, nil, err
	}
	f.ResolveSystems(ctx, c.ID)
	return f, func() { l.Close() }, nil
}

func refused(ps fleet.Problems) *Plan {
	p := &Plan{}
	for _, one := range ps.Capped() {
		p.Problems = append(p.Problems, one.Error())
	}
	return p
}

func (m Maker) compare(ctx context.Context, was, wants side) (*Plan, error) {
	p := &Plan{Total: len(wants.Hosts)}
	var digested []plandigest.Host
	for _, h := range wants.Hosts {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}

		one, b := m.compareHost(was, wants, h)
		if p.Again == "" {
			p.Again = later(was, wants, h.Name)
		}
		if len(one.Changes) > 0 {
			digested = append(digested, plandigest.Host{Name: h.Name, Changes: one.Changes, Bundle: b})
		}
		one.hideEvaluated()
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
func (m Maker) compareHost(was, wants side, h *fleet.Host) (Host, *fleet.Bundle) {
	one := Host{Name: h.Name}
	if h.NixOS != nil && m.Systems == nil {
		one.Notes = append(one.Notes, "its NixOS system is not planned: nothing is evaluated for a request")
	}

	b, err := wants.Bundle(h.Name)
	if err != nil {
		one.Notes = append(one.Notes, "can't be planned: "+reason(err))
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
			one.Notes = append(one.Notes, "can't be compared with what is deployed: "+reason(err))
			return one, nil
		}
		before = keysByBlob(former, was.tree)
	}

	after := keysByBlob(b, wants.tree)
	one.Changes, one.evaluated = bundle.Diff(before, after), evaluatedKeys(before, after)
	one.Units = bundle.PreviewUnits(before, after, one.Changes)
	return one, b
}

// later says why the system of a host can't be planned now, where that is no fault of the configuration; "" where it is
// planned.
func later(was, wants side, host string) string {
	for _, f := range []side{was, wants} {
		_, err := f.Bundle(host)
		var failed *fleet.SystemError
		if errors.As(err, &failed) && failed.Later {
			return failed.Text
		}
	}

	return ""
}

// reason is why a host has no bundle, less what came of an evaluation: see evaluatedKey.
func reason(err error) string {
	if evaluated := (*fleet.EvaluatedError)(nil); errors.As(err, &evaluated) {
		return "a key of deployment.keys has the name or the path of another key"
	}
	return err.Error()
}

// evaluatedKey is what a key is called that a NixOS configuration names. Its name came of an evaluation, which can read more than
// whoever reads the plan: the private inputs of a flake, for example.
const evaluatedKey = "of deployment.keys"

// evaluatedKeys are the keys that configurations name.
func evaluatedKeys(ms ...bundle.Manifest) map[string]bool {
	names := map[string]bool{}
	for _, m := range ms {
		for _, k := range m.Keys {
			if k.Service == bundle.SystemService {
				names[k.Name] = true
			}
		}
	}
	return names
}

// hideEvaluated takes names that came of an evaluation out of the changes.
func (h *Host) hideEvaluated() {
	h.Changes = slices.Clone(h.Changes)
	for i, c := range h.Changes {
		if c.Kind == bundle.KindKey && h.evaluated[c.Name] {
			h.Changes[i].Name = evaluatedKey
		}
	}
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
	samePlace := slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.HostKeys, b.HostKeys)
	sameLogin := a.User == b.User && a.Jump == b.Jump
	return !samePlace || !sameLogin
}
