package machine

import (
	"context"
	"time"

	"bellhop/internal/bundle"
)

// MaxBody is how much of a probe's answer is kept, bytes.
const MaxBody = 2 << 10

// An Answer is what a probe got.
type Answer struct {
	Wrong  string // what is wrong with it, for people; "" is a good answer
	Status int    // status of an HTTP answer, exit code of a command; 0 for neither
	Body   string // its first MaxBody bytes
	// Unit and Invocation name the unit that a command ran in, where its output is in the journal.
	Unit, Invocation string
}

// A Prober asks a probe once, from the host itself. It returns when ctx ends.
type Prober interface {
	Ask(ctx context.Context, p bundle.Probe) Answer
}

// A Journal has what units wrote to the host's journal.
type Journal interface {
	// Lines are the last lines of one life of a unit, or where invocation is "" of all its lives since a
	// moment of this boot (the zero time: since boot): at most so many, the newest last. What can't be
	// read is left out: the journal only explains.
	Lines(ctx context.Context, unit, invocation string, since time.Time, most int) []string
}
