package commits

import (
	"context"
	"errors"
	"fmt"

	"bellhop/gitsync"
)

// A Snapshot is one commit of the config repo, as a read-only tree.
type Snapshot = gitsync.Snapshot

// A Source is where commits come from: a clone (From), or in a test whatever one likes. Sync
// must be set.
type Source struct {
	// Sync asks the remote for the branch's head, and returns it. An error that is ErrRefused
	// says that the head must not be followed.
	Sync func(ctx context.Context) (Snapshot, error)
	// Look is Sync for a plan that is only shown. What Sync reports only once, such as that the
	// branch was rewritten, stays for Sync to report.
	// Nil: Sync.
	Look func(ctx context.Context) (Snapshot, error)
	// SyncRewritten is Sync for who accepts a history that was rewritten where Sync refuses it. Nil: Sync.
	SyncRewritten func(ctx context.Context) (Snapshot, error)
	// Head asks the remote for the branch's head and fetches nothing. Nil: a push that comes
	// shortly after another waits for the bell's gap.
	Head func(ctx context.Context) (string, error)
	// Far says that Head asks another machine.
	Far bool
	// At returns an older commit. Nil: keys and texts of older generations can't be had.
	At func(ctx context.Context, commit string) (Snapshot, error)
	// Since returns the messages of the commits that head holds and last does not. Nil: only
	// the newest commit's message is known.
	Since func(ctx context.Context, last, head string) ([]string, error)
	// Keep is called with the commits of the generations that are kept. Nil: it is not called.
	Keep func(commits []string) error
}

// From makes a Source of a clone. A history that was rewritten, and must not be followed, is
// ErrRefused.
func From(r *gitsync.Repo) Source {
	return Source{
		Sync: refusing(r.Sync), Look: refusing(r.Look), SyncRewritten: r.SyncRewritten,
		Head: r.Head, Far: r.Far(), At: r.At, Since: r.Since, Keep: r.Keep,
	}
}

func refusing(look func(context.Context) (Snapshot, error)) func(context.Context) (Snapshot, error) {
	return func(ctx context.Context) (Snapshot, error) {
		s, err := look(ctx)
		if errors.Is(err, gitsync.ErrRewritten) {
			err = fmt.Errorf("%w: %w", ErrRefused, err)
		}
		return s, err
	}
}

// ErrRefused says that a run was refused as a whole; errors.Is finds it.
var ErrRefused = errors.New("refused")

// Refuse is err as one that refuses a commit or a run as a whole, on purpose.
func Refuse(err error) error { return refusal{err} }

type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

func (r refusal) Is(err error) bool { return err == ErrRefused }
