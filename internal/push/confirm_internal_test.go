package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/fleet"
	"bellhop/internal/link"
)

// freshLinks is a host that is asked over fresh connections. answer says what comes of each try.
type freshLinks struct {
	mu     sync.Mutex
	tries  int
	answer func(ctx context.Context, try int, ask bundle.Ask) (reply string, err error)
}

func (l *freshLinks) Helper(context.Context, link.Target, func(io.Writer) error) (Stream, error) {
	return nil, errors.New("the pooled connection was taken")
}

func (l *freshLinks) FreshHelper(ctx context.Context, t link.Target, first func(io.Writer) error) (Stream, error) {
	l.mu.Lock()
	l.tries++
	try := l.tries
	l.mu.Unlock()

	toHost, toHostW := io.Pipe()
	fromHost, fromHostW := io.Pipe()
	s := &freshStream{fromHost, toHostW}
	begun := make(chan error, 1)
	go func() {
		reply, err := l.answer(ctx, try, bundle.Ask{})
		begun <- err
		if err != nil {
			return
		}
		var ask bundle.Ask
		spoken := first != nil
		if spoken {
			wire.NewReader(toHost).Expect(bundle.FrameAsk, &ask)
		}
		io.WriteString(fromHostW, bundle.Magic)
		wire.WriteFrame(fromHostW, bundle.FrameHello, bundle.Hello{Protocol: bundle.Protocol, Arch: "amd64"})
		if !spoken {
			wire.NewReader(toHost).Expect(bundle.FrameAsk, &ask)
		}
		if ask.Verb != bundle.AskConfirm || ask.Run != "r-1" {
			reply = "asked for " + ask.Verb + " " + ask.Run
		}
		wire.WriteFrame(fromHostW, bundle.FrameReply, bundle.Reply{Error: reply})
		fromHostW.Close()
	}()
	if err := <-begun; err != nil {
		return nil, err
	}
	if first != nil {
		if err := first(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

type freshStream struct {
	io.Reader
	w *io.PipeWriter
}

func (s *freshStream) Write(p []byte) (int, error) { return s.w.Write(p) }
func (s *freshStream) Close() error                { return s.w.Close() }
func (s *freshStream) CloseWrite() error           { return nil }
func (s *freshStream) Leave()                      { s.w.Close() }

var errNoLogin = &link.Error{Host: "a", Kind: link.ErrAuth, Err: errors.New("root@a: unable to authenticate")}

// What comes of a confirmation, and whether it tells that the host was cut off.
func TestConfirmation(t *testing.T) {
	refuse := func(context.Context, int, bundle.Ask) (string, error) { return "", errNoLogin }
	never := func(ctx context.Context, _ int, _ bundle.Ask) (string, error) {
		<-ctx.Done()
		return "", context.Cause(ctx)
	}

	for name, c := range map[string]struct {
		answer    func(context.Context, int, bundle.Ask) (string, error)
		elsewhere string
		resultIn  time.Duration // when the host's result comes
		cutOff    bool
		text      string // of the error; "": none
		tries     int
		took      time.Duration
	}{
		"the host answers": {
			answer:    func(context.Context, int, bundle.Ask) (string, error) { return "", nil },
			elsewhere: "b", resultIn: time.Second, tries: 1,
		},
		"it answers the third time": {
			answer: func(_ context.Context, try int, _ bundle.Ask) (string, error) {
				if try < 3 {
					return "", &link.Error{Host: "a", Kind: link.ErrUnreachable, Err: errors.New("connection refused")}
				}
				return "", nil
			},
			elsewhere: "b", resultIn: 2 * time.Second, tries: 3,
		},
		"no login any more":                      {answer: refuse, elsewhere: "b", resultIn: 31 * time.Second, cutOff: true, text: "unable to authenticate", tries: 3},
		"no login, and nobody else answers":      {answer: refuse, resultIn: 31 * time.Second, text: "unable to authenticate", tries: 3},
		"no answer at all":                       {answer: never, elsewhere: "b", resultIn: 31 * time.Second, cutOff: true, text: "in time", tries: 1},
		"no answer, and nobody else answers":     {answer: never, resultIn: 31 * time.Second, text: "in time", tries: 1},
		"the result comes before the first try":  {answer: never, elsewhere: "b", resultIn: time.Millisecond, text: "in time", tries: 1},
		"the host does not wait for it any more": {answer: func(context.Context, int, bundle.Ask) (string, error) { return "too late", nil }, elsewhere: "b", resultIn: 12 * time.Second, text: "had gone back", tries: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				links := &freshLinks{answer: c.answer}
				p := &Pusher{Links: links, Memory: &Memory{}, Limits: Limits{Connect: time.Minute}}
				conf := p.NewConfirmation(link.Target{Name: "a"}, "r-1", 30*time.Second, func(context.Context) string { return c.elsewhere })
				conf.begin()
				conf.begin() // once is enough
				time.Sleep(c.resultIn)

				got := conf.End(false, p.NewFilter(nil))
				if !got.Tried || got.CutOff() != c.cutOff || (got.Err != nil) != (c.text != "") || !strings.Contains(got.Text, c.text) {
					t.Errorf("End = %+v, cut off %v; want cut off %v, an error with %q", got, got.CutOff(), c.cutOff, c.text)
				}
				if links.tries != c.tries {
					t.Errorf("%d tries, want %d", links.tries, c.tries)
				}
			})
		})
	}
}

