package link_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/lab"
	"bellhop/internal/link"
)

// piped is a host and a pool within one bubble of imitated time.
func piped(t *testing.T, serve func(context.Context, io.Reader, io.Writer) error) (*lab.Host, *link.Pool) {
	t.Helper()
	h, err := lab.Piped("a", serve)
	if err != nil {
		t.Fatal(err)
	}
	cfg := config(t)
	cfg.Dial = func(context.Context, string, string) (net.Conn, error) { return h.Connect() }
	p := link.NewPool(cfg)
	t.Cleanup(func() {
		p.Close()
		h.Close()
	})
	return h, p
}

func TestKeepalive(t *testing.T) {
	for _, keys := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			h, p := piped(t, echo)
			target := h.Target()
			target.Keys = keys
			if err := talk(t.Context(), p, target); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Minute)
			want := int64(20)
			if keys {
				want = 120
			}
			if n := h.Counts(); n.Keepalives < want-2 || n.Keepalives > want+2 || n.Connections != 1 {
				t.Errorf("ten idle minutes (keys %v): %d keepalives on %d connections, want about %d on 1", keys, n.Keepalives, n.Connections, want)
			}
		})
	}
}

// TestStallIsNoticed: bytes stop, and nothing closes the connection but our own watchdog.
func TestStallIsNoticed(t *testing.T) {
	for _, tt := range []struct {
		keys bool
		most time.Duration
	}{{true, 12 * time.Second}, {false, 47 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			h, p := piped(t, echo)
			target := h.Target()
			target.Keys = tt.keys
			if err := talk(t.Context(), p, target); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			h.Stall()
			begun := time.Now()
			for p.Stats().Open > 0 {
				if time.Sleep(100 * time.Millisecond); time.Since(begun) > time.Hour {
					t.Fatal("the stalled connection stands for ever")
				}
			}
			if took := time.Since(begun); took > tt.most {
				t.Errorf("a stall was noticed after %v, want within %v (keys %v)", took, tt.most, tt.keys)
			}
		})
	}
}

// TestSilentShell: what takes the command and does something else is told as that, not waited for
// until nobody remembers why.
func TestSilentShell(t *testing.T) {
	for _, tt := range []struct {
		noise string
		kind  error
		text  string
	}{
		{"", link.ErrUnreachable, "root wait for its input, or a ForceCommand"},
		{"Pick a menu entry:\n", link.ErrHelper, "it said: Pick a menu entry:"},
	} {
		synctest.Test(t, func(t *testing.T) {
			h, p := piped(t, echo)
			h.Noise(tt.noise)
			h.Silent()
			begun := time.Now()
			err := talk(t.Context(), p, h.Target())
			if !errors.Is(err, tt.kind) || !strings.Contains(revealed(err), tt.text) || errors.Is(err, link.ErrThere) != (tt.noise == "") {
				t.Errorf("with noise %q: %v, want a %v with %q", tt.noise, err, tt.kind, tt.text)
			}
			if took := time.Since(begun); took != 30*time.Second { // a helper may have a run to undo before its first word
				t.Errorf("with noise %q it took %v, want 30 s", tt.noise, took)
			}
		})
	}
}

// A place that is free is taken while another command goes on: sshd may refuse at first, since it
// counts a session until its shell is reaped.
func TestTwoSessionsAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := piped(t, echo)
		h.MaxSessions(2)
		long, err := p.Helper(t.Context(), h.Target(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer long.Close()
		short, err := p.Helper(t.Context(), h.Target(), nil)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- talk(t.Context(), p, h.Target()) }()
		synctest.Wait()
		begun := time.Now()
		short.Close()
		defer time.AfterFunc(10*time.Minute, func() { long.Close() }).Stop()
		if err := <-done; err != nil || time.Since(begun) > 5*time.Second {
			t.Errorf("%v, %v after a place was free; want it taken at once", err, time.Since(begun))
		}
	})
}

