package host_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/host/helper"
	"bellhop/internal/host/machine"
	"bellhop/internal/lab"
)

// optimistic is the whole of what a deployer sends at once, and what it reads for it, frame
// by frame.
func (b *box) optimistic(o bundle.Offer, l *load, digests []string, rest ...byte) (kinds []byte, res *bundle.Result, err error) {
	b.t.Helper()
	defer b.settled()
	var in, out bytes.Buffer
	if o.Ahead == 0 {
		o.Ahead = len(digests)
	}
	wire.WriteFrame(&in, bundle.FrameOffer, o)
	for _, d := range digests {
		p := l.bytes[d]
		wire.WriteBlob(&in, bundle.Blob{Kind: bundle.BlobFile, Name: d, Size: int64(len(p))}, bytes.NewReader(p))
	}
	for _, kind := range rest {
		wire.WriteFrame(&in, kind, struct{}{})
	}
	err = helper.ServeOptimistic(context.Background(), b.m, &in, &out)
	r := wire.NewReader(&out)
	if _, noise := r.SkipNoise(); noise != nil {
		return nil, nil, err
	}
	for {
		kind, p, end := r.Next()
		if end != nil {
			return kinds, res, err
		}
		if kind != bundle.FrameEvent {
			kinds = append(kinds, kind)
		}
		if kind == bundle.FrameResult {
			res = &bundle.Result{}
			bundle.Unmarshal(p, res)
		}
	}
}

func page(text string) *load {
	return newLoad().service("web.service", "[Service]\nExecStart=/web\n[Install]\nWantedBy=multi-user.target\n", "file:/etc/web").file("/etc/web", text)
}

func digestsOf(texts ...string) (ds []string) {
	for _, s := range texts {
		ds = append(ds, bundle.DigestBytes([]byte(s)))
	}
	return ds
}

func TestOfferAhead(t *testing.T) {
	heard := func(kinds ...byte) []byte { return kinds }
	const hello, want, result = bundle.FrameHello, bundle.FrameWant, bundle.FrameResult
	for _, tt := range []struct {
		name    string
		new     *load
		change  func(*bundle.Offer)
		digests []string
		rest    []byte
		hear    []byte
		outcome string // "" for a session that ends without a result
		holds   string // /etc/web afterwards
	}{
		{name: "all comes with the offer", new: page("two"), digests: digestsOf("two"), hear: heard(hello, result), outcome: bundle.OutcomeDone, holds: "two"},
		{name: "nothing is lacking", new: page("one"), hear: heard(hello, result), outcome: bundle.OutcomeNothing, holds: "one"},
		{name: "what is there already comes again", new: page("one"), digests: digestsOf("one"), hear: heard(hello, result), outcome: bundle.OutcomeNothing, holds: "one"},
		{name: "it may not go on by itself", new: page("two"), change: func(o *bundle.Offer) { o.Go = false }, digests: digestsOf("two"), rest: []byte{bundle.FrameEnd},
			hear: heard(hello, want, result), outcome: bundle.OutcomeDone, holds: "two"},
		{name: "it may not go on by itself, and the line is cut", new: page("two"), change: func(o *bundle.Offer) { o.Go = false }, digests: digestsOf("two"),
			hear: heard(hello, want), holds: "one"},
		{name: "one more file is lacking", new: page("two").file("/etc/more", "more"), digests: digestsOf("two"), hear: heard(hello, want), holds: "one"},
		{name: "a key is always asked for", new: page("two").key("token", "secret"), digests: digestsOf("two", "key unit"), hear: heard(hello, want), holds: "one"},
		{name: "it stands elsewhere", new: page("two"), change: func(o *bundle.Offer) { o.Base = 7 }, digests: digestsOf("two"), hear: heard(hello, result), outcome: bundle.OutcomeRefused, holds: "one"},
		{name: "less comes than was said", new: page("two"), change: func(o *bundle.Offer) { o.Ahead = 1 << 40 }, digests: digestsOf("two"), hear: heard(hello), holds: "one"},
		{name: "a negative number", new: page("two"), change: func(o *bundle.Offer) { o.Ahead = -1 }, hear: heard(hello, want), holds: "one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBox(t)
			b.deploy(page("one"), bundle.OutcomeDone)
			o := tt.new.offer()
			o.Base, o.Go = 1, true
			if tt.change != nil {
				tt.change(&o)
			}
			tt.new.bytes[bundle.DigestBytes([]byte("key unit"))] = []byte("key unit")
			kinds, res, err := b.optimistic(o, tt.new, tt.digests, tt.rest...)
			if !slices.Equal(kinds, tt.hear) {
				t.Errorf("heard %q (%v), want %q", kinds, err, tt.hear)
			}
			outcome := ""
			if res != nil {
				outcome = res.Outcome
			}
			if outcome != tt.outcome {
				t.Errorf("outcome %q (%+v), want %q", outcome, res, tt.outcome)
			}
			if got := b.read("/etc/web"); got != tt.holds {
				t.Errorf("/etc/web holds %q, want %q", got, tt.holds)
			}
		})
	}
}

