package push

import (
	"cmp"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/link"
	"bellhop/internal/plain"
)

// A host that has applied a bundle waits until its deployer confirms it, and else goes back by itself.
// The deployer confirms over a fresh connection, dialed and logged in for that: the one that the run
// came over goes on even if sshd lets nobody in any more. It is tried again until the host's time is
// over. The result still comes over the first connection, or over the one that took its place.
//
// When none of that works, what matters is whose fault it was. So at the moment of the failure
// something else is asked for: if it can be reached, then the host was cut off, by its bundle; if
// not, it was the deployer that was away.

// How long is waited before a host is asked again. sshd counts refused logins against an address
// (PerSourcePenalties), and would refuse the connections that ask for the result too.
const (
	confirmFirst   = 250 * time.Millisecond
	confirmMost    = 2 * time.Second
	confirmRefused = 5 * time.Second
	// confirmGrace is how long a host has for the rest of its run, once its window is over.
	confirmGrace = 30 * time.Second
)

// A FreshTry is what came of the fresh connections to a host that waited to be confirmed.
type FreshTry struct {
	Tried     bool   // one was tried while the host waited, or no line to it could be had meanwhile
	Err       error  // how the last one failed; nil when the host answered
	Text      string // of Err, with the host's words filtered
	Elsewhere string // what else could be reached when it failed; "": nothing, or nothing was asked for
}

// CutOff says that the host could not be reached though something else could.
func (t FreshTry) CutOff() bool { return t.Tried && t.Err != nil && t.Elsewhere != "" }

// A Confirmation confirms one run on one host, once the host waits for that. A nil one does nothing.
type Confirmation struct {
	p         *Pusher
	target    link.Target
	run       string
	window    time.Duration
	elsewhere func(ctx context.Context) string
	lookAfter time.Duration // a try that takes longer has something else asked for meanwhile

	ctx    context.Context // of its tries: ends with the push
	cancel context.CancelFunc
	look   context.Context // of the questions for something else: ends when the host has answered
	enough context.CancelFunc
	over   chan struct{}  // closed when no try is left
	work   sync.WaitGroup // tries, and questions for something else

	mu     sync.Mutex
	begun  bool // the host waits, or did
	failed bool // a try failed by itself
	shut   bool // the host itself refused our keys while it waited: the network between us is well
	asking bool // elsewhere is being called
	fresh  FreshTry
	line   FreshTry // of the lines that were tried after that of the run was lost

	foundAt   time.Time // when something else was asked for last
	lineProof bool      // a line could not be had while that could be reached
}

// NewConfirmation makes one for a run on t, which the host waits for at most window; nil when that is 0.
// elsewhere names something else that can be reached at the moment of the call, "" when nothing can;
// nil: nothing is asked for. It is ended with End.
func (p *Pusher) NewConfirmation(t link.Target, run string, window time.Duration, elsewhere func(context.Context) string) *Confirmation {
	if window <= 0 {
		return nil
	}
	c := &Confirmation{p: p, target: t, run: run, window: window, elsewhere: elsewhere, lookAfter: window / 3, over: make(chan struct{})}
	// Not even the end of the deployer ends it: a host that was left now would go back for nothing.
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.look, c.enough = context.WithCancel(context.Background())
	return c
}

// lookSoon is lookAfter where nobody knows how much of the host's window is left.
const lookSoon = time.Second

// Reattached says that the run was begun by an earlier process: the host may have waited for most of its
// window already, and goes back sooner than the window of c tells.
func (c *Confirmation) Reattached() {
	if c != nil {
		c.lookAfter = min(c.lookAfter, lookSoon)
	}
}

// begin begins to confirm, once. It returns at once.
func (c *Confirmation) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.begun || c.ctx.Err() != nil {
		return
	}
	c.begun = true
	c.fresh = FreshTry{Tried: true, Err: errNoAnswer}
	c.work.Go(c.confirm)
}

