package fleet

import (
	"context"
	"errors"
	"fmt"
)

// A budget bounds what one load may use in all, whatever the files say. Each step draws from it
// before it does its work; what is spent ends the load with a Problem that names the file. A nil
// budget has no bounds.
type budget struct {
	ctx     context.Context
	bytes   int64 // read
	entries int   // of folders
	nodes   int   // of YAML
	turns   int   // of templates
	text    int64 // that templates made
	spent   bool  // one of them, or the time: what was made since may be cut short
	file    string
	step    func(file string) // hears of each file before it is worked on; nil: nobody
}

// Bounds of one load. Each is far above what the largest fleet in the tests uses.
const (
	maxReadBytes   = 4 << 30
	maxEntries     = 200_000
	maxLoadNodes   = 4_000_000
	maxLoadTurns   = 100_000_000
	maxLoadOutput  = 512 << 20
	turnsPerLook   = 1024 // turns between two looks at the context
	maxFolderDepth = 128
)

// spentError says which bound of the whole load was reached.
type spentError struct{ what string }

func (e spentError) Error() string { return e.what }

func (b *budget) spend(what string) error {
	if b != nil {
		b.spent = true
	}
	return spentError{what}
}

func newBudget(ctx context.Context) *budget { return &budget{ctx: ctx} }

// at notes the file that is worked on next, to be named when the load ends within it.
func (b *budget) at(file string) {
	if b == nil {
		return
	}
	b.file = file
	if b.step != nil {
		b.step(file)
	}
}

// problem is err as a Problem, if it says that the load must end.
func (b *budget) problem(err error) (*Problem, bool) {
	var spent spentError
	switch {
	case errors.As(err, &spent):
		return &Problem{File: b.file, Message: spent.what}, true
	case b.ended() != nil:
		return &Problem{File: b.file, Message: fmt.Sprintf("reading it was ended: %v", b.ended())}, true
	}
	return nil, false
}

// ended is why the load must end, if it must.
func (b *budget) ended() error {
	if b == nil || b.ctx.Err() == nil {
		return nil
	}
	b.spent = true
	return context.Cause(b.ctx)
}

func (b *budget) read(n int64) error {
	if b == nil {
		return nil
	}
	if b.bytes += n; b.bytes > maxReadBytes {
		return b.spend(fmt.Sprintf("the files of this commit are larger than %d GiB in all", int64(maxReadBytes)>>30))
	}
	return b.ended()
}

func (b *budget) list(n int) error {
	if b == nil {
		return nil
	}
	if b.entries += n; b.entries > maxEntries {
		return b.spend(fmt.Sprintf("more than %s files and folders", thousands(maxEntries)))
	}
	return b.ended()
}

// node counts a node of YAML.
func (b *budget) node() bool {
	if b == nil {
		return true
	}
	if b.nodes++; b.nodes > maxLoadNodes {
		b.spent = true
		return false
	}
	return true
}

func (b *budget) turn() error {
	if b == nil {
		return nil
	}
	if b.turns++; b.turns > maxLoadTurns {
		return b.spend("the templates of this commit turn too often in all")
	}
	if b.turns%turnsPerLook == 0 {
		return b.ended()
	}
	return nil
}

func (b *budget) output(n int) error {
	if b == nil {
		return nil
	}
	if b.text += int64(n); b.text > maxLoadOutput {
		return b.spend(fmt.Sprintf("the templates of this commit make more than %d MiB in all", maxLoadOutput>>20))
	}
	return b.ended()
}
