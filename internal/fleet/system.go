package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/inventory"
	"bellhop/internal/fleet/render"
	"bellhop/internal/fleet/tree"
)

// A NixOS host holds a system beside what its services ask for. The system is evaluated by somebody else
// (Loader.Systems); here it becomes part of the host's bundle.

// A HostSystem is what the NixOS configuration of one host came to.
type HostSystem struct {
	Path    string      // of the store
	Keys    []SystemKey // of deployment.keys
	Err     error       // why there is none; a *SystemError where Nix said so
	Notices []string    // for people
}

// A SystemKey is a key that the configuration of a host names. Its value is that of File, or what Value gives.
type SystemKey struct {
	bundle.Key        // less Digest and Service
	File       string // in the repo: an age file, or one that is as it is
	Value      func() ([]byte, error)
}

func (k *SystemKey) sources() []string {
	if k.File == "" {
		return nil
	}
	return []string{k.File}
}

// A SystemError is why a host has no system, with the last lines of Nix's log.
type SystemError struct {
	Text  string
	Lines []string
	Later bool // nothing is wrong: the system is still being made
}

func (e *SystemError) Error() string { return e.Text }

// An EvaluatedError is why a system does not go with the rest of its host. It may name what an evaluation came to.
type EvaluatedError struct{ Err error }

func (e *EvaluatedError) Error() string { return e.Err.Error() }
func (e *EvaluatedError) Unwrap() error { return e.Err }

// systemSet has the systems of the NixOS hosts of one fleet.
type systemSet struct {
	mu     sync.Mutex
	commit string
	byHost map[string]*HostSystem
}

// ResolveSystems has all NixOS hosts of f evaluated at once. Of a host whose bundle is asked for without that, the
// system is evaluated then.
func (f *Fleet) ResolveSystems(ctx context.Context, commit string) {
	var hosts []*inventory.Host
	for _, h := range f.Hosts {
		if h.NixOS != nil {
			hosts = append(hosts, h)
		}
	}
	f.resolve(ctx, commit, hosts)
}

// TakeSystems takes over what the systems of other came to, which was loaded from the same tree and is used no more.
func (f *Fleet) TakeSystems(other *Fleet) {
	f.systems.commit, f.systems.byHost = other.systems.commit, other.systems.byHost
}

// HasNixOS says whether a host of f is a NixOS system.
func (f *Fleet) HasNixOS() bool {
	return slices.ContainsFunc(f.Hosts, func(h *inventory.Host) bool { return h.NixOS != nil })
}

func (f *Fleet) resolve(ctx context.Context, commit string, hosts []*inventory.Host) {
	if len(hosts) == 0 || f.loader.Systems == nil {
		return
	}
	f.systems.mu.Lock()
	defer f.systems.mu.Unlock()
	if commit != "" {
		f.systems.commit = commit
	}
	found := f.loader.Systems(ctx, f.tree.FS, f.systems.commit, hosts)
	if f.systems.byHost == nil {
		f.systems.byHost = map[string]*HostSystem{}
	}
	for name, s := range found {
		f.systems.byHost[name] = s
	}
}

// systemOf is the system of a host, which is evaluated where that was not done.
func (f *Fleet) systemOf(h *inventory.Host) *HostSystem {
	known := func() *HostSystem {
		f.systems.mu.Lock()
		defer f.systems.mu.Unlock()
		return f.systems.byHost[h.Name]
	}
	if s := known(); s != nil {
		return s
	}

	f.resolve(context.Background(), "", []*inventory.Host{h}) // who evaluates bounds the time
	if s := known(); s != nil {
		return s
	}
	return &HostSystem{Err: errors.New("its NixOS system was not evaluated")}
}

// A systemedBundle is a bundle with a system, for as long as both are the same.
type systemedBundle struct {
	base   *Bundle
	id     string
	bundle *Bundle
}

// withSystem is base with the system of host i.
func (f *Fleet) withSystem(i int, base *Bundle) (*Bundle, error) {
	h := f.Hosts[i]
	if err := render.OnlyKeys(&base.Manifest); err != nil {
		return nil, err
	}
	if f.loader.Systems == nil {
		return base, nil
	}
	s := f.systemOf(h)
	if s.Err != nil {
		return nil, s.Err
	}

	id, isSure := f.systemID(s)
	slot := f.slots[i]
	known := slot.systemed.Load()
	isSame := known != nil && known.base == base && known.id == id
	if isSame && isSure {
		return known.bundle, nil
	}
	b, err := f.addSystem(base, s)
	if err != nil {
		return nil, &EvaluatedError{err}
	}
	if isSame && known.bundle.Digest == b.Digest {
		return known.bundle, nil
	}
	slot.systemed.Store(&systemedBundle{base, id, b})
	return b, nil
}

// systemID is the same for systems that make the same bundle. isSure is false where the tree does not know
// whether the files of keys are the same.
func (f *Fleet) systemID(s *HostSystem) (id string, isSure bool) {
	var all strings.Builder
	fmt.Fprintf(&all, "%s %q", s.Path, s.Notices)
	isSure = true
	hashed, knows := f.tree.FS.(tree.Hasher)
	for _, k := range s.Keys {
		hash := ""
		if k.File != "" && knows {
			hash, isSure = hashOf(hashed, k.File, isSure)
		} else {
			isSure = false
		}
		fmt.Fprintf(&all, "\n%+v %s %s", k.Key, k.File, hash)
	}
	return all.String(), isSure
}

func hashOf(t tree.Hasher, name string, isSure bool) (string, bool) {
	hash, ok := t.Hash(name)
	return hash, isSure && ok
}

// addSystem is base with a system and the keys of its configuration.
func (f *Fleet) addSystem(base *Bundle, s *HostSystem) (*Bundle, error) {
	b := *base
	st := *base.st // another kind of bundle
	b.st, b.tree, b.notices, b.system = &st, f.tree.FS, s.Notices, map[string]*SystemKey{}
	b.System = &bundle.System{Path: s.Path}
	b.Keys = slices.Clone(base.Keys)
	b.Files, b.Units = render.UnitsBelowRun(base.Files, base.Units)

	for i := range s.Keys {
		k := &s.Keys[i]
		if slices.ContainsFunc(b.Keys, func(o bundle.Key) bool { return o.Name == k.Name || o.Path == k.Path }) {
			return nil, fmt.Errorf("key %s is in deployment.keys, and there is another one of that name or path", k.Name)
		}
		b.system[k.Name] = k
		key := k.Key
		key.Service, key.Source = bundle.SystemService, k.File
		if f.loader.KeyDigest != nil && f.loader.Open != nil {
			value, err := b.systemKey(k)
			if err != nil {
				return nil, fmt.Errorf("key %s of deployment.keys: %w", k.Name, err)
			}
			key.Digest = f.loader.KeyDigest(value)
			clear(value)
		}
		b.Keys = append(b.Keys, key)
	}

	b.Sort()
	b.Digest = b.Manifest.Digest()
	return &b, nil
}

// systemKey opens a key of the configuration. The caller clears it.
func (b *Bundle) systemKey(k *SystemKey) ([]byte, error) {
	switch {
	case k.File == "":
		return k.Value()
	case !strings.HasSuffix(k.File, ".age"):
		return tree.ReadFile(b.tree, k.File)
	case b.loader.Open == nil:
		return nil, render.ErrOffline
	}
	return b.loader.Open(b.tree, k.File)
}

// Notices are what a person should hear of the bundle's NixOS system.
func (b *Bundle) Notices() []string { return b.notices }
