// Package push brings one host to one bundle over SSH: it offers the bundle, sends what the
// host lacks, follows the run there, and reports one Outcome.
//
// A Pusher is how hosts are reached and how long each step may take. A Job is one host and its
// bundle. A Session is a helper that said hello. A Fate is what a push came to, when the host
// gave no result. The package knows no history, no plan and no run: who needs to store
// something at a moment of a push is called back at that moment.
//
// Its promises: nothing is sent to a host that was not asked for or announced; what a host says
// is bounded in bytes, and becomes text only through a Filter, which knows the values of the
// host's keys; and a host that may be at work is never reported as one that is not.
package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/link"
	"bellhop/internal/trace"
)

const (
	attempts = 3               // offers to one host in one push
	reattach = 2 * time.Minute // how long a lost run is looked for, at least
)

// A Stream is a helper's standard input and output.
type Stream interface {
	io.ReadWriteCloser
	CloseWrite() error
	// Leave is Close for a helper that is about to end by itself.
	Leave()
}

// Links starts helpers on hosts. Nothing has been read from a Stream that it returns.
type Links interface {
	// Helper starts the helper on t. first, unless it is nil, writes what the helper hears
	// first, and may be called more than once.
	Helper(ctx context.Context, t link.Target, first func(io.Writer) error) (Stream, error)
	// FreshHelper is Helper over a connection that is made for it, through jump hosts that are
	// connected to anew too, and that ends with the Stream.
	FreshHelper(ctx context.Context, t link.Target, first func(io.Writer) error) (Stream, error)
}

// A Pusher pushes to hosts. Its fields are set before its first use.
type Pusher struct {
	Links    Links
	Deployer string // fingerprint of the deployer's SSH public key
	Memory   *Memory
	Limits   Limits
	Log      *slog.Logger
	// Mask returns what takes values of keys, and control characters, out of a text, and puts
	// something in ‹ and › in their place. Nil: only control characters are taken out.
	Mask func(keys map[string][]byte) func(string) string
	// Heard is called with each hello of a host.
	Heard func(host string, h *Hello)
	// Client fetches packages into the directory Cache. Nil: one with deadlines, and no cookies.
	Client *http.Client
	Cache  string
	// Trace gets the spans of pushes, and the steps of hosts. Nil: nothing is traced.
	Trace *trace.File
}

// Limits are the deadlines of a push. All must be set.
type Limits struct {
	Connect   time.Duration // dial, handshake, upload of the helper, hello
	Preflight time.Duration // from the offer to its answer
	Host      time.Duration // everything on one host
	Patience  time.Duration // how long a run that is at work there is waited for
	Retry     time.Duration // first wait before what may pass is tried again
}

// A Job is a push to one host.
type Job struct {
	Run     string // [a-z0-9-]{1,40}
	Network string
	Host    string
	Target  link.Target
	Bundle  *fleet.Bundle
	Shared  *Shared
	Last    Last
	Clock   *Clock // of the context of the push; nil: the host's waits count like the rest

	// Confirm is for how long the host, once the bundle is applied, waits to be confirmed over a
	// fresh connection, before it goes back by itself. 0: it does not wait.
	Confirm time.Duration
	// Earlier are ids of runs of this deployer, of which one may still be at work there, since its
	// end was not heard. It is confirmed too.
	Earlier []string
	// Lost is the id of a run of this deployer that was to bring the same bundle and whose end was not heard.
	// Where the host says that it did not stay there, that is the result of this push. "": there is none.
	Lost string
	// Elsewhere names something else that can be reached at the moment of the call, "" when
	// nothing can: so a host that was cut off is told from a deployer that is away. Nil: nobody knows.
	Elsewhere func(ctx context.Context) string

	// Origins are the commits of the services of Bundle, where it is composed; the host records them.
	Origins []bundle.Origin
	// Held are the services of Bundle that stay as the host has them.
	Held []string
	// Isolates says that services which the host refuses are held back, and the rest is pushed anew.
	Isolates bool
	// After is the run of which this one is another try; "" for a first one.
	After string

	AllowPrune bool // the run may remove more than half of what the host has
	TakeOver   bool // the host may belong to another deployer
	// GoesBack says that the host held the bundle before: no steps that come before services run, and
	// no bytes are sent that it did not ask for, since it keeps those of former bundles.
	GoesBack bool

	// Other is the name of another host of the fleet that the host says to be, "" if it names
	// none of them. Nil: no name is another's.
	Other func(h *Hello) string
	// Before is called before the host is asked for anything, until it returns no error: what the bundle needs on
	// the host that is no part of it. An error of it is one of the push. Nil: nothing is to be done.
	Before func(ctx context.Context) error
	// OnHello is called when a host that may be offered the bundle has said hello.
	OnHello func(h *Hello) error
	// OnBegin is called before the first moment at which the host may begin.
	OnBegin func() error
	// Progress hears what a person may watch. Nil: nobody watches.
	Progress func(step, text string)

	// Said are texts of the deployer that the host repeats: they pass the filter unread.
	Said []string
	// Former opens the values of keys that stand on the host and are not in Bundle. Nil: none.
	Former func() (map[string][]byte, error)

	confirmation *Confirmation // of this push
}

