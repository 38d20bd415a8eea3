package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"reflect"
	"slices"
	"syscall"
	"time"

	"bellhop/internal/confine"
	"bellhop/internal/fleet/inventory"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/render"
	"bellhop/internal/fleet/wire"
)

// ServeLoader loads trees for the deployer that started this process, until that closes its pipe. It
// is the whole of the process.
func ServeLoader(in *confine.Inside) error {
	s := &loaderServer{in: in, Conn: wire.Conn{R: in.In, W: in.Out}, fleets: map[int]*servedFleet{}}
	s.loader = &Loader{
		step:      in.At,
		Arch:      func(string) string { return s.arch },
		KeyDigest: s.seal,
	}

	s.loader.digest = func(_ fs.FS, path string) (string, error) {
		a, err := s.ask(&wire.Message{Op: wire.OpDigest, Path: path})
		return wire.DigestOf(a), err
	}

	for {
		m, err := s.Receive()
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
		a.Op, a.CPU = wire.OpAnswer, cpuTime()
		if s.broken != nil {
			return s.broken
		}
		if err := s.Send(a); err != nil {
			return err
		}
		clear(a.Data) // a key, perhaps
	}
}

// A loaderServer is the loader's side of the wire.
type loaderServer struct {
	wire.Conn
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
func (s *loaderServer) ask(m *wire.Message) (*wire.Message, error) {
	if s.broken != nil {
		return nil, s.broken
	}

	err := s.Send(m)
	var a *wire.Message
	if err == nil {
		a, err = s.Receive()
	}
	if err != nil {
		s.broken = err
		return nil, err
	}

	return a, a.Err()
}

// open is the plaintext of a secret that a template names.
func (s *loaderServer) open(_ fs.FS, path string) ([]byte, error) {
	a, err := s.ask(&wire.Message{Op: wire.OpOpen, Path: path})
	if err != nil {
		return nil, err
	}
	return a.Data, nil
}

func (s *loaderServer) seal(value []byte) string {
	a, err := s.ask(&wire.Message{Op: wire.OpSeal, Data: value})
	if err != nil {
		return ""
	}
	return a.Digest
}

func (s *loaderServer) answer(m *wire.Message) *wire.Message {
	a := &wire.Message{}
	var err error
	switch m.Op {
	case wire.OpLoad:
		err = s.load(m, a)
	case wire.OpBundle:
		err = s.bundle(m, a)
	case wire.OpText:
		err = s.text(m, a)
	case wire.OpKey:
		err = s.key(m, a)
	case wire.OpFiles:
		err = s.files(m, a)
	case wire.OpReaders:
		var r inventory.Readers
		if r, err = inventory.ReadReaders(context.Background(), wire.NewTree(s.ask, false)); err == nil {
			a.Readers = &r
		}

	case wire.OpReaches:
		a.Names = s.in.Reaches()
	default:
		err = wire.ErrBroken
	}

	var ps problem.Problems
	switch {
	case errors.As(err, &ps):
		a.SetProblems(ps)
	case err != nil:
		a.Fail(err)
	}

	return a
}

func (s *loaderServer) load(m, a *wire.Message) error {
	s.loader.Former = m.Former
	f, err := s.loader.Load(context.Background(), wire.NewTree(s.ask, m.Hashed))
	if err != nil {
		return err
	}

	s.newest++
	now := &servedFleet{Fleet: f, kinds: map[*render.Composition]int{}, bases: map[*slot]*render.Composition{}}
	now.difference(s.fleets[m.Since], a)
	s.fleets[s.newest] = now
	delete(s.fleets, s.newest-keptFleets)
	a.Fleet, a.Head, a.Count = s.newest, headOf(f), len(f.Hosts)
	return nil
}

// difference says how f differs from since, which may be nil.
func (f *servedFleet) difference(since *servedFleet, a *wire.Message) {
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

		w := wire.Host{At: i, AsksArch: f.slots[i].asksArch, Host: h, Changed: true}
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
func (s *loaderServer) fleet(m *wire.Message) (*servedFleet, error) {
	f := s.fleets[m.Fleet]
	if f == nil || m.At < 0 || m.At >= len(f.Hosts) {
		return nil, wire.ErrBroken
	}
	return f, nil
}

// composition is what the host of m holds.
func (s *loaderServer) composition(m *wire.Message) (*servedFleet, *render.Composition, error) {
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

func (s *loaderServer) bundle(m, a *wire.Message) error {
	f, st, err := s.composition(m)
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

	a.Composition = wire.Describe(st, base)
	return nil
}

func (s *loaderServer) text(m, a *wire.Message) error {
	_, st, err := s.composition(m)
	if err != nil {
		return err
	}
	c, ok := st.Content[m.Digest]
	if !ok || c.Source != "" {
		return fmt.Errorf("no text %s", m.Digest)
	}
	a.Data = slices.Clone(c.Data)
	return nil
}

func (s *loaderServer) key(m, a *wire.Message) error {
	f, st, err := s.composition(m)
	if err != nil {
		return err
	}
	k := st.Keys[m.Name]
	if k == nil || st.Digest != m.Digest {
		return fmt.Errorf("the bundle of %s is not what it was", f.Hosts[m.At].Name)
	}
	defer s.loader.boundedIdle()()
	a.Data, err = s.loader.opener().Value(f.tree.FS, st.Renders[m.Name], k)
	return err
}

func (s *loaderServer) files(m, a *wire.Message) error {
	f := s.fleets[m.Fleet]
	if f == nil {
		return wire.ErrBroken
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

// cpuTime is the processor time that this process took, in ms.
func cpuTime() int64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Milliseconds()
}

// headOf is f less its hosts.
func headOf(f *Fleet) *wire.Head {
	return &wire.Head{Network: f.Network, Deployer: f.Deployer, Rollout: f.Rollout, Confirm: f.Confirm, Look: f.Look, Isolate: f.Isolate, Notify: f.Notify, Registries: f.Registries, Warnings: f.Warnings, Readers: f.Readers}
}