// A line that can't be had, while the host may wait, tells as much as a fresh connection.
func TestConfirmationWithoutALine(t *testing.T) {
	answers := func(context.Context, int, bundle.Ask) (string, error) { return "", nil }
	tooLate := func(context.Context, int, bundle.Ask) (string, error) { return "too late", nil }
	refuse := func(context.Context, int, bundle.Ask) (string, error) { return "", errNoLogin }
	away := &link.Error{Host: "a", Kind: link.ErrUnreachable, Err: errors.New("no route to host")}

	for name, c := range map[string]struct {
		begun     bool // the host was heard again, and said that it waits
		answer    func(context.Context, int, bundle.Ask) (string, error)
		elsewhere []string // at the lost line, and later
		once      bool     // only one line was tried in vain, and begun before something else was asked for
		cutOff    bool
	}{
		"the deployer's network came back":          {begun: true, answer: tooLate, elsewhere: []string{"b", "b"}, once: true},
		"never heard again":                         {elsewhere: []string{"b"}, cutOff: true},
		"never heard again, nobody answers":         {elsewhere: []string{""}},
		"heard when it had gone back":               {begun: true, answer: tooLate, elsewhere: []string{"b", "b"}, cutOff: true},
		"heard, and confirmed":                      {begun: true, answer: answers, elsewhere: []string{"b", "b"}},
		"heard, then the deployer itself went away": {begun: true, answer: refuse, elsewhere: []string{"b", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				elsewhere := func(context.Context) string {
					asked++
					return c.elsewhere[min(asked, len(c.elsewhere))-1]
				}
				p := &Pusher{Links: &freshLinks{answer: c.answer}, Memory: &Memory{}, Limits: Limits{Connect: time.Minute}}
				conf := p.NewConfirmation(link.Target{Name: "a"}, "r-1", 30*time.Second, elsewhere)
				conf.lineTried(time.Now(), away)
				time.Sleep(time.Second)
				if !c.once {
					conf.lineTried(time.Now(), away)
				}
				conf.lineTried(time.Now(), nil)
				if c.begun {
					conf.begin()
				}
				time.Sleep(time.Minute)

				if got := conf.End(false, p.NewFilter(nil)); got.CutOff() != c.cutOff {
					t.Errorf("End = %+v, cut off %v; want %v", got, got.CutOff(), c.cutOff)
				}
			})
		})
	}
}

// A slowLink is to a host that takes a while to be reached again, and has gone back by then.
type slowLink struct {
	freshLinks
	takes time.Duration
}

func (l *slowLink) Helper(context.Context, link.Target, func(io.Writer) error) (Stream, error) {
	time.Sleep(l.takes)
	fromHost, fromHostW := io.Pipe()
	_, toHostW := io.Pipe()
	go func() {
		io.WriteString(fromHostW, bundle.Magic)
		wire.WriteFrame(fromHostW, bundle.FrameHello, bundle.Hello{Protocol: bundle.Protocol, Arch: "amd64",
			Last: &bundle.Result{Run: "r-1", Outcome: bundle.OutcomeUnconfirmed}})
	}()
	return &freshStream{fromHost, toHostW}, nil
}

