package deploy_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bellhop/deploy/follow"
	"bellhop/deploy/plan"
	"bellhop/deploy/routes"
	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/history"
	"bellhop/internal/host/helper"
	"bellhop/internal/lab"
	"bellhop/internal/link"
)

// listen adds a host whose helper is serve.
func (w *world) listen(name string, m *lab.Machine, serve func(ctx context.Context, in io.Reader, out io.Writer) error) {
	h, err := lab.Listen(name, serve)
	w.must(err)
	w.t.Cleanup(func() { h.Close() })
	w.machines[name], w.hosts[name] = m, h
	w.enable(name, "web")
}

// revert goes back to what the first commit had, and fails unless the host has that then.
func (w *world) revert(host string) {
	w.t.Helper()
	w.files["services/web/files/etc/web.conf"] = "hello\n"
	w.commit("revert")
	r, err := w.d.Run(w.t.Context(), plan.Request{Cause: "push"})
	w.must(err)
	if got := read(w.t, w.machines[host].Path("/etc/web.conf")); got != "hello\n" {
		w.t.Errorf("the run ended %s with %s, status says %s, and /etc/web.conf is %q", *r.Outcome, w.tell(r), w.state(host).State, got)
	}
}

// The line of an early offer breaks while the helper has not begun. One look finds nothing there, so
// the run was not begun; the host goes away, and then the helper comes to it: it is too late.
func TestEarlyOfferThatBeginsLater(t *testing.T) {
	w := newWorld(t)
	m := lab.NewMachine(t.TempDir())
	var slow atomic.Bool
	begin, began, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	w.listen("a", m, func(ctx context.Context, in io.Reader, out io.Writer) error {
		if !slow.CompareAndSwap(true, false) {
			return helper.Serve(ctx, m.Host(), in, out)
		}
		var heard bytes.Buffer
		r := wire.NewReader(io.TeeReader(in, &heard))
		var o bundle.Offer
		w.must(r.Expect(bundle.FrameOffer, &o))
		for range o.Ahead {
			var b bundle.Blob
			w.must(r.Expect(bundle.FrameBlob, &b), r.Data(b, io.Discard))
		}
		go func() {
			defer close(done)
			helper.ServeOptimistic(context.Background(), m.Host(), &gated{open: begin, asked: began, r: &heard}, io.Discard)
		}()
		<-began // before the session that looks for it
		return errors.New("cut")
	})
	w.push("first", history.OutcomeDone)
	slow.Store(true)
	w.d.Links = &oneLook{Links: w.d.Links, host: w.hosts["a"]}
	w.files["services/web/files/etc/web.conf"] = "new\n"
	w.push("second", history.OutcomeFailed)
	if s := w.state("a").State; s != history.Pending {
		t.Errorf("the host is %s, want pending", s)
	}
	close(begin)
	<-done
	w.must(w.hosts["a"].Mend())
	w.revert("a")
}

// gated reads nothing before it is open; asked is closed when somebody wants it.
type gated struct {
	open, asked chan struct{}
	once        sync.Once
	r           io.Reader
}

func (g *gated) Read(p []byte) (int, error) {
	g.once.Do(func() { close(g.asked) })
	<-g.open
	return g.r.Read(p)
}

// oneLook breaks the first line, and takes the host away after the second.
type oneLook struct {
	routes.Links
	host *lab.Host
	mu   sync.Mutex
	n    int
}

func (l *oneLook) Helper(ctx context.Context, t link.Target, ahead func(io.Writer) error) (routes.Stream, error) {
	l.mu.Lock()
	l.n++
	n := l.n
	l.mu.Unlock()
	if n == 3 {
		l.host.Cut()
	}
	s, err := l.Links.Helper(ctx, t, ahead)
	if n == 1 && err != nil {
		err = &link.Error{Host: t.Name, Kind: link.ErrUnreachable, Err: errors.New("before the helper spoke: cut")}
	}
	return s, err
}

// A server that is stopped right after a host's hello, which says something new, leaves the run
// open: the host goes on by itself.
func TestStoppedAfterHello(t *testing.T) {
	w := newWorld(t, "a")
	w.push("first", history.OutcomeDone)
	w.machines["a"].SetVersion(259) // upgraded since
	ctx, cancel := context.WithCancel(t.Context())
	w.d.Links = &afterHello{w.d.Links, cancel}
	w.files["services/web/files/etc/web.conf"] = "new\n"
	w.commit("second")
	w.d.Run(ctx, plan.Request{Cause: "push"})
	eventually(t, "the host goes on by itself", func() bool { return read(t, w.machines["a"].Path("/etc/web.conf")) == "new\n" })
	w.d = w.deployer(w.d.ID)
	w.revert("a")
}

// afterHello calls then when the first bytes of an early session were read.
type afterHello struct {
	routes.Links
	then func()
}

func (l *afterHello) Helper(ctx context.Context, t link.Target, ahead func(io.Writer) error) (routes.Stream, error) {
	s, err := l.Links.Helper(ctx, t, ahead)
	if err != nil || ahead == nil {
		return s, err
	}
	return &firstRead{Stream: s, then: l.then}, nil
}

