package tree

import (
	"context"
	"errors"
	"fmt"

	"bellhop/internal/fleet/problem"
)

// A Budget bounds what one load may use in all, whatever the files say. Each step draws from it
// before it does its work; what is spent ends the load with a Problem that names the file. A nil
// budget has no bounds.
type Budget struct {
	ctx        context.Context
	bytes      int64 // read
	entries    int   // of folders
	nodes      int   // of YAML
	iterations int   // of templates
	text       int64 // that templates made
	spent      bool  // one of them, or the time: what was made since may be cut short
	file       string
	step       func(file string) // called with each file before it is worked on; may be nil
}

// Bounds of one load. Each is far above what the largest fleet in the tests uses.
const (
	maxReadBytes      = 4 << 30
	MaxEntries        = 200_000
	maxLoadNodes      = 4_000_000
	maxLoadIterations = 100_000_000
	maxLoadOutput     = 512 << 20
	iterationsPerLook = 1024 // iterations between two looks at the context
	MaxDepth          = 128
)

// spentError says which bound of the whole load was reached.
type spentError struct{ what string }

func (e spentError) Error() string { return e.what }

func (b *Budget) spend(what string) error {
	if b != nil {
		b.spent = true
	}
	return spentError{what}
}

// NewBudget is the budget of one load, which ends with ctx. step is called with each file before it is worked
// on; nil: nobody.
func NewBudget(ctx context.Context, step func(file string)) *Budget {
	return &Budget{ctx: ctx, step: step}
}

// At notes the file that is worked on next, to be named when the load ends within it.
func (b *Budget) At(file string) {
	if b == nil {
		return
	}
	b.file = file
	if b.step != nil {
		b.step(file)
	}
}

// Problem is err as a Problem, if it says that the load must end.
func (b *Budget) Problem(err error) (*problem.Problem, bool) {
	var spent spentError
	switch {
	case errors.As(err, &spent):
		return &problem.Problem{File: b.file, Message: spent.what}, true
	case b.Ended() != nil:
		return &problem.Problem{File: b.file, Message: fmt.Sprintf("reading it was ended: %v", b.Ended())}, true
	}

	return nil, false
}

// IsSpent says whether a bound was reached, so that what was made since may be cut short.
func (b *Budget) IsSpent() bool { return b.spent }

// Ended is why the load must end, if it must.
func (b *Budget) Ended() error {
	if b == nil || b.ctx.Err() == nil {
		return nil
	}
	b.spent = true
	return context.Cause(b.ctx)
}

func (b *Budget) read(n int64) error {
	if b == nil {
		return nil
	}
	if b.bytes += n; b.bytes > maxReadBytes {
		return b.spend(fmt.Sprintf("the files of this commit are larger than %d GiB in all", int64(maxReadBytes)>>30))
	}
	return b.Ended()
}

func (b *Budget) list(n int) error {
	if b == nil {
		return nil
	}
	if b.entries += n; b.entries > MaxEntries {
		return b.spend(fmt.Sprintf("more than %s files and folders", problem.Thousands(MaxEntries)))
	}
	return b.Ended()
}

// Node counts a node of YAML.
func (b *Budget) Node() bool {
	if b == nil {
		return true
	}
	if b.nodes++; b.nodes > maxLoadNodes {
		b.spent = true
		return false
	}

	return true
}

func (b *Budget) Iteration() error {
	if b == nil {
		return nil
	}
	if b.iterations++; b.iterations > maxLoadIterations {
		return b.spend("the templates of this commit turn too often in all")
	}
	if b.iterations%iterationsPerLook == 0 {
		return b.Ended()
	}
	return nil
}

func (b *Budget) Output(n int) error {
	if b == nil {
		return nil
	}
	if b.text += int64(n); b.text > maxLoadOutput {
		return b.spend(fmt.Sprintf("the templates of this commit make more than %d MiB in all", maxLoadOutput>>20))
	}
	return b.Ended()
}
