package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"syscall"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/confine"
	"bellhop/internal/fleet/inventory"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/render"
)

// ServeLoader loads trees for the deployer that started this process, until that closes its pipe. It
// is the whole of the process.
func ServeLoader(in *confine.Inside) error {
	s := &loaderServer{in: in, wire: wire{r: in.In, w: in.Out}, fleets: map[int]*servedFleet{}}
	s.loader = &Loader{
		step:      in.At,
		Arch:      func(string) string { return s.arch },
		KeyDigest: s.seal,
	}
	s.loader.digest = func(_ fs.FS, path string) (string, error) {
		a, err := s.ask(&message{Op: opDigest, Path: path})
		return digestOf(a), err
	}
	for {
		m, err := s.receive()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		in.At("")
		s.loader.Open = s.open
		if m.Offline {
			s.loader.Open = nil
		}
		a := s.answer(m)
		a.Op, a.CPU = opAnswer, cpuTime()
		if s.broken != nil {
			return s.broken
		}
		if err := s.send(a); err != nil {
			return err
		}
		clear(a.data) // a key, perhaps
	}
}

// A loaderServer is the loader's side of the wire.
type loaderServer struct {
	wire
	in     *confine.Inside
	loader *Loader
	fleets map[int]*servedFleet // by number
	newest int
	arch   string // of the host that is worked on, if the deployer knows it
	broken error  // the wire is
}

// A servedFleet is a fleet that the deployer may ask about.
type servedFleet struct {
	*Fleet
	kinds map[*render.Composition]int
	bases map[*slot]*render.Composition // what the host of a new slot had before
}

// keptFleets is how many fleets the deployer may still ask about; an older one is loaded again.
const keptFleets = 3

// ask asks the deployer.
func (s *loaderServer) ask(m *message) (*message, error) {
	if s.broken != nil {
		return nil, s.broken
	}
	err := s.send(m)
	var a *message
	if err == nil {
		a, err = s.receive()
	}
	if err != nil {
		s.broken = err
		return nil, err
	}
	return a, a.err()
}

// open is the plaintext of a secret that a template names.
func (s *loaderServer) open(_ fs.FS, path string) ([]byte, error) {
	a, err := s.ask(&message{Op: opOpen, Path: path})
	if err != nil {
		return nil, err
	}
	return a.data, nil
}

func (s *loaderServer) seal(value []byte) string {
	a, err := s.ask(&message{Op: opSeal, data: value})
	if err != nil {
		return ""
	}
	return a.Digest
}

func (s *loaderServer) answer(m *message) *message {
	a := &message{}
	var err error
	switch m.Op {
	case opLoad:
		err = s.load(m, a)
	case opBundle:
		err = s.bundle(m, a)
	case opText:
		err = s.text(m, a)
	case opKey:
		err = s.key(m, a)
	case opFiles:
		err = s.files(m, a)
	case opReaders:
		var r inventory.Readers
		if r, err = inventory.ReadReaders(context.Background(), newFarTree(s.ask, false)); err == nil {
			a.Readers = &r
		}
	case opReaches:
		a.Names = s.in.Reaches()
	default:
		err = errWire
	}

	var ps problem.Problems
	switch {
	case errors.As(err, &ps):
		a.setProblems(ps)
	case err != nil:
		a.fail(err)
	}
	return a
}

func (s *loaderServer) load(m, a *message) error {
	s.loader.Former = m.Former
	f, err := s.loader.Load(context.Background(), newFarTree(s.ask, m.Hashed))
	if err != nil {
		return err
	}

	s.newest++
	now := &servedFleet{Fleet: f, kinds: map[*render.Composition]int{}, bases: map[*slot]*render.Composition{}}
	now.difference(s.fleets[m.Since], a)
	s.fleets[s.newest] = now
	delete(s.fleets, s.newest-keptFleets)
	a.Fleet, a.Head, a.Count = s.newest, f, len(f.Hosts)
	return nil
}

// difference says how f differs from since, which may be nil.
func (f *servedFleet) difference(since *servedFleet, a *message) {
	same := since != nil && since.config == f.config
	if !same {
		a.Was = make([]int, len(f.Hosts))
	}
	for i, h := range f.Hosts {
		was := i
		if !same {
			was = -1
			if since != nil {
				if j, ok := since.config.ByName[h.Name]; ok {
					was = j
				}
			}
			a.Was[i] = was
		}

		w := wireHost{At: i, AsksArch: f.slots[i].asksArch, Host: h, Changed: true}
		if was >= 0 {
			if old := since.Hosts[was]; old == h || reflect.DeepEqual(old, h) {
				w.Host = nil
			}
			w.Changed = since.slots[was] != f.slots[i]
			if made := since.slots[was].made.Load(); w.Changed && made != nil {
				f.bases[f.slots[i]] = made.bundle.st
			}
		}
		if w.Host != nil || w.Changed {
			a.Hosts = append(a.Hosts, w)
		}
	}
}

