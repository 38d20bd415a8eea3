package push

import (
	"context"
	"errors"

	"bellhop/internal/bundle/wire"
	"bellhop/internal/link"
)

// A Fate is what became of a push.
type Fate int

// Fates.
const (
	Ended     Fate = iota // the host said what came of it
	Waiting               // it can't be reached or pushed now: it may be later
	Refused               // what must be put right first is in the repo or on the deployer
	Failed                // the host does not keep to the protocol, or speaks another
	Denied                // the login may not become root, or the helper does not run
	WrongKey              // the host showed another key than is pinned: nothing was sent
	Lost                  // the line broke when the host may have been at work: nobody knows
	Left                  // the same, since this deployer ends: the host goes on by itself
	Cancelled             // this deployer ends, and the host was not at work
)

// fated is an error whose fate is known where it is made.
type fated struct {
	fate Fate
	err  error
}

func (e *fated) Error() string {
	if e.fate == Lost {
		return "line lost while it was at work: " + e.err.Error()
	}
	return e.err.Error()
}

func (e *fated) Unwrap() error { return e.err }

// lost marks an error that came when everything was sent.
func lost(err error) error { return &fated{Lost, err} }

// refused marks what no retry cures in this push. It is not held against the bundle: an address,
// a URL or an identity that is put right leaves the digest as it was.
func refused(err error) error { return &fated{Refused, err} }

// Final is err as one that no retry cures.
func Final(err error) error { return refused(err) }

// ErrDeadline is the cause of a context that ends because the host's time is over.
var ErrDeadline = errors.New("the host's deadline passed")

// FateOf is the fate that an error means by itself: Ended for nil.
func FateOf(err error) Fate {
	var own *fated
	var key *link.HostKeyError

	switch {
	case err == nil:
		return Ended
	case errors.Is(err, wire.ErrProtocol):
		return Failed
	case errors.As(err, &own):
		return own.fate
	case errors.As(err, &key):
		return WrongKey
	case errors.Is(err, link.ErrSudo), errors.Is(err, link.ErrHelper):
		return Denied
	}
	return Waiting
}

// FateIn is FateOf for a push under ctx, which may have been ended.
func FateIn(ctx context.Context, err error) Fate {
	fate := FateOf(err)
	if !errors.Is(context.Cause(ctx), context.Canceled) {
		return fate
	}

	switch fate {
	case Lost:
		return Left
	case Waiting:
		return Cancelled
	}
	return fate
}

// Passes says that err may be gone in a second.
func Passes(err error) bool {
	for _, lasts := range []error{link.ErrClosed, link.ErrAuth, context.Canceled, ErrDeadline} {
		if errors.Is(err, lasts) {
			return false
		}
	}
	return FateOf(err) == Waiting
}

// IsAway says that the host did not answer at all.
func IsAway(err error) bool {
	return errors.Is(err, link.ErrUnreachable) && !errors.Is(err, link.ErrThere)
}