// A file that comes unasked is no other than its name says, and no key.
func TestOnlyFilesComeUnasked(t *testing.T) {
	b := newBox(t)
	b.deploy(page("one"), bundle.OutcomeDone)
	l := page("two")
	two := digestsOf("two")
	l.bytes[two[0]] = []byte("2wo")
	o := l.offer()
	o.Base, o.Go = 1, true
	if _, res, err := b.optimistic(o, l, two); err == nil || res != nil {
		t.Errorf("other bytes under its name: %+v, %v", res, err)
	}
	var in, out bytes.Buffer
	o = page("three").key("token", "x").offer()
	o.Base, o.Ahead = 1, 1
	wire.WriteFrame(&in, bundle.FrameOffer, o)
	wire.WriteBlob(&in, bundle.Blob{Kind: bundle.BlobKey, Name: "token", Size: 1}, bytes.NewReader([]byte("x")))
	if err := helper.ServeOptimistic(context.Background(), b.m, &in, &out); err == nil {
		t.Error("a key came unasked, and was taken")
	}
	if got := b.read("/etc/web"); got != "one" {
		t.Errorf("/etc/web holds %q, want what stood", got)
	}
}

// A line that breaks while the helper prepares makes the deployer offer the run again. Of the two
// sessions one begins it, and the other takes nothing away from it.
func TestTwoSessionsOfOneRun(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	for i := range 100 {
		l := page(fmt.Sprint("text ", i))
		o := l.offer()
		o.Base, o.Go, o.Ahead = int64(i), true, len(l.bytes)
		var in bytes.Buffer
		wire.WriteFrame(&in, bundle.FrameOffer, o)
		for d, p := range l.bytes {
			wire.WriteBlob(&in, bundle.Blob{Kind: bundle.BlobFile, Name: d, Size: int64(len(p))}, bytes.NewReader(p))
		}
		m.ClearLog()
		var wg sync.WaitGroup
		var said [2]bytes.Buffer
		for k := range 2 {
			wg.Go(func() {
				time.Sleep(time.Duration(k) * time.Duration(i%15) * 100 * time.Microsecond)
				helper.ServeOptimistic(context.Background(), m.Host(), bytes.NewReader(in.Bytes()), &said[k])
			})
		}
		wg.Wait()
		text, _ := os.ReadFile(m.Path("/etc/web"))
		var outcomes []string
		for k := range said {
			r := wire.NewReader(&said[k])
			r.SkipNoise()
			for kind, p, err := r.Next(); err == nil; kind, p, err = r.Next() {
				var res bundle.Result
				if kind == bundle.FrameResult && bundle.Unmarshal(p, &res) == nil {
					outcomes = append(outcomes, res.Outcome+" "+res.Error)
				}
			}
		}
		if n := m.Starts("web.service"); n != 1 || string(text) != fmt.Sprint("text ", i) || !slices.Contains(outcomes, "done ") {
			t.Fatalf("round %d: %d starts, /etc/web holds %q, outcomes %q", i, n, text, outcomes)
		}
	}
}

// slowly gives what it has when it is told to; asked is closed when somebody wants it.
type slowly struct {
	asked, told chan struct{}
	once        sync.Once
	r           io.Reader
}

func (s *slowly) Read(p []byte) (int, error) {
	s.once.Do(func() { close(s.asked) })
	<-s.told
	return s.r.Read(p)
}