var errNoAnswer = errors.New("the host did not answer in time")

// confirm tries until the host has heard it, or its time is over.
func (c *Confirmation) confirm() {
	defer close(c.over)
	ctx, cancel := context.WithTimeoutCause(c.ctx, c.window, errNoAnswer)
	defer cancel()
	defer time.AfterFunc(c.lookAfter, c.lookElsewhere).Stop()

	wait := confirmFirst
	for try := 0; ; try++ {
		err := c.once(ctx, try == 0)
		if ctx.Err() != nil && err != nil {
			return // it was cut short, which tells nothing new
		}
		c.note(err)

		isFinal := err == nil || errors.Is(err, errSaidNo) || errors.Is(err, link.ErrClosed)
		if errors.Is(err, link.ErrAuth) {
			wait = max(wait, confirmRefused)
		}
		if isFinal || !pause(ctx, wait) {
			return
		}
		if wait *= 2; !errors.Is(err, link.ErrAuth) {
			wait = min(wait, confirmMost)
		}
	}
}

// errSaidNo is a host that was reached, and does not wait for that run.
var errSaidNo = errors.New("the host does not wait to be confirmed")

// once confirms over one fresh connection. ahead: the host is told with the command that starts its
// helper, which saves a round trip.
func (c *Confirmation) once(ctx context.Context, ahead bool) error {
	ask := func(w io.Writer) error {
		return wire.WriteFrame(w, bundle.FrameAsk, bundle.Ask{Verb: bundle.AskConfirm, Run: c.run})
	}
	first := ask
	if !ahead || c.p.Memory.isPlainOnly(c.target.Name) {
		first = nil
	}

	defer c.p.Trace.Span(c.target.Name+" confirm", "confirm", "")() // beside what the run's own line does
	s, err := c.p.openBy(ctx, c.p.Links.FreshHelper, c.target, 0, first)
	if err != nil {
		return err
	}
	defer s.Close()

	if first == nil {
		if err := ask(s.stream); err != nil {
			return s.why(err)
		}
	}
	m, err := s.r.Next()
	if err != nil {
		return s.why(err)
	}
	reply, ok := m.(*bundle.HostReply)
	if !ok {
		return wire.Misplaced(m)
	}
	s.over = true
	if !reply.Error.IsEmpty() {
		return &plain.Quote{What: "the host says", Said: reply.Error, Cause: errSaidNo}
	}
	return nil
}

// note notes how a try ended. A failed one has something else asked for.
func (c *Confirmation) note(err error) {
	c.mu.Lock()
	c.shut = c.shut || isRefusedLogin(err)
	isKnown := c.fresh.Elsewhere != "" || c.shut
	if wentBack := errors.Is(err, errSaidNo); wentBack && c.failed && isKnown {
		c.enough() // the tries before tell why nobody confirmed it in time
		c.mu.Unlock()
		return
	}

	c.fresh.Err = err
	isAnswer := err == nil || errors.Is(err, errSaidNo)
	if isAnswer {
		c.enough()
		c.fresh.Elsewhere = ""
	} else {
		c.failed = true
	}
	c.mu.Unlock()

	if !isAnswer {
		c.lookElsewhere()
	}
}

// isRefusedLogin says that the host itself takes none of the deployer's keys. Its jump host may say so too, behind which
// nobody knows of the host.
func isRefusedLogin(err error) bool {
	var reached *link.Error
	return errors.As(err, &reached) && reached.Kind == link.ErrAuth && errors.Is(err, link.ErrKeysRefused)
}

// lineTried notes that a line to the host was tried after the one of the run was lost, from began on:
// one that can't be had tells as much as a fresh connection, since the host may wait by now.
func (c *Confirmation) lineTried(began time.Time, err error) {
	if c == nil {
		return
	}

	c.mu.Lock()
	c.lineProof = c.lineProof || c.provesCutOff(began, err)
	if err == nil {
		c.mu.Unlock()
		return
	}
	if c.ctx.Err() == nil {
		c.line.Tried, c.line.Err = true, err
	}
	c.mu.Unlock()
	c.lookElsewhere()
}