// A host whose network is gone answers the dial that found it gone, once it went back. That it took so
// long tells that it was cut off; one that answers at once was not.
func TestLineThatTakesLong(t *testing.T) {
	for takes, cutOff := range map[time.Duration]bool{time.Second: false, 8 * time.Second: true} {
		synctest.Test(t, func(t *testing.T) {
			p := &Pusher{Links: &slowLink{takes: takes}, Memory: &Memory{}, Limits: Limits{Connect: time.Minute, Retry: time.Second, Patience: time.Minute}}
			c := p.NewConfirmation(link.Target{Name: "a"}, "r-1", 30*time.Second, func(context.Context) string { return "b" })
			j := &Job{Run: "r-1", Host: "a", Target: link.Target{Name: "a"}, Bundle: &fleet.Bundle{}, confirmation: c}
			filter := p.NewFilter(nil)
			res, _, err := p.fetchResult(t.Context(), j, filter, errors.New("the line broke"))
			if err != nil || res.Outcome != bundle.OutcomeUnconfirmed {
				t.Fatalf("fetchResult = %+v, %v", res, err)
			}
			if got := c.End(false, filter); got.CutOff() != cutOff {
				t.Errorf("a line that took %v: %+v, cut off %v, want %v", takes, got, got.CutOff(), cutOff)
			}
		})
	}
}

// Who ends while a host waits leaves only when that is confirmed, or its time is over.
func TestConfirmationIsFinished(t *testing.T) {
	for name, c := range map[string]struct {
		answerIn, took time.Duration
		text           string
	}{
		"it answers":       {answerIn: 3 * time.Second, took: 3 * time.Second},
		"its time is over": {answerIn: time.Hour, took: 30 * time.Second, text: "in time"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				links := &freshLinks{answer: func(ctx context.Context, _ int, _ bundle.Ask) (string, error) {
					if !pause(ctx, c.answerIn) {
						return "", context.Cause(ctx)
					}
					return "", nil
				}}
				p := &Pusher{Links: links, Memory: &Memory{}, Limits: Limits{Connect: time.Minute}}
				conf := p.NewConfirmation(link.Target{Name: "a"}, "r-1", 30*time.Second, nil)
				conf.begin()

				began := time.Now()
				got := conf.End(true, p.NewFilter(nil))
				if time.Since(began) != c.took || got.Text != "" && !strings.Contains(got.Text, c.text) || (got.Err == nil) != (c.text == "") {
					t.Errorf("End(true) took %v and gave %+v, want %v and an error with %q", time.Since(began), got, c.took, c.text)
				}
			})
		})
	}
}

// Where the host waits for nothing, nothing is asked and nothing is told.
func TestNoConfirmation(t *testing.T) {
	p := &Pusher{Links: &freshLinks{}, Memory: &Memory{}}
	c := p.NewConfirmation(link.Target{Name: "a"}, "r-1", 0, nil)
	s := &Session{}
	s.Confirm(c)
	s.confirm()
	c.lineTried(time.Now(), errors.New("away"))
	if got := c.End(true, p.NewFilter(nil)); got != (FreshTry{}) {
		t.Errorf("End = %+v, want nothing", got)
	}
}

// A run that an earlier process began may have waited for most of its window. What is left of it decides, and
// not the window that this process would give.
func TestConfirmationOfAReattachedRun(t *testing.T) {
	const window = 30 * time.Second
	for name, c := range map[string]struct {
		waited  time.Duration // of the host's window, when it is heard again
		reached bool          // fresh connections come through
		yes     bool          // the host hears it in time
		cutOff  bool
	}{
		"within the window":              {10 * time.Second, true, true, false},
		"at its edge":                    {window, true, false, false},
		"cut off, early":                 {10 * time.Second, false, false, true},
		"cut off, near the end":          {window - 5*time.Second, false, false, true},
		"cut off, as good as at the end": {window, false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				left := window - c.waited
				began := time.Now()
				links := &freshLinks{answer: func(ctx context.Context, _ int, _ bundle.Ask) (string, error) {
					if !c.reached { // its packets are dropped
						<-ctx.Done()
						return "", context.Cause(ctx)
					}
					if time.Since(began) >= left {
						return "it is unconfirmed on this host", nil
					}
					return "", nil
				}}
				p := &Pusher{Links: links, Memory: &Memory{}, Limits: Limits{Connect: time.Minute}}
				conf := p.NewConfirmation(link.Target{Name: "a"}, "r-1", 2*time.Minute, func(context.Context) string { return "b" })
				conf.Reattached()
				conf.begin()
				time.Sleep(left)
				synctest.Wait()

				got := conf.End(false, p.NewFilter(nil))
				if (got.Err == nil) != c.yes || got.CutOff() != c.cutOff {
					t.Errorf("End = %+v, cut off %v; want heard %v, cut off %v", got, got.CutOff(), c.yes, c.cutOff)
				}
			})
		})
	}
}

