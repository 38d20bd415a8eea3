package deploy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"bellhop/deploy"
	"bellhop/deploy/commits"
	"bellhop/deploy/plan"
	"bellhop/deploy/routes"
	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/link"
)

// A model is a host as its deployer sees it: the helper's protocol, and what stands.
type model struct {
	mu     sync.Mutex
	rng    *rand.Rand
	name   string
	down   bool
	calm   bool // no more trouble
	record *bundle.Record
	last   *bundle.Result
	boots  int
	moved  int // how often something really changed
	turns  int // sessions that came
	turn   int // the newest that offered, or voided what others offered
}

var errCut = errors.New("cut")

// trouble cuts the line now and then, after a moment has passed.
func (m *model) trouble() error {
	m.mu.Lock()
	wait := time.Duration(m.rng.IntN(40)) * time.Millisecond
	cut := !m.calm && m.rng.IntN(12) == 0
	m.mu.Unlock()
	time.Sleep(wait)
	if cut {
		return errCut
	}
	return nil
}

func (m *model) serve(in io.Reader, out io.Writer) error {
	m.mu.Lock()
	m.turns++
	turn := m.turns
	hello := bundle.Hello{Protocol: bundle.Protocol, Arch: "amd64", BootID: fmt.Sprint("boot", m.boots), Record: m.record, Last: m.last}
	m.mu.Unlock()
	io.WriteString(out, bundle.Magic)
	if err := errors.Join(m.trouble(), wire.WriteFrame(out, bundle.FrameHello, hello)); err != nil {
		return err
	}
	r := wire.NewReader(in)
	kind, p, err := r.Next()
	if err != nil {
		return err
	}
	if err := m.trouble(); err != nil {
		return err
	}
	if kind == bundle.FrameAsk {
		m.claim(turn)
		return errors.Join(wire.WriteFrame(out, bundle.FrameReply, bundle.Reply{}), m.trouble())
	}
	o, err := r.Offer(kind, p)
	if err != nil {
		return err
	}
	if !m.claim(turn) {
		return wire.WriteFrame(out, bundle.FrameResult, &bundle.Result{Run: o.Run, Outcome: bundle.OutcomeRefused, Refused: bundle.RefusedBusy, Error: "another came", Record: m.record})
	}
	if res := m.refusal(&o); res != nil {
		return wire.WriteFrame(out, bundle.FrameResult, res)
	}
	for range o.Ahead {
		var b bundle.Blob
		if err := errors.Join(r.Expect(bundle.FrameBlob, &b), r.Data(b, io.Discard)); err != nil {
			return err
		}
	}
	if err := m.trouble(); err != nil {
		if o.Go {
			go m.later(&o, turn) // it has all it needs
		}
		return err
	}
	if !o.Go || m.asks() {
		var want bundle.Want
		for _, f := range o.Manifest.Files {
			want.Files = append(want.Files, f.Digest)
		}
		if err := wire.WriteFrame(out, bundle.FrameWant, want); err != nil {
			return err
		}
		for kind := byte(0); kind != bundle.FrameEnd; {
			var err error
			if kind, _, err = r.Next(); err != nil {
				return err
			}
		}
	}
	// From here on it is done, whatever becomes of the line.
	time.Sleep(time.Millisecond)
	res := m.apply(&o, turn)
	if err := m.trouble(); err != nil {
		return err
	}
	return wire.WriteFrame(out, bundle.FrameResult, res)
}

// later is a helper whose line broke before it began: it goes on when it comes to it.
func (m *model) later(o *bundle.Offer, turn int) {
	m.mu.Lock()
	wait := time.Duration(m.rng.IntN(3000)) * time.Millisecond
	m.mu.Unlock()
	time.Sleep(wait)
	m.apply(o, turn)
}

// claim says whether no session came after turn, and makes it the newest.
func (m *model) claim(turn int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if turn < m.turn {
		return false
	}
	m.turn = turn
	return true
}