// void asks for a run to be void, and returns what is said to that.
func void(t *testing.T, m *machine.Machine, run string) (kinds []byte, res bundle.Result) {
	t.Helper()
	var in, out bytes.Buffer
	wire.WriteFrame(&in, bundle.FrameAsk, bundle.Ask{Verb: bundle.AskVoid, Run: run})
	if err := helper.Serve(context.Background(), m, &in, &out); err != nil {
		t.Fatal(err)
	}
	r := wire.NewReader(&out)
	r.SkipNoise()
	for {
		kind, p, err := r.Next()
		if err != nil {
			return kinds, res
		}
		if kind != bundle.FrameEvent {
			kinds = append(kinds, kind)
		}
		if kind == bundle.FrameResult {
			bundle.Unmarshal(p, &res)
		}
	}
}

// A run that was not begun can't begin when its host was told so; one that was begun is followed.
func TestVoid(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	one := page("one")
	done := one.offer()
	twinDeploy(t, m, done, one, bundle.OutcomeDone)
	for _, long := range []bool{false, true} { // the offer ahead, and the hello
		l := page("two")
		o := l.offer()
		o.Base, o.Go = 1, !long
		var frames bytes.Buffer
		if !long {
			o.Ahead = 1
		}
		wire.WriteFrame(&frames, bundle.FrameOffer, o)
		d := digestsOf("two")[0]
		wire.WriteBlob(&frames, bundle.Blob{Kind: bundle.BlobFile, Name: d, Size: 3}, strings.NewReader("two"))
		wire.WriteFrame(&frames, bundle.FrameEnd, struct{}{})
		serve, in := helper.ServeOptimistic, &slowly{asked: make(chan struct{}), told: make(chan struct{}), r: &frames}
		if long {
			serve = helper.Serve
		}
		var said bytes.Buffer
		ended := make(chan error)
		go func() { ended <- serve(context.Background(), m.Host(), in, &said) }()
		<-in.asked // sessions are told apart by when they began
		if kinds, _ := void(t, m.Host(), o.Run); !slices.Equal(kinds, []byte{bundle.FrameHello, bundle.FrameReply}) {
			t.Errorf("of a run that was not begun: %q, want a reply", kinds)
		}
		close(in.told)
		<-ended
		r := wire.NewReader(&said)
		r.SkipNoise()
		refused := ""
		for kind, p, err := r.Next(); err == nil; kind, p, err = r.Next() {
			var res bundle.Result
			if kind == bundle.FrameResult && bundle.Unmarshal(p, &res) == nil {
				refused = res.Refused
			}
		}
		if p, _ := os.ReadFile(m.Path("/etc/web")); refused != bundle.RefusedBusy || string(p) != "one" {
			t.Errorf("long way %v: it was refused as %q, and /etc/web holds %q", long, refused, p)
		}
	}
	kinds, res := void(t, m.Host(), done.Run)
	if !slices.Equal(kinds, []byte{bundle.FrameHello, bundle.FrameResult}) || res.Outcome != bundle.OutcomeDone {
		t.Errorf("of a run that is done: %q, %+v", kinds, res)
	}
	if kinds, _ := void(t, m.Host(), "../x"); !slices.Equal(kinds, []byte{bundle.FrameHello, bundle.FrameReply}) {
		t.Errorf("of no run: %q", kinds)
	}
	two := page("two")
	twinDeploy(t, m, two.offer(), two, bundle.OutcomeDone) // what was void left nothing behind
}

// A helper whose line is gone when it says hello begins nothing: nobody would hear of it.
func TestHelloUnheard(t *testing.T) {
	b := newBox(t)
	b.deploy(page("one"), bundle.OutcomeDone)
	l := page("two")
	o := l.offer()
	o.Base, o.Go, o.Ahead = 1, true, 1
	var in bytes.Buffer
	wire.WriteFrame(&in, bundle.FrameOffer, o)
	wire.WriteBlob(&in, bundle.Blob{Kind: bundle.BlobFile, Name: digestsOf("two")[0], Size: 3}, strings.NewReader("two"))
	err := helper.ServeOptimistic(t.Context(), b.m, &in, brokenPipe{})
	b.settled()
	if got := b.read("/etc/web"); err == nil || got != "one" {
		t.Errorf("ServeOptimistic on a broken line: %v, and /etc/web holds %q, want an error and what stood", err, got)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