// Last is what the deployer remembers of a host.
type Last struct {
	Had        bool             // this deployer put something there
	Generation int64            // 0: not known
	Digest     string           // of the bundle that stands; "": not known
	Manifest   *bundle.Manifest // that was sent last; nil: not known
	From       string           // its digest
}

// An Outcome is what came of a push.
type Outcome struct {
	Fate   Fate
	Result *bundle.Result // with Ended
	BootID string         // of the boot that the host was in, with Ended
	Err    error          // with any other Fate: why
	Text   string         // of Err, with the host's words filtered
	Away   bool           // the host did not answer at all
	Fresh  FreshTry       // of a host that waited to be confirmed
}

// Push makes the host hold the bundle of j.
func (p *Pusher) Push(ctx context.Context, j *Job) Outcome {
	filter := p.filterOf(j)
	defer filter.Drop()

	j.confirmation = p.NewConfirmation(j.Target, j.Run, j.Confirm, j.Elsewhere)
	res, boot, err := p.push(ctx, j, filter)
	if err == nil {
		return Outcome{Fate: Ended, Result: res, BootID: boot, Fresh: j.confirmation.End(false, filter)}
	}

	fate := FateIn(ctx, err)
	fresh := j.confirmation.End(fate == Left, filter)
	return Outcome{Fate: fate, Err: err, Text: filter.Reveal(err), Away: IsAway(err), Fresh: fresh}
}

// push offers the bundle until something comes of it that another offer would not change.
func (p *Pusher) push(ctx context.Context, j *Job, filter *Filter) (*bundle.Result, string, error) {
	began := time.Now()
	first := p.optimistic(j)

	for try := 1; ; try++ {
		tried := time.Now()
		res, boot, err := p.offerOnce(ctx, j, filter, first)
		first = nil

		if errors.Is(err, errStale) {
			try--
			continue
		}
		if isBusy(res, err) && time.Since(began) < p.Limits.Patience && pause(ctx, p.Limits.Retry) {
			try--
			continue // another run is at work there, perhaps one of ours that was lost
		}
		if FateOf(err) == Lost {
			res, boot, err = p.fetchResult(ctx, j, filter, err)
		}

		switch {
		case err == nil && res == nil:
			err = errors.New("the line was lost before it began")
		case err == nil && isRefused(res, bundle.RefusedBase) && try < attempts:
			continue // someone else was there in between: the next hello says what stands
		case err == nil:
			return res, boot, nil
		}

		again := try < attempts && Passes(err) && !p.wasSlow(err, tried)
		if !again || !pause(ctx, p.Limits.Retry<<(try-1)) {
			return nil, "", err
		}
		p.Log.Info("trying again", "host", j.Host, "run", j.Run, "err", err)
	}
}

// offerOnce makes the optimistic offer, or, where it is nil, one after a look at the host.
func (p *Pusher) offerOnce(ctx context.Context, j *Job, filter *Filter, first *optimistic) (*bundle.Result, string, error) {
	if j.Progress != nil {
		j.Progress("connect", "")
	}
	if j.Before != nil {
		j.step("copy")
		if err := j.Before(ctx); err != nil {
			return nil, "", err
		}
		j.Before = nil
		j.step("copied")
	}
	if first != nil {
		return p.offerOptimistic(ctx, j, filter, first)
	}
	return p.offer(ctx, j, filter)
}

// step tells who watches, and the clock, what the push is at.
func (j *Job) step(name string) {
	j.Clock.step(name)
	if j.Progress != nil {
		j.Progress(name, "")
	}
}

// errBusy says that a run which was at work on the host has ended now.
var errBusy = errors.New("another run was at work")

// A NotUndoneError says that nothing can begin on a host, since a run before could not be undone whole. The
// host tries again at each contact.
type NotUndoneError struct {
	Run string // the run before
	Why string // why that failed, and what is in the way of its undo
}

func (e *NotUndoneError) Error() string {
	return fmt.Sprintf("run %s could not be undone whole there, and nothing else can begin until it is: %s", e.Run, e.Why)
}

// Is says that the host is busy with that run.
func (e *NotUndoneError) Is(target error) bool { return target == errBusy }

func isBusy(res *bundle.Result, err error) bool {
	return errors.Is(err, errBusy) || err == nil && isRefused(res, bundle.RefusedBusy)
}

func isRefused(res *bundle.Result, why string) bool {
	return res != nil && res.Outcome == bundle.OutcomeRefused && res.Refused == why
}

// wasSlow says that a host could not be reached, and that it took long to find out: another try
// would hold up the run for as long again.
func (p *Pusher) wasSlow(err error, tried time.Time) bool {
	return errors.Is(err, link.ErrUnreachable) && time.Since(tried) >= 5*p.Limits.Retry
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
