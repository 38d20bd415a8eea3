package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"bellhop/internal/history"
	"bellhop/internal/plain"
	"bellhop/internal/screen"
)

// status --watch: each picture takes the place of the one before. The cursor goes up by as many lines as were shown, and what
// is below is erased, in one write with the next picture: that is all that the fence before a terminal lets pass. So no line may be
// wider than the screen. The last picture stays when the watch ends.

// A statusOptions is what status can be told beside where to look.
type statusOptions struct {
	watch, exitCode bool
	every           time.Duration // between two looks of a watch
	hosts           hostFilter

	states, outcomes []string
	since            string
}

func (o *statusOptions) flags(c *cobra.Command) {
	c.Flags().BoolVar(&o.exitCode, "exit-code", false, "exit 3 when a host is not current")
	c.Flags().BoolVarP(&o.watch, "watch", "w", false, "go on until Ctrl-C, and show what changes")
	c.Flags().StringSliceVar(&o.states, "state", nil, "only hosts in such a state: failed,behind …")
	c.Flags().StringSliceVar(&o.outcomes, "outcome", nil, "only hosts whose state says that their newest run ended so: failed,rolled-back … (done and nothing are the same)")
	c.Flags().StringVar(&o.since, "since", "", "only hosts that were deployed to since then: 2h, 3d, 2026-11-30")
	o.every = time.Second
}

func (o *statusOptions) read(c *cobra.Command) (err error) {
	asJSON, _ := c.Flags().GetBool("json")
	if o.watch && (asJSON || o.exitCode) {
		return usage(c, "--watch goes with neither --json nor --exit-code")
	}
	if o.hosts.states, err = parseOneOf("state", o.states, statesKnown); err != nil {
		return err
	}
	if o.hosts.outcomes, err = parseOneOf("outcome", o.outcomes, hostOutcomes); err != nil {
		return err
	}
	o.hosts.since, err = parseSince(o.since, time.Now())
	return err
}

// watchStatus shows the status until ctx ends. A server that is away for a moment, as when it is updated, ends no watch.
func watchStatus(e *Env, ctx context.Context, f *lookFlags, o *statusOptions) error {
	show := newLineWatch(e.Stdout)
	if isTerminal(e.Stdout) && e.Getenv("TERM") != "dumb" {
		show = newScreenWatch(e.Stdout, e.outPaint())
	}

	hadOne := false
	for {
		s, served, err := readStatus(e, ctx, f)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !hadOne:
			return err
		case err != nil:
			show.lost(err)
		default:
			hadOne = true
			o.hosts.apply(&s)
			show.show(s, served, time.Now())
		}

		select {
		case <-ctx.Done():
			return nil
		case <-time.After(o.every):
		}
	}
}

// A watch shows one status after the other.
type watch interface {
	show(s history.Status, served bool, now time.Time)
	lost(err error) // the status can't be read now
}

// A screenWatch draws over what it drew before.
type screenWatch struct {
	w     io.Writer
	p     paint
	size  func() (width, height int)
	last  []string
	shown int // lines of it that are on the screen
}

func newScreenWatch(w io.Writer, p paint) watch {
	return &screenWatch{w: w, p: p, size: func() (int, int) {
		width, height, err := term.GetSize(int(fileOf(w).Fd()))
		if err != nil {
			return 80, 24
		}
		return width, height
	}}
}

func (v *screenWatch) show(s history.Status, served bool, now time.Time) {
	width, _ := v.size()
	var fleet, hosts, troubles bytes.Buffer
	printFleet(&fleet, v.p, s, served, now)
	lines := screen.Wrapped(fleet.String(), width-1)
	if len(s.Hosts) > 0 {
		printHosts(&hosts, v.p, s.Hosts, now)
		printTroubles(&troubles, v.p, s.Hosts, now)
		lines = slices.Concat(lines, []string{""}, screen.Lines(hosts.String()), screen.Wrapped(troubles.String(), width-1))
	}

	v.last = lines
	v.draw(lines)
}

// lost keeps what was shown last below its error.
func (v *screenWatch) lost(err error) {
	width, _ := v.size()
	v.draw(slices.Concat(screen.Wrapped(v.p.red("not up to date: ")+textOf(err), width-1), v.last))
}

// draw writes what fits on the screen, and says when something does not. Rows of a table are cut: they are no sentences.
func (v *screenWatch) draw(lines []string) {
	width, height := v.size()
	if most := height - 1; len(lines) > most && most > 1 {
		more := len(lines) - most + 1
		lines = append(lines[:most-1], v.p.dim(fmt.Sprintf("… and %d more lines: name hosts, or --state", more)))
	}

	var b strings.Builder
	if v.shown > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", v.shown)
	}
	for _, line := range lines {
		b.WriteString(screen.Cut(line, width-1) + "\n")
	}
	_, _ = io.WriteString(v.w, b.String())
	v.shown = len(lines)
}

// A lineWatch writes a line for each host whose state is another than before: for a log, or a pipe.
type lineWatch struct {
	w      io.Writer
	states map[string]string
	err    string
}

func newLineWatch(w io.Writer) watch { return &lineWatch{w: w, states: map[string]string{}} }

func (v *lineWatch) show(s history.Status, _ bool, now time.Time) {
	v.err = ""
	for _, h := range s.Hosts {
		state := fmt.Sprintf("%s %s", reasonedState(h), short(or(h.Commit, "–")))
		if h.Error != nil {
			state += " " + plain.Line(*h.Error, plain.MaxLine)
		}
		if v.states[h.Name] != state {
			v.states[h.Name] = state
			fmt.Fprintf(v.w, "%s %s %s\n", now.UTC().Format(time.RFC3339), h.Name, state)
		}
	}
}

func (v *lineWatch) lost(err error) {
	if text := textOf(err); text != v.err && !errors.Is(err, context.Canceled) {
		v.err = text
		fmt.Fprintf(v.w, "%s not up to date: %s\n", time.Now().UTC().Format(time.RFC3339), plain.Line(text, plain.MaxLine))
	}
}