// TestOneSessionAtATime: an sshd with MaxSessions 1 counts a session until its shell is reaped,
// and refuses the next one until then.
func TestOneSessionAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := piped(t, echo)
		h.MaxSessions(1)
		h.Bare()
		if err := talk(t.Context(), p, h.Target()); err != nil { // asked, sent, run
			t.Fatal(err)
		}
		if n := h.Counts(); n.Sessions != 3 || n.Uploads != 1 || n.Connections != 1 {
			t.Errorf("%+v, want 3 sessions and 1 upload on 1 connection", n)
		}
		first, err := p.Helper(t.Context(), h.Target(), nil)
		if err != nil {
			t.Fatal(err)
		}
		const others = 4
		done := make(chan error, others)
		for range others {
			go func() { done <- talk(t.Context(), p, h.Target()) }()
		}
		time.Sleep(time.Minute) // it works as long as it likes
		synctest.Wait()
		asked := h.Counts().Channels
		time.Sleep(time.Minute)
		if n := h.Counts(); len(done) > 0 || n.Channels != asked {
			t.Fatalf("%d of those who wait are done, after %d more questions; want none", len(done), n.Channels-asked)
		}
		first.Close()
		for range others {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if n := h.Counts(); n.Connections != 1 {
			t.Errorf("%d connections, want 1", n.Connections)
		}
	})
}

// TestFirstSessionsAtOnce: who is refused beside the first session of a connection waits too.
func TestFirstSessionsAtOnce(t *testing.T) {
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			h, p := piped(t, echo)
			h.MaxSessions(1)
			const callers = 3
			done := make(chan error, callers)
			for range callers {
				go func() { done <- talk(t.Context(), p, h.Target()) }()
			}
			for range callers {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestRefusedCommandLetsGo: a session whose command is refused gives back its hold on the connection,
// once: others' holds are what keeps a tunnel's connection, and none is what lets one be retired.
func TestRefusedCommandLetsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := piped(t, echo)
		h.NoCommands()
		for range 3 {
			if err := talk(t.Context(), p, h.Target()); !errors.Is(err, link.ErrHelper) {
				t.Errorf("a refused command gave %v, want ErrHelper", err)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if n := p.Held(h.Target().Name); n != 0 {
				t.Errorf("the connection is held by %d, want none", n)
			}
		}
	})
}

// TestNoSession: an sshd that takes none is told so at once.
func TestNoSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := piped(t, echo)
		h.MaxSessions(-1)
		begun := time.Now()
		if err := talk(t.Context(), p, h.Target()); !errors.Is(err, link.ErrThere) || !strings.Contains(err.Error(), "MaxSessions") || time.Since(begun) > time.Second {
			t.Errorf("an sshd without sessions gave %v after %v, want a word on MaxSessions", err, time.Since(begun))
		}
	})
}

// TestStallDuringSession: the reader is freed, with ErrLost.
func TestStallDuringSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := piped(t, func(ctx context.Context, in io.Reader, out io.Writer) error {
			io.WriteString(out, bundle.Magic)
			<-ctx.Done()
			return nil
		})
		s, err := p.Helper(t.Context(), h.Target(), nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // silence alone is no loss
		h.Stall()
		begun := time.Now()
		if _, err := io.ReadAll(s); !errors.Is(err, link.ErrLost) {
			t.Errorf("Read over a stalled line = %v, want ErrLost", err)
		}
		if took := time.Since(begun); took > 12*time.Second {
			t.Errorf("it took %v, want within 12 s", took)
		}
		if _, err := s.Wait(); !errors.Is(err, link.ErrLost) {
			t.Errorf("Wait = %v, want ErrLost", err)
		}
	})
}

// TestStallAfterIdleness: a line that was idle for long is watched as closely as a new one, as soon as a
// session runs over it.
func TestStallAfterIdleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := piped(t, func(ctx context.Context, in io.Reader, out io.Writer) error {
			io.WriteString(out, bundle.Magic)
			<-ctx.Done()
			return nil
		})
		first, err := p.Helper(t.Context(), h.Target(), nil)
		if err != nil {
			t.Fatal(err)
		}
		first.Close()
		time.Sleep(2*link.KeepaliveOther + 2*time.Second) // it has just been asked, and would be so in half a minute

		s, err := p.Helper(t.Context(), h.Target(), nil)
		if err != nil {
			t.Fatal(err)
		}
		h.Stall()
		begun := time.Now()
		if _, err := io.ReadAll(s); !errors.Is(err, link.ErrLost) {
			t.Errorf("Read over a stalled line = %v, want ErrLost", err)
		}
		if took := time.Since(begun); took > 12*time.Second {
			t.Errorf("it took %v, want within 12 s", took)
		}
	})
}

