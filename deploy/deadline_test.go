package deploy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"bellhop/deploy"
	"bellhop/deploy/follow"
	"bellhop/deploy/routes"
	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/history"
	"bellhop/internal/link"
)

// mute hosts say nothing any more from some step on, and keep the line.
type mute struct {
	simLinks
	mu sync.Mutex
	at map[string]string // by host: reach, hello, offer or want; "" is never
}

func (l *mute) Helper(ctx context.Context, t link.Target, ahead func(io.Writer) error) (routes.Stream, error) {
	l.mu.Lock()
	at := l.at[t.Name]
	l.mu.Unlock()
	switch at {
	case "":
		return l.simLinks.Helper(ctx, t, ahead)
	case "reach":
		<-ctx.Done()
		return nil, ctx.Err()
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
		defer io.Copy(io.Discard, in) // it hears everything, until the line is closed
		if at == "hello" {
			return
		}
		m := l.models[t.Name]
		m.mu.Lock()
		hello := bundle.Hello{Protocol: bundle.Protocol, Arch: "amd64", BootID: "boot", Record: m.record, Last: m.last}
		m.mu.Unlock()
		io.WriteString(out, bundle.Magic)
		if wire.WriteFrame(out, bundle.FrameHello, hello) != nil || at == "offer" {
			return
		}
		r := wire.NewReader(io.MultiReader(&first, in))
		kind, p, err := r.Next()
		if err != nil {
			return
		}
		if o, err := r.Offer(kind, p); err == nil {
			wire.WriteFrame(out, bundle.FrameWant, bundle.Want{Files: []string{o.Manifest.Files[0].Digest}})
		}
	}()
	return pipes{outR, inW}, nil
}

// newMute is a deployer of four model hosts without trouble, in fake time.
func newMute(t *testing.T) (*sim, *mute) {
	s := &sim{t: t, gentle: true, rng: rand.New(rand.NewPCG(1, 1)), links: simLinks{map[string]*model{}}, path: filepath.Join(t.TempDir(), "0.db")}
	for i := range 4 {
		name := fmt.Sprint("h", i)
		s.links.models[name] = calmModel(name)
	}
	s.commit()
	s.live()
	l := &mute{simLinks: s.links, at: map[string]string{}}
	s.d.Links = l
	t.Cleanup(func() { s.db.Close() })
	return s, l
}

// calmModel is a host without trouble.
func calmModel(name string) *model {
	return &model{rng: rand.New(rand.NewPCG(1, 1)), name: name, calm: true}
}

// change makes a commit in which every service is another.
func (s *sim) change() {
	s.commit()
	c := &s.commits[len(s.commits)-1]
	for p, f := range c.Tree.(fstest.MapFS) {
		if strings.HasSuffix(p, ".conf") {
			c.Tree.(fstest.MapFS)[p] = &fstest.MapFile{Data: append(f.Data[:len(f.Data):len(f.Data)], "more\n"...), Mode: 0o644}
		}
	}
}

// Every step on a host has a deadline: one that falls silent ends by the right one, in time, told
// with its name, and the other hosts stand.
func TestSilentHosts(t *testing.T) {
	own := deploy.Limits{Connect: 7 * time.Second, Preflight: 5 * time.Second, Host: 50 * time.Second, Run: 90 * time.Second, Retry: time.Millisecond}
	long := own
	long.Host, long.Run = time.Hour, 2*time.Hour
	for _, tt := range []struct {
		name    string
		limits  deploy.Limits
		met     bool   // the host was pushed before: the offer goes out ahead of its hello
		at      string // it falls silent
		outcome history.Outcome
		text    string
		took    time.Duration
	}{
		// What was not begun is tried three times.
		{"while it is reached", own, false, "reach", history.OutcomePending, "connect to h1: not done in 7s", 3 * own.Connect},
		{"before hello", own, false, "hello", history.OutcomePending, "connect to h1: not done in 7s", 3 * own.Connect},
		{"after hello", own, false, "offer", history.OutcomePending, "preflight: not done in 5s", 3 * own.Preflight},
		// Then the host may be at work, and is asked until its time is over.
		{"after want", own, false, "want", history.OutcomeUnknown, "the host's deadline passed", own.Host},
		{"before hello, offered early", own, true, "hello", history.OutcomeUnknown, "the host's deadline passed", own.Host},
		{"after hello, offered early", own, true, "offer", history.OutcomeUnknown, "the host's deadline passed", own.Host},
		{"after want, offered early", own, true, "want", history.OutcomeUnknown, "the host's deadline passed", own.Host},
		{"before hello, offered early, much time", long, true, "hello", history.OutcomeUnknown, "connect to h1: not done in 7s", 2 * time.Minute},
		{"before hello, by the defaults", deploy.Limits{}, false, "hello", history.OutcomePending, "connect to h1: not done in 1m0s", 3 * time.Minute},
		{"after hello, by the defaults", deploy.Limits{}, false, "offer", history.OutcomePending, "preflight: not done in 30s", 90 * time.Second},
		{"after want, by the defaults", deploy.Limits{}, false, "want", history.OutcomeUnknown, "the host's deadline passed", 10 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, l := newMute(t)
				if tt.met {
					s.run(t.Context())
					s.change()
				}
				s.d.Limits = tt.limits
				l.at["h1"] = tt.at
				began := time.Now()
				r := s.run(t.Context())
				took := time.Since(began)
				if *r.Outcome != history.OutcomePartial || len(r.Hosts) != 4 {
					t.Fatalf("the run ended %s with %d hosts, want partial with 4", *r.Outcome, len(r.Hosts))
				}
				for _, h := range r.Hosts {
					switch {
					case h.Name != "h1" && *h.Outcome != bundle.OutcomeDone:
						t.Errorf("%s ended %s, want done", h.Name, *h.Outcome)
					case h.Name == "h1" && (*h.Outcome != tt.outcome || h.Error == nil || !strings.HasSuffix(*h.Error, tt.text)):
						t.Errorf("h1 ended %s by %q, want %s by %q", *h.Outcome, deref(h.Error), tt.outcome, tt.text)
					}
				}
				if took < tt.took || took > tt.took+tt.took/4 {
					t.Errorf("it took %v, want %v", took, tt.took)
				}
			})
		})
	}
}