// asks says now and then that it lacks things though it may go on.
func (m *model) asks() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rng.IntN(3) == 0
}

func (m *model) refusal(o *bundle.Offer) *bundle.Result {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.refusalLocked(o)
}

func (m *model) refusalLocked(o *bundle.Offer) *bundle.Result {
	base := int64(0)
	if m.record != nil {
		base = m.record.Generation
		if m.record.Deployer != o.Deployer && !o.TakeOver {
			return &bundle.Result{Run: o.Run, Outcome: bundle.OutcomeRefused, Refused: bundle.RefusedDeployer, Error: "another deployer", Record: m.record}
		}
	}
	if base != o.Base {
		return &bundle.Result{Run: o.Run, Outcome: bundle.OutcomeRefused, Refused: bundle.RefusedBase, Error: "another base", Record: m.record}
	}
	return nil
}

// apply looks again: it took its time.
func (m *model) apply(o *bundle.Offer, turn int) *bundle.Result {
	m.mu.Lock()
	defer m.mu.Unlock()
	if turn < m.turn {
		return &bundle.Result{Run: o.Run, Outcome: bundle.OutcomeRefused, Refused: bundle.RefusedBusy, Error: "another came", Record: m.record}
	}
	if res := m.refusalLocked(o); res != nil {
		return res
	}
	res := &bundle.Result{Run: o.Run, Outcome: bundle.OutcomeNothing}
	rec := bundle.Record{Network: o.Manifest.Network, Host: m.name, Deployer: o.Deployer, Generation: o.Base, Digest: o.Digest}
	if m.record == nil || m.record.Digest != o.Digest {
		rec.Generation++
		m.moved++
		res.Outcome = bundle.OutcomeDone
	}
	m.record, res.Record, m.last = &rec, &rec, res
	return res
}

type simLinks struct{ models map[string]*model }

func (l simLinks) Helper(ctx context.Context, t link.Target, ahead func(io.Writer) error) (routes.Stream, error) {
	m := l.models[t.Name]
	if err := m.trouble(); err != nil {
		return nil, &link.Error{Host: t.Name, Kind: link.ErrUnreachable, Err: err}
	}
	m.mu.Lock()
	down := m.down
	m.mu.Unlock()
	if down {
		return nil, &link.Error{Host: t.Name, Kind: link.ErrUnreachable, Err: errors.New("down")}
	}
	var first bytes.Buffer
	if ahead != nil {
		if err := ahead(&first); err != nil {
			return nil, err
		}
	}
	in, inW := io.Pipe()
	outR, out := io.Pipe()
	go func() {
		err := m.serve(io.MultiReader(&first, in), out)
		out.CloseWithError(err)
		in.CloseWithError(io.ErrClosedPipe)
	}()
	return pipes{outR, inW}, nil
}

func (l simLinks) Watch(ctx context.Context, _ link.Target, _ link.Watcher) error {
	<-ctx.Done()
	return ctx.Err()
}

func (l simLinks) FreshHelper(ctx context.Context, t link.Target, ahead func(io.Writer) error) (routes.Stream, error) {
	return l.Helper(ctx, t, ahead)
}

func (l simLinks) Fresh(context.Context, link.Target) error { return nil }

func (l simLinks) Exec(context.Context, link.Target, string) (int, error) { return 0, nil }

// A sim is one world, driven by one seed.
type sim struct {
	t       *testing.T
	rng     *rand.Rand
	links   simLinks
	commits []commits.Snapshot
	path    string
	db      *history.DB
	d       *deploy.Deployer
	// gentle worlds have no wipes and no strangers: there, nobody needs to be asked with --all.
	gentle bool
}