// TestStallBeforeSession: a pooled line that fell silent costs one short wait, then a redial.
func TestStallBeforeSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := piped(t, echo)
		if err := talk(t.Context(), p, h.Target()); err != nil {
			t.Fatal(err)
		}
		h.Stall()
		time.AfterFunc(3*time.Second, h.Drop) // the way back is new: the old connection never says so
		time.AfterFunc(4*time.Second, func() { h.Mend() })
		begun := time.Now()
		if err := talk(t.Context(), p, h.Target()); err != nil {
			t.Errorf("after a silent loss: %v", err)
		}
		if took := time.Since(begun); took > 8*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestHandshakeDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := piped(t, echo)
		h.Stall()
		begun := time.Now()
		err := talk(t.Context(), p, h.Target())
		if !errors.Is(err, link.ErrUnreachable) {
			t.Errorf("a stalled handshake = %v, want ErrUnreachable", err)
		}
		if took := time.Since(begun); took != link.HandshakeTimeout {
			t.Errorf("it took %v, want %v", took, link.HandshakeTimeout)
		}
	})
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := piped(t, echo)
		ups := make(chan time.Time, 100)
		var downs atomic.Int64
		watcher := link.Watcher{
			Up:   func(context.Context) error { ups <- time.Now(); return nil },
			Down: func(context.Context, error) { downs.Add(1) },
		}
		go p.Watch(t.Context(), h.Target(), watcher)
		wait := func(what string, since time.Time, most time.Duration) {
			t.Helper()
			select {
			case at := <-ups:
				if took := at.Sub(since); took > most {
					t.Errorf("%s: up after %v, want within %v", what, took, most)
				}
			case <-time.After(time.Hour):
				t.Fatalf("%s: never up", what)
			}
		}
		wait("start", time.Now(), 0)
		h.Drop()
		wait("drop", time.Now(), 300*time.Millisecond)
		for _, away := range []time.Duration{time.Second, time.Minute, 9 * time.Minute} {
			h.Cut()
			time.Sleep(away)
			h.Mend()
			wait("away "+away.String(), time.Now(), 2500*time.Millisecond)
		}
		h.Cut()
		time.Sleep(9 * time.Minute)
		before := p.Stats().Total().Dials
		time.Sleep(time.Hour)
		tries := p.Stats().Total().Dials - before
		if tries < 100 || tries > 200 { // a minute of every 2 s, then every 30 s
			t.Errorf("%d dials in an hour away, want about 150", tries)
		}
		if n := downs.Load(); n < 100 {
			t.Errorf("Down was called %d times, want once a failed try", n)
		}
		h.Mend()
		wait("away for long", time.Now(), 38*time.Second)
	})
}

// TestWatchRetriesUp: a login in a shutdown works and its command does not.
func TestWatchRetriesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := piped(t, echo)
		calls, content := 0, make(chan struct{})
		go p.Watch(t.Context(), h.Target(), link.Watcher{Up: func(context.Context) error {
			if calls++; calls < 4 {
				return errors.New("not yet")
			}
			close(content)
			return nil
		}})
		begun := time.Now()
		<-content
		if took := time.Since(begun); calls != 4 || took > 3*time.Second {
			t.Errorf("content after %d calls and %v, want 4 within 3 s", calls, took)
		}
	})
}

func TestWatchStopsAtHostKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := piped(t, echo)
		target := h.Target()
		h.NewHostKey()
		err := p.Watch(t.Context(), target, link.Watcher{Up: func(context.Context) error { return nil }})
		if !link.HardStop(err) {
			t.Errorf("Watch of a changed host = %v, want a hard stop", err)
		}
	})
}

// An address that does not answer a connection costs its time and no more.
func TestDialDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := lab.Piped("a", echo)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		cfg := config(t)
		cfg.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		p := link.NewPool(cfg)
		defer p.Close()

		begun := time.Now()
		if err := talk(t.Context(), p, h.Target()); !errors.Is(err, link.ErrUnreachable) {
			t.Errorf("a dial that nobody answers = %v, want ErrUnreachable", err)
		}
		if took := time.Since(begun); took != link.DialTimeout {
			t.Errorf("it took %v, want %v", took, link.DialTimeout)
		}
	})
}