func deref[T ~string](s *T) T {
	if s == nil {
		return ""
	}
	return *s
}

// A run that is over its time ends: what is at work goes on by itself, or is left to be looked for
// at the next start; what was not begun is told so, and is the next run's.
func TestRunThatIsOverItsTime(t *testing.T) {
	for _, tt := range []struct {
		name   string
		detach bool
		limit  time.Duration // 0: the default
		want   time.Duration
	}{
		{"a server", true, 40 * time.Second, 40 * time.Second},
		{"a command", false, 40 * time.Second, 40 * time.Second},
		{"by the default", true, 0, 30 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, l := newMute(t)
				s.add("bellhop.yaml", "rollout: { parallel: 1 }\n")
				s.d.Detach = tt.detach
				s.d.Limits = deploy.Limits{Host: time.Hour, Run: tt.limit, Patience: 50 * time.Minute}
				var detached []string
				s.d.Progress = func(e follow.Event) {
					if e.Step == "detached" {
						detached = append(detached, e.Host+": "+e.Text)
					}
				}
				l.at["h1"] = "want"
				began := time.Now()
				r := s.run(t.Context())
				if took := time.Since(began); took < tt.want || took > tt.want+time.Second {
					t.Errorf("it took %v, want %v", took, tt.want)
				}
				if *r.Outcome != history.OutcomeCancelled {
					t.Errorf("the run ended %s, want cancelled", *r.Outcome)
				}
				got := map[string]string{}
				for _, h := range r.Hosts {
					got[h.Name] = strings.TrimSpace(string(deref(h.Outcome)) + " " + deref(h.Error))
				}
				cut := fmt.Sprintf("cancelled not begun: run %s: not done in %v", r.ID, tt.want)
				if diff := cmp.Diff(map[string]string{"h0": "done", "h1": "", "h2": cut, "h3": cut}, got); diff != "" {
					t.Errorf("what came of its hosts (-want +got):\n%s", diff)
				}
				if let := slices.Contains(detached, "h1: the run's time is over; it goes on by itself"); let != tt.detach {
					t.Errorf("detached: %q", detached)
				}
				if err := s.d.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
				// A server heard its line to the end.
				want, end := history.Deploying, tt.want
				if tt.detach {
					want, end = history.Unknown, time.Hour
				}
				if h, _ := s.db.Host("h1"); h.State != want {
					t.Errorf("h1 is %s, want %s", h.State, want)
				}
				if took := time.Since(began); took < end || took > end+time.Second {
					t.Errorf("h1 was left after %v, want %v", took, end)
				}
			})
		})
	}
}

// add adds text to a file of the newest commit.
func (s *sim) add(path, more string) {
	tree := s.commits[len(s.commits)-1].Tree.(fstest.MapFS)
	tree[path].Data = append(tree[path].Data, more...)
}

// A bellhop that is ended while it reaches for a host says so of that host, and of those that were to come,
// in words.
func TestEndedBeforeItBegan(t *testing.T) {
	for _, detach := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s, l := newMute(t)
			s.add("bellhop.yaml", "rollout: { parallel: 1 }\n")
			s.d.Detach = detach
			l.at["h1"] = "reach"
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(5*time.Second, cancel)

			r := s.run(ctx)
			if err := s.d.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			r, err := s.db.Run(t.Context(), r.ID)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, h := range r.Hosts {
				got[h.Name] = deref(h.Error)
			}
			want := map[string]string{"h0": "", "h1": "bellhop ended before anything was begun there", "h2": "not begun: bellhop ended", "h3": "not begun: bellhop ended"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("detach %v: what is said of the hosts (-want +got):\n%s", detach, diff)
			}
		})
	}
}