// Something else that answers after the host has said that it is too late tells nothing: the host was reached.
func TestSomethingElseThatAnswersTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		links := &freshLinks{answer: func(context.Context, int, bundle.Ask) (string, error) {
			time.Sleep(2 * time.Second)
			return "it is unconfirmed on this host", nil
		}}
		p := &Pusher{Links: links, Memory: &Memory{}, Limits: Limits{Connect: time.Minute}}
		conf := p.NewConfirmation(link.Target{Name: "a"}, "r-1", 2*time.Minute, func(context.Context) string {
			time.Sleep(3 * time.Second) // and does not mind that nobody waits for it any more
			return "b"
		})
		conf.Reattached()
		conf.begin()
		time.Sleep(10 * time.Second)
		if got := conf.End(false, p.NewFilter(nil)); got.CutOff() {
			t.Errorf("End = %+v, which tells that the host was cut off", got)
		}
	})
}

// What a jump host refuses is not what the host behind it refuses.
func TestIsRefusedLogin(t *testing.T) {
	refused := &link.Error{Host: "a", Kind: link.ErrAuth, Err: link.ErrKeysRefused}
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"the host":             {fmt.Errorf("confirm: %w", refused), true},
		"its jump host":        {&link.Error{Host: "b", Kind: link.ErrUnreachable, Err: fmt.Errorf("jump through a: %w", refused)}, false},
		"an agent without key": {&link.Error{Host: "a", Kind: link.ErrAuth, Err: errors.New("no key")}, false},
		"no login at all":      {errors.New("a broken line"), false},
	} {
		if got := isRefusedLogin(c.err); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// However short a host waits to be confirmed, a deployer that lost its line looks for it more than once meanwhile.
func TestTriesFitIntoTheWaitToBeConfirmed(t *testing.T) {
	for confirm, want := range map[time.Duration]time.Duration{
		0: 10 * time.Second, 2 * time.Minute: 10 * time.Second, 30 * time.Second: 10 * time.Second, 9 * time.Second: 3 * time.Second, 2 * time.Second: time.Second,
	} {
		if got := longestWait(confirm); got != want {
			t.Errorf("longestWait(%v) = %v, want %v", confirm, got, want)
		}
	}
}

// A deployer whose own network went away while a host waited blames no bundle: neither by what it could reach before
// that, nor by what it can reach once the host has gone back.
func TestConfirmationOfADeployerThatWasAway(t *testing.T) {
	const window = 30 * time.Second
	away := &link.Error{Host: "a", Kind: link.ErrUnreachable, Err: errors.New("no route to host")}
	for name, c := range map[string]struct {
		from, to time.Duration // its network is away
		cutOff   bool
	}{
		"all the time":                    {0, 2 * window, false},
		"until the host had gone back":    {0, window + time.Second, false},
		"from the first try on":           {time.Second, 2 * window, false},
		"in the midst, and there at last": {window / 3, window / 2, true}, // and yet nobody could log in
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				isAway := func() bool { return time.Since(began) >= c.from && time.Since(began) < c.to }
				elsewhere := func(context.Context) string {
					if isAway() {
						return ""
					}
					return "the git remote"
				}
				links := &freshLinks{answer: func(context.Context, int, bundle.Ask) (string, error) { return "", away }}
				p := &Pusher{Links: links, Memory: &Memory{}, Limits: Limits{Connect: time.Minute}}
				conf := p.NewConfirmation(link.Target{Name: "a"}, "r-1", window, elsewhere)
				conf.begin()
				time.Sleep(window + 5*time.Second)
				conf.lineTried(time.Now(), away) // a line fails once more, by chance
				time.Sleep(time.Second)

				if got := conf.End(false, p.NewFilter(nil)); got.CutOff() != c.cutOff {
					t.Errorf("End = %+v, cut off %v; want %v", got, got.CutOff(), c.cutOff)
				}
			})
		})
	}
}
