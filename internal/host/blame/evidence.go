package blame

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/health"
	"bellhop/internal/host/machine"
	"bellhop/internal/mask"
)

// What is kept of what failed. An undone run leaves nothing of it on the host but the journal of
// systemd, which may be gone by the time that somebody looks.
const (
	MostLines    = 50       // of one thing
	evidenceLine = 2 << 10  // bytes of one line
	evidenceEach = 16 << 10 // bytes of the lines of one thing
	journalTime  = 10 * time.Second
)

// An Error is an error that is due to services.
type Error struct {
	Err      error
	Services []string
	Evidence []bundle.Evidence
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// Mask is evidence with each text as take makes it.
func Mask(all []bundle.Evidence, take func(string) string) []bundle.Evidence {
	for i := range all {
		if all[i].Result != "" {
			all[i].Result = take(all[i].Result)
		}
		if all[i].Why != "" {
			all[i].Why = take(all[i].Why)
		}
		all[i].Lines = mask.Lines(take, all[i].Lines)
	}
	return all
}

// MaskWarnings is warnings as they may be written to disk: they quote errors of programs, which may
// quote a key.
func MaskWarnings(warnings []string, take func(string) string) []string {
	for i := range warnings {
		warnings[i] = take(warnings[i])
	}
	return warnings
}

// A Gatherer gathers what was seen of failures, at most bundle.MaxEvidence bytes.
type Gatherer struct {
	Journal machine.Journal // nil: there is none
	Since   time.Time       // when the run began: what was said before is not of it
	All     []bundle.Evidence
	size    int
}

// Add takes in a failure of a unit or of a probe.
func (e *Gatherer) Add(ctx context.Context, f health.Failure) {
	if f.Probe != nil {
		lines := splitLines(f.Answer.Body)
		if f.Answer.Invocation != "" {
			lines = e.LinesOf(ctx, f.Answer.Unit, f.Answer.Invocation)
		}
		e.Put(bundle.Evidence{Service: f.Service, Probe: f.Probe.Name(), Result: f.Answer.Wrong, Exit: f.Answer.Status, Why: whyOf(f.Err)}, lines)
		return
	}
	one := bundle.Evidence{Service: f.Service, Unit: f.Unit, Result: f.State.Result, Exit: cmp.Or(f.State.Exit.Signal, f.State.Exit.Status), Why: whyOf(f.Err)}
	e.Put(one, e.LinesOf(ctx, f.Unit, f.State.Invocation))
}

// whyOf is the sentence about a failure, cut where it is very long.
func whyOf(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	if len(text) > evidenceLine {
		text = strings.ToValidUTF8(text[:evidenceLine], "") + "…"
	}
	return text
}

// LinesOf are the last lines that a unit wrote in one life, else in any of the run.
func (e *Gatherer) LinesOf(ctx context.Context, unit, invocation string) []string {
	if e.Journal == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, journalTime)
	defer cancel()
	lines := e.Journal.Lines(ctx, unit, invocation, e.Since, MostLines)
	if len(lines) == 0 && invocation != "" { // it died before, and its next life has said nothing yet
		lines = e.Journal.Lines(ctx, unit, "", e.Since, MostLines)
	}
	return lines
}

// Put adds one with as many of its last lines as there is room for.
func (e *Gatherer) Put(one bundle.Evidence, lines []string) {
	const cost = 64 // of an entry, beside its texts
	e.size += len(one.Service) + len(one.Unit) + len(one.Probe) + len(one.Result) + len(one.Why) + cost
	if e.size > bundle.MaxEvidence {
		return
	}

	room := min(evidenceEach, bundle.MaxEvidence-e.size)
	for _, line := range slices.Backward(lines[max(0, len(lines)-MostLines):]) {
		if len(line) > evidenceLine {
			line = strings.ToValidUTF8(line[:evidenceLine], "") + "…"
		}
		if room -= len(line) + 1; room < 0 {
			break
		}
		e.size += len(line) + 1
		one.Lines = append(one.Lines, line)
	}
	slices.Reverse(one.Lines)
	e.All = append(e.All, one)
}

// splitLines are the lines of a text; nil for none.
func splitLines(text string) []string {
	text = strings.TrimRight(text, "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}
