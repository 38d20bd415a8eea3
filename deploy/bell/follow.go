package bell

import (
	"context"

	"bellhop/deploy/follow"
	"bellhop/internal/history"
)

// Follow calls each with every event of a run that is kept, from its first, until the run has
// ended, and returns the run and its error. history.ErrNoRun says that the run is not, or no longer, known
// here; history may have it.
func (b *Bell) Follow(ctx context.Context, run string, each func(follow.Event)) (*history.Run, error) {
	return b.runs.Logs.Follow(ctx, run, each)
}

// Events are those of a run that are kept so far, the oldest first; none when the run is not, or no longer, known here.
func (b *Bell) Events(run string) []follow.Event { return b.runs.Logs.Events(run) }