// fleet is a fleet that the deployer names, and the index of the host if it has one.
func (s *loaderServer) fleet(m *message) (*servedFleet, error) {
	f := s.fleets[m.Fleet]
	if f == nil || m.At < 0 || m.At >= len(f.Hosts) {
		return nil, errWire
	}
	return f, nil
}

// stand is what the host of m holds.
func (s *loaderServer) stand(m *message) (*servedFleet, *render.Composition, error) {
	f, err := s.fleet(m)
	if err != nil {
		return nil, nil, err
	}
	defer s.loader.boundedIdle()()
	s.arch = m.Arch
	bundleOf := f.Bundle
	if m.Partial {
		bundleOf = f.Partial
	}
	b, err := bundleOf(f.Hosts[m.At].Name)
	if err != nil {
		return nil, nil, err
	}
	return f, b.st, nil
}

func (s *loaderServer) bundle(m, a *message) error {
	f, st, err := s.stand(m)
	if err != nil {
		return err
	}
	kind, sent := f.kinds[st]
	if !sent {
		kind = len(f.kinds) + 1
		f.kinds[st] = kind
	}
	a.Kind = kind
	if sent && !m.Full {
		return nil
	}
	base := f.bases[f.slots[m.At]]
	if m.Full {
		base = nil
	}
	a.Stand = wireStandOf(st, base)
	return nil
}

func (s *loaderServer) text(m, a *message) error {
	_, st, err := s.stand(m)
	if err != nil {
		return err
	}
	c, ok := st.Content[m.Digest]
	if !ok || c.Source != "" {
		return fmt.Errorf("no text %s", m.Digest)
	}
	a.data = slices.Clone(c.Data)
	return nil
}

func (s *loaderServer) key(m, a *message) error {
	f, st, err := s.stand(m)
	if err != nil {
		return err
	}
	k := st.Keys[m.Name]
	if k == nil || st.Digest != m.Digest {
		return fmt.Errorf("the bundle of %s is not what it was", f.Hosts[m.At].Name)
	}
	defer s.loader.boundedIdle()()
	a.data, err = s.loader.opener().Value(f.tree.FS, st.Renders[m.Name], k)
	return err
}

func (s *loaderServer) files(m, a *message) error {
	f := s.fleets[m.Fleet]
	if f == nil {
		return errWire
	}
	a.KeyFiles = f.KeyFiles()
	return nil
}

// boundedIdle gives a loader that loads nothing a budget, as bounded does.
func (l *Loader) boundedIdle() func() {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bounded(context.Background())
}

// wireStandOf is st for the deployer, who has base; nil: nothing.
func wireStandOf(st, base *render.Composition) *wireStand {
	w := &wireStand{Digest: st.Digest, Manifest: st.Manifest, Needs: st.Needs, Broken: st.Broken}
	if base != nil {
		w.Base = base.Digest
		w.Manifest.Files, w.Gone = filesSince(base.Manifest.Files, st.Manifest.Files)
	}
	for _, digest := range slices.Sorted(maps.Keys(st.Content)) {
		c := st.Content[digest]
		if base != nil {
			if old, has := base.Content[digest]; has && old.Source == c.Source {
				continue
			}
		}
		w.Content = append(w.Content, wireContent{digest, c.Source})
	}
	for _, name := range slices.Sorted(maps.Keys(st.Keys)) {
		k := st.Keys[name]
		key := wireKey{Name: name, Source: k.Source, Sources: k.Sources, Made: k.File != nil}
		if k.File != nil {
			key.Text = k.File.Source
		}
		w.Keys = append(w.Keys, key)
	}
	return w
}

// filesSince lists what of now differs from was, and the paths of was that are gone. Both are sorted.
func filesSince(was, now []bundle.File) (differ []bundle.File, gone []string) {
	for len(was) > 0 || len(now) > 0 {
		switch {
		case len(now) == 0 || len(was) > 0 && was[0].Path < now[0].Path:
			gone = append(gone, was[0].Path)
			was = was[1:]
		case len(was) == 0 || now[0].Path < was[0].Path:
			differ = append(differ, now[0])
			now = now[1:]
		default:
			if was[0] != now[0] {
				differ = append(differ, now[0])
			}
			was, now = was[1:], now[1:]
		}
	}
	return differ, gone
}

// cpuTime is the processor time that this process took, in ms.
func cpuTime() int64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Milliseconds()
}
