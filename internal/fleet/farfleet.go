package fleet

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"weak"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/inventory"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/render"
	"bellhop/internal/fleet/tree"
	"bellhop/internal/fleet/wire"
)

// A farFleet is what the deployer keeps of a fleet that another process loaded: enough to ask about it,
// and to have it loaded again when that process is gone.
type farFleet struct {
	session *session // that number counts in
	number  int
	kinds   map[int]*render.Composition
}

// loadFar has the tree loaded by the session's process.
func (l *Loader) loadFar(ctx context.Context, fsys fs.FS) (*Fleet, error) {
	f, err := l.askLoad(ctx, fsys)
	var died *DiedError
	if errors.As(err, &died) {
		return nil, problem.Problems{died.problem()}
	}
	if err != nil {
		return nil, err
	}
	l.cache.tree.Store(f.tree)
	return f, nil
}

func (l *Loader) askLoad(ctx context.Context, fsys fs.FS) (*Fleet, error) {
	if l.far != nil && l.far.old {
		l.drop()
	}

	_, hashed := fsys.(tree.Hasher)
	m := &wire.Message{Op: wire.OpLoad, Hashed: hashed, Former: l.Former}
	var since *Fleet
	if l.far != nil && l.far.last != nil {
		since = l.far.last
		m.Since = since.far.number
	}

	a, err := l.call(ctx, fsys, m)
	if err != nil {
		return nil, err
	}

	f, err := l.fleetOf(a, since)
	if err != nil {
		return nil, l.died(ctx, l.far, err)
	}

	f.tree = tree.New(fsys, nil)
	f.far.session = l.far
	l.far.last = f
	return f, nil
}

// countsFit says whether a counts as many hosts as it lists. An answer without a list is one where every
// host of since is still at its place.
func countsFit(a *wire.Message, since *Fleet) bool {
	if a.Count < 0 || a.Count > wire.MaxList {
		return false
	}
	switch {
	case a.Was != nil:
		return a.Count == len(a.Was)
	case since != nil:
		return a.Count == len(since.Hosts)
	}
	return a.Count == 0
}

// fleetOf is the fleet that a says, from since and what differs.
func (l *Loader) fleetOf(a *wire.Message, since *Fleet) (*Fleet, error) {
	if a.Head == nil || !countsFit(a, since) {
		return nil, wire.ErrBroken
	}

	h := a.Head
	f := &Fleet{Network: h.Network, Deployer: h.Deployer, Rollout: h.Rollout, Confirm: h.Confirm, Look: h.Look, Isolate: h.Isolate, Notify: h.Notify, Registries: h.Registries, Warnings: h.Warnings, Readers: h.Readers}
	f.loader, f.far = l, &farFleet{number: a.Fleet, kinds: map[int]*render.Composition{}}
	f.Hosts, f.slots = make([]*inventory.Host, a.Count), make([]*slot, a.Count)
	before := make([]*slot, a.Count)
	for i := range f.Hosts {
		was := i
		if a.Was != nil {
			was = a.Was[i]
		}
		if since != nil && was >= 0 && was < len(since.Hosts) {
			f.Hosts[i], f.slots[i] = since.Hosts[was], since.slots[was]
			before[i] = since.slots[was]
		}
	}

	for _, w := range a.Hosts {
		if w.At < 0 || w.At >= a.Count {
			return nil, wire.ErrBroken
		}
		if w.Host != nil {
			f.Hosts[w.At] = w.Host
		}
		if f.Hosts[w.At] == nil {
			return nil, wire.ErrBroken
		}
		if w.Changed {
			f.slots[w.At] = &slot{host: f.Hosts[w.At], asksArch: w.AsksArch}
			if old := before[w.At]; old != nil {
				if made := old.made.Load(); made != nil {
					f.slots[w.At].base = made.bundle.st
				}
			}
		}
	}

	return f, f.index(a.Was == nil, since)
}

// index finds hosts by name, and says whether one is missing.
func (f *Fleet) index(same bool, since *Fleet) error {
	if slices.Contains(f.Hosts, nil) || slices.Contains(f.slots, nil) {
		return wire.ErrBroken
	}
	if same && since != nil {
		f.config = since.config
		return nil
	}

	f.config = &inventory.Inventory{ByName: make(map[string]int, len(f.Hosts))}
	for i, h := range f.Hosts {
		f.config.ByName[h.Name] = i
	}
	return nil
}

// ask asks the process that loaded f, or one that loads it again.
func (f *Fleet) ask(m *wire.Message) (*wire.Message, error) {
	l := f.loader
	ctx := context.Background() // the timeout bounds it, and Close ends it
	kept := f.far.session != nil && f.far.session == l.far && l.far.last.far.number-f.far.number < keptFleets
	if !kept {
		again, err := l.again(ctx, f)
		if err != nil {
			return nil, err
		}
		*f.far = *again.far
	}

	m.Fleet = f.far.number
	return l.call(ctx, f.tree.FS, m)
}