// reached notes that a line to the host was had while it waited: what came of lines before proves nothing.
func (c *Confirmation) reached() {
	if c == nil {
		return
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	c.line, c.lineProof = FreshTry{}, false
}

// provesCutOff says that a line could not be had while something else could be reached: it was begun
// after that, or went on for long. One that failed before proves nothing, since the network of the deployer
// may have come back in between. It is called under mu.
func (c *Confirmation) provesCutOff(began time.Time, err error) bool {
	if c.line.Elsewhere == "" {
		return false
	}
	if began.After(c.foundAt) {
		return err != nil
	}
	return time.Since(c.foundAt) >= slowLine
}

// lookFor is how long something else has to answer.
const lookFor = 5 * time.Second

// lookElsewhere asks for something else, in the background: once more when what was found before is old, since the
// network of the deployer may have gone away since then. Once a host is known to have waited for its whole window it
// has gone back: what can be reached since then does not tell why nobody confirmed it.
func (c *Confirmation) lookElsewhere() {
	c.mu.Lock()
	defer c.mu.Unlock()
	into := &c.line
	if c.begun {
		into = &c.fresh
	}
	isOld := c.begun && time.Since(c.foundAt) >= c.lookAfter
	needless := c.asking || into.Err == nil || into.Elsewhere != "" && !isOld
	if c.elsewhere == nil || needless || c.isOver() || c.ctx.Err() != nil {
		return
	}

	c.asking = true
	c.work.Go(func() {
		ctx, cancel := context.WithTimeout(c.look, lookFor)
		defer cancel()
		found := c.elsewhere(ctx)

		c.mu.Lock()
		defer c.mu.Unlock()
		c.asking = false
		toldInTime := !errors.Is(into.Err, errSaidNo) || c.failed // else it was reached, only too late
		if into.Err != nil && toldInTime {
			into.Elsewhere, c.foundAt = found, time.Now()
		}
	})
}

// isOver says that no fresh connection is tried any more.
func (c *Confirmation) isOver() bool {
	select {
	case <-c.over:
		return true
	default:
		return false
	}
}

// patience is how long the result of a lost run may take because the host waits.
func (c *Confirmation) patience() time.Duration {
	if c == nil {
		return 0
	}
	return c.window + reattach
}

// End ends it, and says what came of it. With finish, a confirmation that is under way is ended only by
// the host's window.
func (c *Confirmation) End(finish bool, filter *Filter) FreshTry {
	if c == nil {
		return FreshTry{}
	}

	c.mu.Lock()
	begun := c.begun
	c.mu.Unlock()
	if finish && begun {
		<-c.over
	}
	c.mu.Lock()
	c.cancel() // nothing is begun from here on
	c.mu.Unlock()
	c.work.Wait()
	c.enough()

	t := c.result()
	switch {
	case errors.Is(t.Err, errSaidNo):
		t.Text = "when it could ask, the host had gone back already"
	case t.Err != nil:
		t.Text = filter.Reveal(t.Err)
	}
	return t
}

// result chooses what tells more. That no line could be had counts where no fresh connection failed
// by itself: then the host was heard again only after it had gone back.
func (c *Confirmation) result() FreshTry {
	c.mu.Lock()
	defer c.mu.Unlock()

	heard := c.begun && c.fresh.Err == nil
	if c.line.Tried && !c.failed && !heard {
		t := c.line
		if !c.lineProof {
			t.Elsewhere = ""
		}
		return t
	}

	t := c.fresh
	if c.shut && t.Err != nil {
		t.Elsewhere = cmp.Or(t.Elsewhere, itself)
	}
	return t
}

// itself names the host as what could be reached, where it refused our keys.
const itself = "its sshd"