// live starts a deployer on what is left of the one before.
func (s *sim) live() {
	db, err := history.Open(s.path)
	if err != nil {
		s.t.Fatal(err)
	}
	s.db = db
	s.d = &deploy.Deployer{
		Source: commits.Source{
			Sync: func(context.Context) (commits.Snapshot, error) { return s.commits[len(s.commits)-1], nil },
			At: func(_ context.Context, id string) (commits.Snapshot, error) {
				i := slices.IndexFunc(s.commits, func(c commits.Snapshot) bool { return c.Commit == id })
				if i < 0 {
					return commits.Snapshot{}, fs.ErrNotExist
				}
				return s.commits[i], nil
			},
		},
		Loader: &fleet.Loader{}, Links: s.links, History: db, ID: "SHA256:one", BootID: "none", Limits: deploy.Limits{Retry: 5 * time.Millisecond},
	}
}

// commit changes some services, or goes back to an older state of them all.
func (s *sim) commit() {
	n := len(s.commits)
	tree := fstest.MapFS{}
	if n > 0 {
		maps.Copy(tree, s.commits[n-1].Tree.(fstest.MapFS))
	}
	revert := n > 1 && s.rng.IntN(3) == 0
	if revert {
		maps.Copy(tree, s.commits[s.rng.IntN(n)].Tree.(fstest.MapFS))
	}
	var y strings.Builder
	y.WriteString("network: sim\nconfirm: 0s\nhosts:\n")
	for i := range 4 {
		fmt.Fprintf(&y, "  h%d: { address: 10.0.0.%d, host_key: %s, services: { s%d: true } }\n", i, i+1, simKey, i)
		p := fmt.Sprintf("services/s%d/files/etc/s%d.conf", i, i)
		if tree[p] == nil || !revert && s.rng.IntN(3) == 0 {
			tree[p] = &fstest.MapFile{Data: fmt.Appendf(nil, "commit %d\n", n), Mode: 0o644}
		}
	}
	tree["bellhop.yaml"] = &fstest.MapFile{Data: []byte(y.String()), Mode: 0o644}
	s.commits = append(s.commits, commits.Snapshot{Commit: fmt.Sprintf("%040x", n+1), Tree: tree})
}

const simKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHPz0bWhv3D0r1iAb4pEqD4dZJ4xF1V2v4lT0o0o0o0o"

func (s *sim) run(ctx context.Context) *history.Run {
	r, err := s.d.Run(ctx, plan.Request{Cause: "push", TakeOver: !s.gentle && s.rng.IntN(2) == 0})
	if err != nil && ctx.Err() == nil {
		s.t.Fatalf("Run: %v", err)
	}
	return r
}

// lateAway keeps the first push to a host waiting, and does not reach it then.
type lateAway struct {
	simLinks
	host string
	n    atomic.Int32
}

func (l *lateAway) Helper(ctx context.Context, t link.Target, ahead func(io.Writer) error) (routes.Stream, error) {
	if t.Name != l.host || l.n.Add(1) > 3 {
		return l.simLinks.Helper(ctx, t, ahead)
	}
	if l.n.Load() == 1 {
		time.Sleep(3 * time.Minute)
	}
	return nil, &link.Error{Host: t.Name, Kind: link.ErrUnreachable, Err: errors.New("no answer")}
}

// A host that was detached, and in the end did not answer at all, has no line that would tell when
// it is back: it is tried again all the same.
func TestDetachedAndAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sim{t: t, rng: rand.New(rand.NewPCG(1, 1)), links: simLinks{map[string]*model{}}, path: filepath.Join(t.TempDir(), "0.db")}
		for _, n := range []string{"h0", "h1", "h2", "h3"} {
			s.links.models[n] = &model{rng: rand.New(rand.NewPCG(1, 2)), name: n, calm: true}
		}
		s.commit()
		s.live()
		s.d.Links, s.d.Detach = &lateAway{simLinks: s.links, host: "h1"}, true
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		b := deploy.NewBell(s.d)
		go func() { done <- b.Serve(ctx) }()
		time.Sleep(15 * time.Minute)
		st, err := s.db.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range st.Hosts {
			if h.State != history.Current {
				t.Errorf("%s is %s after a quarter of an hour", h.Name, h.State)
			}
		}
		cancel()
		<-done
		s.db.Close()
	})
}
