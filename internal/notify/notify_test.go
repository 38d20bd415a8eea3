package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bellhop/internal/history"
	"bellhop/internal/history/outbox"
)

// A shelf is an outbox in memory.
type shelf struct {
	mu     sync.Mutex // guards all that follows, and what a world knows
	rows   []history.Message
	seq    int64
	marks  map[string]outbox.Mark
	runs   map[string]*history.Run
	queued chan struct{}

	step   func() bool // is called before and after each write, and after each message: the process has ended there; nil: it never does
	writes int
}

var errEnded = errors.New("the process has ended")

// write is one write of a sender: it is lost where the process ends before it.
func (s *shelf) write(do func()) error {
	if s.step != nil && s.step() {
		return errEnded
	}
	s.mu.Lock()
	do()
	s.writes++
	s.mu.Unlock()
	if s.step != nil && s.step() {
		return errEnded
	}
	return nil
}

func (s *shelf) OutboxAfter(_ context.Context, seq int64, limit int) ([]history.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []history.Message
	for _, m := range s.rows {
		if m.Seq > seq && len(out) < limit {
			out = append(out, m)
		}
	}
	return out, nil
}

func (s *shelf) Last(context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.rows) == 0 {
		return 0, nil
	}
	return s.rows[len(s.rows)-1].Seq, nil
}

func (s *shelf) Ack(_ context.Context, seq int64) error {
	return s.write(func() {
		s.rows = slices.DeleteFunc(s.rows, func(m history.Message) bool { return m.Seq <= seq })
	})
}

func (s *shelf) Marks(context.Context) (map[string]outbox.Mark, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.marks), nil
}

func (s *shelf) SetMark(_ context.Context, name string, m outbox.Mark) error {
	return s.write(func() {
		m.Told = maps.Clone(m.Told)
		s.marks[name] = m
	})
}
func (s *shelf) Queued() <-chan struct{} { return s.queued }
func (s *shelf) Run(_ context.Context, id string) (*history.Run, error) {
	return s.runs[id], nil
}

// put queues rows, as one transaction each.
func (s *shelf) put(rows ...history.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range rows {
		s.seq++
		m.Seq, m.At = s.seq, time.Now()
		m.Kind = cmp.Or(m.Kind, "host")
		s.rows = append(s.rows, m)
	}
	select {
	case s.queued <- struct{}{}:
	default:
	}
}

func host(name string, now history.State, run string) history.Message {
	m := history.Message{Host: name, Now: string(now), Run: run, Commit: "c" + run}
	if now != history.Current {
		m.Error = "web.service failed"
	}
	return m
}

func ended(run string, outcome history.Outcome) history.Message {
	return history.Message{Kind: "run", Run: run, Now: string(outcome)}
}

// A world is a sender at work, and what arrived at its targets.
type world struct {
	*shelf
	t       *testing.T
	began   time.Time
	got     []string // "TIME TARGET: HOST EVENT …", since the world began
	refuse  map[string]error
	targets []Target
	stop    context.CancelFunc
}

func inWorld(t *testing.T, do func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, began: time.Now(), refuse: map[string]error{},
			shelf:   &shelf{marks: map[string]outbox.Mark{}, runs: map[string]*history.Run{}, queued: make(chan struct{}, 1)},
			targets: []Target{{Name: "ops", Events: []Event{Failed, Recovered, Away}}}}
		w.start()
		do(w)
		w.stop()
		synctest.Wait()
	})
}

// start begins a sender; the one before was stopped.
func (w *world) start() {
	ctx, cancel := context.WithCancel(context.Background())
	w.stop = cancel
	s := &Sender{Outbox: w.shelf, Log: slog.New(slog.DiscardHandler), post: w.post,
		Targets: func(context.Context) ([]Target, string, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return slices.Clone(w.targets), "hexagone", nil
		}}
	go s.Run(ctx)
	synctest.Wait()
}