// again loads f's tree again.
func (l *Loader) again(ctx context.Context, f *Fleet) (*Fleet, error) {
	again, err := l.askLoad(ctx, f.tree.FS)
	if err != nil {
		return nil, err
	}
	if !slices.EqualFunc(again.Hosts, f.Hosts, func(a, b *inventory.Host) bool { return a.Name == b.Name }) {
		return nil, errors.New("the tree is not what it was")
	}
	again.Hosts, again.slots, again.config = f.Hosts, f.slots, f.config // so that the next tree is held against them
	return again, nil
}

// farComposition is what a host's services come to, as the loading process says. The loader is locked.
func (f *Fleet) farComposition(i int, s *slot, arch string, partial bool) (*render.Composition, error) {
	m := &wire.Message{Op: wire.OpBundle, At: i, Arch: arch, Partial: partial}
	for range 2 {
		a, err := f.ask(m)
		if err != nil {
			return nil, hostTrouble(f.Hosts[i].Name, err)
		}
		st, known := f.far.kinds[a.Kind]
		if a.Composition != nil {
			st, known = wire.Compose(a.Composition, s.base)
		}
		if known {
			if err := f.fetchTexts(i, st, m); err != nil {
				return nil, hostTrouble(f.Hosts[i].Name, err)
			}
			f.far.kinds[a.Kind] = st
			return st, nil
		}

		m = &wire.Message{Op: wire.OpBundle, At: i, Arch: arch, Full: true, Partial: partial}
	}

	return nil, wire.ErrBroken
}

// hostTrouble is what a host says of an error that concerns it alone.
func hostTrouble(host string, err error) error {
	var died *DiedError
	if !errors.As(err, &died) {
		return err
	}
	p := died.problem()
	p.Host = host
	return problem.Problems{p}
}

// texts are what templates made, shared by all bundles that hold the same text, for as long as one does.
type texts map[string]weak.Pointer[render.Text]

// fetchTexts gets the texts of st that no bundle holds yet.
func (f *Fleet) fetchTexts(i int, st *render.Composition, of *wire.Message) error {
	l := f.loader
	if l.texts == nil {
		l.texts = texts{}
	}

	for digest, c := range st.Content {
		if c.Source != "" || c.Shared != nil {
			continue
		}
		c.Shared = l.texts[digest].Value()
		if c.Shared == nil {
			a, err := f.ask(&wire.Message{Op: wire.OpText, At: i, Arch: of.Arch, Partial: of.Partial, Digest: digest})
			if err != nil {
				return err
			}
			if bundle.DigestBytes(a.Data) != digest {
				return wire.ErrBroken
			}
			c.Shared = &render.Text{Data: a.Data}
			l.texts[digest] = weak.Make(c.Shared)
		}

		c.Data = c.Shared.Data
		st.Content[digest] = c
	}

	l.texts.sweep()
	return nil
}

// sweep forgets the texts that no bundle holds any more, now and then.
func (t texts) sweep() {
	const often = 1024
	if len(t)%often != often-1 {
		return
	}
	for digest, p := range t {
		if p.Value() == nil {
			delete(t, digest)
		}
	}
}

// farKey has the process render a key that is a template of secrets.
func (l *Loader) farKey(b *Bundle, name string) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Open == nil {
		return nil, render.ErrOffline
	}

	i, ok := b.fleet.config.ByName[b.Host]
	if !ok {
		return nil, wire.ErrBroken
	}

	a, err := b.fleet.ask(&wire.Message{Op: wire.OpKey, At: i, Arch: b.arch, Digest: b.st.Digest, Name: name, Partial: len(b.st.Broken) > 0})
	if err != nil {
		return nil, err
	}

	return a.Data, nil
}

// Readers reads readers: and verify: of bellhop.yaml, and nothing else of tree.
func (l *Loader) Readers(ctx context.Context, tree fs.FS) (inventory.Readers, error) {
	if l.Confined == nil {
		return inventory.ReadReaders(ctx, tree)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	a, err := l.call(ctx, tree, &wire.Message{Op: wire.OpReaders})
	var died *DiedError
	switch {
	case errors.As(err, &died):
		return inventory.Readers{}, problem.Problems{died.problem()}
	case err != nil:
		return inventory.Readers{}, err
	case a.Readers == nil:
		return inventory.Readers{}, wire.ErrBroken
	}

	return *a.Readers, nil
}

// farKeyFiles asks the process for them; none when it does not answer.
func (f *Fleet) farKeyFiles() []wire.KeyFile {
	f.loader.mu.Lock()
	defer f.loader.mu.Unlock()
	a, err := f.ask(&wire.Message{Op: wire.OpFiles})
	if err != nil {
		return nil
	}
	return a.KeyFiles
}

// Reaches lists what the process that loads can reach although it should not: files, sockets, programs.
func (l *Loader) Reaches(ctx context.Context) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, err := l.call(ctx, nil, &wire.Message{Op: wire.OpReaches})
	if err != nil {
		return nil, err
	}
	return a.Names, nil
}

// Fresh is a loader that opens secrets as l does, for a tree beside the one that is deployed: l keeps
// what it knows of that. Its process ends when it has no work.
func (l *Loader) Fresh() *Loader {
	return &Loader{Open: l.Open, KeyDigest: l.KeyDigest, Arch: l.Arch, Systems: l.Systems, Confined: l.Confined, Timeout: l.Timeout, Idle: freshIdle}
}