type firstRead struct {
	routes.Stream
	then func()
	once sync.Once
}

func (f *firstRead) Read(p []byte) (int, error) {
	n, err := f.Stream.Read(p)
	f.once.Do(f.then)
	return n, err
}

// What a run before left on a host, and can't be undone for now, is not this bundle's fault: it is
// tried again when the trouble has passed.
func TestTroubleOfARunBefore(t *testing.T) {
	w := newWorld(t, "a")
	w.push("first", history.OutcomeDone)
	m := w.machines["a"]
	w.d.Limits.Patience = 100 * time.Millisecond
	journal := `{"run":"stranger","boot_id":"x","started":1,"puts":[{"path":"/etc/lost","was":{"kind":"file","digest":"` + bundle.DigestBytes([]byte("lost")) +
		`","mode":420,"user":"root","group":"root"},"want":{}}],"accounts":null}` + "\n" + `{"step":"accounts"}` + "\n"
	w.must(os.WriteFile(m.Path(bundle.StateDir+"/journal"), []byte(journal), 0o600))
	w.files["services/web/files/etc/web.conf"] = "new\n"
	w.push("second", history.OutcomeFailed)
	h := w.state("a")
	why := ""
	if h.Error != nil {
		why = *h.Error
	}
	isTold := strings.Contains(why, "run stranger could not be undone whole") && strings.Contains(why, "/etc/lost")
	if h.State != history.Failed || !isTold {
		t.Errorf("while the run before can't be undone the host is %s: %s; want failed, and what is in the way", h.State, why)
	}
	w.must(os.Remove(m.Path(bundle.StateDir + "/journal")))
	w.run(plan.Request{Cause: "retry of a"}, history.OutcomeDone)
	if s := w.state("a").State; s != history.Current {
		t.Errorf("the host stays %s after the trouble passed", s)
	}
}

// A file that the deployer itself can't read any more is told at once, by its name.
func TestFileThatCannotBeReadAhead(t *testing.T) {
	w := newWorld(t, "a")
	w.push("first", history.OutcomeDone)
	var torn atomic.Bool
	w.files["services/web/files/etc/web.conf"] = "new\n"
	w.commit("second")
	last := &w.commits[len(w.commits)-1]
	last.Tree = tornFS{last.Tree, "services/web/files/etc/web.conf", &torn}
	was := w.d.Progress
	w.d.Progress = func(e follow.Event) {
		torn.Store(torn.Load() || e.Step == "connect")
		was(e)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // it would wait for the helper
	defer cancel()
	r, err := w.d.Run(ctx, plan.Request{Cause: "push"})
	w.must(err)
	if e := w.state("a").Error; *r.Outcome != history.OutcomeRefused || e == nil {
		t.Errorf("the run ended %s: %s", *r.Outcome, w.tell(r))
	}
}

type tornFS struct {
	fs.FS
	name string
	torn *atomic.Bool
}

func (f tornFS) Open(name string) (fs.File, error) {
	if f.torn.Load() && name == f.name {
		return nil, errors.New("object not found")
	}
	return f.FS.Open(name)
}

func (f tornFS) ReadFile(name string) ([]byte, error) {
	if f.torn.Load() && name == f.name {
		return nil, errors.New("object not found")
	}
	return fs.ReadFile(f.FS, name)
}

// A login shell may read what is meant for the helper, which then hears nothing. That costs the
// wait for it twice, and not each time.
func TestHostThatDoesNotHearEarlyOffers(t *testing.T) {
	w := newWorld(t, "a")
	w.push("first", history.OutcomeDone)
	d := &deafShell{Links: w.d.Links}
	w.d.Links = d
	for _, text := range []string{"two\n", "three\n", "four\n"} {
		w.files["services/web/files/etc/web.conf"] = text
		w.push(text, history.OutcomeDone)
	}
	if d.early != 2 {
		t.Errorf("%d early offers, want two: a line may break once", d.early)
	}
}

type deafShell struct {
	routes.Links
	early int
}

func (l *deafShell) Helper(ctx context.Context, t link.Target, ahead func(io.Writer) error) (routes.Stream, error) {
	if ahead == nil {
		return l.Links.Helper(ctx, t, nil)
	}
	l.early++
	if err := ahead(io.Discard); err != nil {
		return nil, err
	}
	return nil, &link.Error{Host: t.Name, Kind: link.ErrUnreachable, Err: errors.New("before the helper spoke: no answer")}
}

// Keys are opened when their host was reached, and not before.
func TestKeysOfAHostThatIsAway(t *testing.T) {
	w := newWorld(t, "a")
	keyed(w, "a", 2, 5)
	w.enable("a", "web", "vault")
	w.push("first", history.OutcomeDone)
	var opened atomic.Int64
	open := w.d.Loader.Open
	w.d.Loader.Open = func(tree fs.FS, p string) ([]byte, error) { opened.Add(1); return open(tree, p) }
	w.hosts["a"].Cut()
	w.files["services/web/files/etc/web.conf"] = "new\n"
	w.push("second", history.OutcomeFailed)
	if n := opened.Load(); n > 0 {
		t.Errorf("%d keys were opened for a host that is away", n)
	}
}