func (w *world) post(ctx context.Context, t Target, m Message) error {
	if t.Name == "slow" {
		<-ctx.Done()
		return ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.refuse[t.Name]; err != nil {
		return err
	}
	var parts []string
	if m.Error != nil {
		parts = append(parts, "run: "+*m.Error)
	}
	if m.Pause != nil {
		parts = append(parts, *m.Pause)
	}
	for _, h := range m.Hosts {
		parts = append(parts, h.Name+" "+string(h.Event))
		if h.isClean() {
			parts[len(parts)-1] += " is over"
		}
	}
	w.got = append(w.got, fmt.Sprintf("%v %s: %s", time.Since(w.began).Round(time.Second), t.Name, strings.Join(parts, ", ")))
	if w.step != nil && w.step() {
		return errEnded
	}
	return nil
}

// also adds a target.
func (w *world) also(t Target) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.targets = append(w.targets, t)
}

// refuses has a target refuse with err; nil: it takes what comes.
func (w *world) refuses(name string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse[name] = err
}

func (w *world) wait(d time.Duration) { time.Sleep(d); synctest.Wait() }

func (w *world) want(want ...string) {
	w.t.Helper()
	if !slices.Equal(w.got, want) {
		w.t.Errorf("arrived:\n\t%s\nwant:\n\t%s", strings.Join(w.got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// One run makes one message, as soon as it has ended, and failures come first.
func TestOneMessageForARun(t *testing.T) {
	inWorld(t, func(w *world) {
		w.put(host("a", history.Current, "1"), host("c", history.Pending, "1"))
		w.wait(time.Second)
		w.put(host("b", history.RolledBack, "1"), ended("1", history.OutcomePartial))
		w.wait(time.Hour)
		w.want("1s ops: b failed, c away")
	})
}

// A run that goes on for long does not hold back that a host failed.
func TestFirstWithinSeconds(t *testing.T) {
	inWorld(t, func(w *world) {
		w.put(host("b", history.Failed, "1"))
		w.wait(6 * time.Second)
		w.want("5s ops: b failed")
	})
}

// After a message, changes are joined for ten minutes; another host's failure waits a minute at most.
func TestJoined(t *testing.T) {
	inWorld(t, func(w *world) {
		w.put(host("a", history.Failed, "1"), ended("1", history.OutcomeFailed))
		w.wait(2 * time.Minute)
		w.put(host("a", history.Current, "2"), ended("2", history.OutcomeDone))
		w.wait(time.Minute)
		w.put(host("b", history.Pending, "3"), ended("3", history.OutcomePartial))
		w.wait(20 * time.Minute)
		w.put(host("a", history.Failed, "4"), ended("4", history.OutcomeFailed))
		w.wait(time.Second)
		w.put(host("d", history.Failed, "5"), ended("5", history.OutcomeFailed))
		w.wait(2 * time.Minute)
		w.want("0s ops: a failed", "10m0s ops: b away, a recovered", "23m0s ops: a failed", "24m1s ops: d failed")
	})
}

// What went wrong and right again before anybody could be told is no news, nor is what is known already.
func TestNoNews(t *testing.T) {
	inWorld(t, func(w *world) {
		w.put(host("a", history.Failed, "1"))
		w.wait(time.Second)
		w.put(host("a", history.Current, "2"), ended("2", history.OutcomeDone))
		w.wait(time.Hour)
		w.want()

		w.put(host("b", history.Pending, "3"))
		w.wait(time.Hour)
		w.put(host("b", history.Pending, "4")) // the next push finds it away too
		w.wait(time.Hour)
		w.want("1h0m6s ops: b away")
	})
}

// The next commit that fails on the same host is news.
func TestFailsAgain(t *testing.T) {
	inWorld(t, func(w *world) {
		w.put(host("a", history.Failed, "1"), ended("1", history.OutcomeFailed))
		w.wait(time.Hour)
		w.put(host("a", history.Failed, "2"), ended("2", history.OutcomeFailed))
		w.wait(time.Hour)
		w.want("0s ops: a failed", "1h0m0s ops: a failed")
	})
}

// A run that could not be made at all is told once, and so is the next that works.
func TestRunThatCouldNotBeMade(t *testing.T) {
	inWorld(t, func(w *world) {
		bad := ended("1", history.OutcomeFailed)
		bad.Error = "read the repo: no route"
		w.put(bad)
		w.wait(time.Hour)
		bad.Run = "2"
		w.put(bad)
		w.wait(time.Hour)
		w.put(ended("3", history.OutcomeDone))
		w.wait(time.Hour)
		w.want("0s ops: run: read the repo: no route", "2h0m0s ops: ")
	})
}

// The end of a run that says nothing of pushes is no news: a rollback beside a repo that can't be read, a deploy that a
// person mistyped.
func TestUntold(t *testing.T) {
	inWorld(t, func(w *world) {
		bad := ended("1", history.OutcomeFailed)
		bad.Error = "read the repo: no route"
		w.put(bad)
		w.wait(time.Hour)
		back := ended("2", history.OutcomeDone)
		back.Untold = true
		w.put(back)
		typo := ended("3", history.OutcomeFailed)
		typo.Error, typo.Untold = "choose hosts: no host fits nosuch", true
		w.put(typo)
		w.wait(time.Hour)
		w.want("0s ops: run: read the repo: no route")
	})
}

// Each target is told what it wants, of the hosts that it wants.
func TestWants(t *testing.T) {
	inWorld(t, func(w *world) {
		w.also(Target{Name: "prod", Events: []Event{Failed}, Wants: func(h string) bool { return h == "a" }})
		w.put(host("a", history.Pending, "1"), host("b", history.Failed, "1"), ended("1", history.OutcomeFailed))
		w.wait(time.Hour)
		w.put(host("a", history.Failed, "2"), ended("2", history.OutcomeFailed))
		w.wait(time.Hour)
		slices.Sort(w.got)
		w.want("0s ops: b failed, a away", "1h0m0s ops: a failed", "1h0m0s prod: a failed")
	})
}

// A target that refuses is tried again, later and later, holds no other target, and loses nothing.
func TestRefuses(t *testing.T) {
	inWorld(t, func(w *world) {
		w.also(Target{Name: "broken", Events: []Event{Failed}})
		w.refuses("broken", errors.New("no"))
		w.put(host("a", history.Failed, "1"), ended("1", history.OutcomeFailed))
		w.wait(31 * time.Minute)
		if len(w.rows) == 0 {
			t.Error("the row is gone before each target was told")
		}
		w.refuses("broken", nil)
		w.wait(11 * time.Minute)
		if len(w.rows) != 0 {
			t.Errorf("%d rows are left", len(w.rows))
		}
		if len(w.got) != 2 || w.got[0] != "0s ops: a failed" || !strings.HasSuffix(w.got[1], "broken: a failed") {
			t.Errorf("arrived: %q", w.got)
		}
	})
}

// A sender that begins anew tells what the one before had not told, and knows what was told.
func TestBeginsAnew(t *testing.T) {
	inWorld(t, func(w *world) {
		w.put(host("a", history.Failed, "1"), ended("1", history.OutcomeFailed))
		w.wait(time.Minute)
		w.put(host("b", history.Failed, "2"))
		w.wait(time.Second)
		w.stop()
		synctest.Wait()

		w.start()
		w.wait(time.Hour)
		w.put(host("a", history.Current, "3"), host("b", history.Current, "3"), ended("3", history.OutcomeDone))
		w.wait(time.Hour)
		w.want("0s ops: a failed", "2m0s ops: b failed", "1h1m1s ops: a recovered, b recovered")
	})
}

// A target that is new is not told of old times.
func TestNewTarget(t *testing.T) {
	inWorld(t, func(w *world) {
		w.mu.Lock()
		w.targets = nil
		w.mu.Unlock()
		w.put(host("old", history.Failed, "1"))
		w.wait(time.Hour)
		if len(w.rows) != 0 {
			t.Errorf("%d rows wait for nobody", len(w.rows))
		}
		w.also(Target{Name: "ops", Events: []Event{Failed}})
		w.put(host("a", history.Failed, "2"), ended("2", history.OutcomeFailed))
		w.wait(time.Minute)
		w.want("1h0m0s ops: a failed")
	})
}

// A message links to the page of its run, where pages have a public address.
func TestMessageLinksToItsRun(t *testing.T) {
	shelf := &shelf{runs: map[string]*history.Run{}}
	q := newQueue(outbox.Mark{Seq: 1}, true)
	q.changes["a"] = change{event: Failed, state: "failed", run: "r1", since: time.Now()}

	s := &Sender{Outbox: shelf}
	if m := s.message(t.Context(), "hexagone", q); m.URL != nil {
		t.Errorf("without pages the URL is %q, want none", *m.URL)
	}
	s.RunURL = func(run string) string { return "https://b.example.org/runs/" + run }
	m := s.message(t.Context(), "hexagone", q)
	if m.URL == nil || *m.URL != "https://b.example.org/runs/r1" {
		t.Errorf("the URL is %v, want that of run r1", m.URL)
	}
	if want := "\nhttps://b.example.org/runs/r1"; !strings.HasSuffix(m.Body(), want) {
		t.Errorf("the text is %q, want it to end in %q", m.Body(), want)
	}
}

// Drift and pauses are told to those who asked for them, once each, and when they are over.
func TestDriftAndPauses(t *testing.T) {
	inWorld(t, func(w *world) {
		w.also(Target{Name: "all", Events: []Event{Failed, Recovered, Away, Drift, Paused}})
		drift := history.Message{Kind: "drift", Host: "a", Now: history.NowDrifted, Error: "file /etc/motd changed"}
		pause := history.Message{Kind: "pause", Now: history.NowPaused, Error: "runs are paused by cadey: we move house"}
		w.put(drift, pause)
		w.wait(time.Minute)
		w.put(drift, history.Message{Kind: "pause", Now: history.NowResumed}, history.Message{Kind: "drift", Host: "a", Now: history.NowClean})
		w.wait(time.Hour)
		w.put(drift, history.Message{Kind: "drift", Host: "a", Now: history.NowClean}) // nobody could be told between them
		w.wait(time.Hour)
		w.want("5s all: runs are paused by cadey: we move house, a drift", "10m5s all: runs are no longer paused, a drift is over")
	})
}

// A drift of a host is not taken for its failure, nor ended by its success.
func TestDriftBesideAFailure(t *testing.T) {
	inWorld(t, func(w *world) {
		w.also(Target{Name: "all", Events: []Event{Failed, Recovered, Drift}})
		w.put(history.Message{Kind: "drift", Host: "a", Now: history.NowDrifted, Error: "x"}, host("a", history.Failed, "1"), ended("1", history.OutcomeFailed))
		w.wait(time.Hour)
		w.put(host("a", history.Current, "2"), ended("2", history.OutcomeDone))
		w.wait(time.Hour)
		got := slices.DeleteFunc(w.got, func(s string) bool { return strings.Contains(s, "ops:") })
		if want := []string{"0s all: a failed, a drift", "1h0m0s all: a recovered"}; !slices.Equal(got, want) {
			t.Errorf("arrived %q, want %q", got, want)
		}
	})
}

// A host that stops answering between runs is told when it stays away: most of them reboot.
func TestAwayBetweenRuns(t *testing.T) {
	inWorld(t, func(w *world) {
		lost := history.Message{Host: "a", Was: history.Current, Now: string(history.Pending)}
		back := history.Message{Host: "a", Was: history.Pending, Now: string(history.Current)}
		w.put(lost)
		w.wait(90 * time.Second)
		w.put(back)
		w.wait(time.Hour)
		w.put(lost)
		w.wait(time.Hour)
		w.put(back)
		w.wait(time.Hour)
		w.want("1h3m30s ops: a away", "2h1m35s ops: a recovered")
	})
}

// While one target hangs, another is told of one run after the other.
func TestSlowTargetHoldsNobody(t *testing.T) {
	inWorld(t, func(w *world) {
		w.also(Target{Name: "slow", Events: []Event{Failed}})
		w.put(host("a", history.Failed, "1"), ended("1", history.OutcomeFailed))
		w.wait(time.Second)
		w.put(host("b", history.Failed, "2"), ended("2", history.OutcomeFailed))
		w.wait(62 * time.Second) // slow hangs for 30 s, and again
		w.want("0s ops: a failed", "1m1s ops: b failed")
	})
}
