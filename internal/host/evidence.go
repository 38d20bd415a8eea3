package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/check"
	"bellhop/internal/host/health"
	"bellhop/internal/host/keyfiles"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/state"
	"bellhop/internal/mask"
)

// What is kept of what failed. An undone run leaves nothing of it on the host but the journal of
// systemd, which may be gone by the time that somebody looks.
const (
	evidenceLines = 50
	evidenceLine  = 2 << 10  // bytes of one line
	evidenceEach  = 16 << 10 // bytes of the lines of one thing
	journalTime   = 10 * time.Second
)

// A blameError is an error that is due to services.
type blameError struct {
	err      error
	services []string
	evidence []bundle.Evidence
}

func (e *blameError) Error() string { return e.err.Error() }

func (e *blameError) Unwrap() error { return e.err }

// blame puts into the result which services cause is due to, and what was seen of them.
func (r *run) blame(cause error) {
	var of *blameError
	if errors.As(cause, &of) {
		r.res.Failing, r.res.Evidence = of.services, r.withoutKeys(of.evidence)
		return
	}
	var no *check.Refusal
	if errors.As(cause, &no) {
		r.res.Failing = no.Services
	}
}

// withoutKeys is evidence as it may be written to disk. A unit that prints a key must not bring its
// value there by way of bellhop.
func (r *task) withoutKeys(all []bundle.Evidence) []bundle.Evidence {
	if len(all) == 0 {
		return nil
	}
	return maskEvidence(all, r.mask())
}

// maskEvidence is evidence with each text as take makes it.
func maskEvidence(all []bundle.Evidence, take func(string) string) []bundle.Evidence {
	for i := range all {
		if all[i].Result != "" {
			all[i].Result = take(all[i].Result)
		}
		all[i].Lines = mask.Lines(take, all[i].Lines)
	}
	return all
}

// plainText is the text of an error as it may be written to disk: an answer that a service gave, with a
// key in it, may be quoted there.
func (r *task) plainText(err error) string { return r.mask()(err.Error()) }

// mask is what takes the values of the keys of this host out of a text.
func (r *task) mask() func(string) string { return maskOf(r.m, r.offer.Manifest.Keys) }

func maskOf(m state.Dir, keys []bundle.Key) func(string) string {
	take, err := keyfiles.Of(m).Mask(keys...)
	if err == nil {
		return take
	}
	withheld := fmt.Sprintf("‹withheld: a key's value may stand here, and they can't be looked for: %v›", err)
	return func(string) string { return withheld }
}

// withoutValues is warnings as they may be written to disk: they quote errors of programs, which may
// quote a key.
func withoutValues(warnings []string, take func(string) string) []string {
	for i := range warnings {
		warnings[i] = take(warnings[i])
	}
	return warnings
}

// An evidence gathers what was seen of failures, at most bundle.MaxEvidence bytes.
type evidence struct {
	journal machine.Journal // nil: there is none
	since   time.Time       // when the run began: what was said before is not of it
	all     []bundle.Evidence
	size    int
}

// add takes in a failure of a unit or of a probe.
func (e *evidence) add(ctx context.Context, f health.Failure) {
	if f.Probe != nil {
		lines := splitLines(f.Answer.Body)
		if f.Answer.Invocation != "" {
			lines = e.linesOf(ctx, f.Answer.Unit, f.Answer.Invocation)
		}
		e.put(bundle.Evidence{Service: f.Service, Probe: f.Probe.Name(), Result: f.Answer.Wrong, Exit: f.Answer.Status}, lines)
		return
	}
	one := bundle.Evidence{Service: f.Service, Unit: f.Unit, Result: f.State.Result, Exit: cmp.Or(f.State.Exit.Signal, f.State.Exit.Status)}
	e.put(one, e.linesOf(ctx, f.Unit, f.State.Invocation))
}

// linesOf are the last lines that a unit wrote in one life, else in any of the run.
func (e *evidence) linesOf(ctx context.Context, unit, invocation string) []string {
	if e.journal == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, journalTime)
	defer cancel()
	lines := e.journal.Lines(ctx, unit, invocation, e.since, evidenceLines)
	if len(lines) == 0 && invocation != "" { // it died before, and its next life has said nothing yet
		lines = e.journal.Lines(ctx, unit, "", e.since, evidenceLines)
	}
	return lines
}

// put adds one with as many of its last lines as there is room for.
func (e *evidence) put(one bundle.Evidence, lines []string) {
	const cost = 64 // of an entry, beside its texts
	e.size += len(one.Service) + len(one.Unit) + len(one.Probe) + len(one.Result) + cost
	if e.size > bundle.MaxEvidence {
		return
	}

	room := min(evidenceEach, bundle.MaxEvidence-e.size)
	for _, line := range slices.Backward(lines[max(0, len(lines)-evidenceLines):]) {
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
	e.all = append(e.all, one)
}

// splitLines are the lines of a text; nil for none.
func splitLines(text string) []string {
	text = strings.TrimRight(text, "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}
