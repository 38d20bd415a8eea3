package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"bellhop/deploy/follow"
	"bellhop/internal/history"
)

// A progress shows a run as it goes on: one live line per host for a terminal, plain lines
// of what ended or deserves a word in a pipe.
type progress struct {
	w      io.Writer
	p      paint
	live   bool
	indent string // before each line
	only   bool   // no word of the run itself

	mu    sync.Mutex
	rows  []*progressRow
	shown int // live lines on the screen, below the cursor's column
	began time.Time
}

type progressRow struct {
	host, step, text string
	outcome          history.Outcome // "" while it runs
	began, ended     time.Time
}

// progressOn shows progress on stderr, so that stdout stays what was asked for.
func (e *Env) progressOn(w io.Writer) *progress {
	return &progress{w: w, p: e.paintFor(w), live: isTerminal(w) && e.Getenv("TERM") != "dumb", began: time.Now()}
}

// event shows one event. It is called by several goroutines.
func (g *progress) event(ev follow.Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if ev.Host == "" {
		g.run(ev)
		return
	}

	row := g.row(ev)
	if ev.Step == "note" {
		g.redraw(fmt.Sprintf("%s%s: %s\n", g.indent, ev.Host, indentRest(ev.Text, g.indent+"  ")))
		return
	}

	row.step, row.text = ev.Step, ev.Text
	if ev.Step == "end" {
		row.outcome, row.ended = ev.Outcome, ev.At
	}

	isTold := slices.Contains([]string{"undo", "detached", string(history.Deploying)}, ev.Step)
	switch {
	case g.live:
		g.redraw("")
	case isTold || row.outcome != "":
		g.line(row)
	}
}

// raw shows an event as it comes over the socket.
func (g *progress) raw(b json.RawMessage) {
	if ev, ok := eventOf(b); ok {
		g.event(ev)
	}
}

// run shows an event of the run itself, above the hosts.
func (g *progress) run(ev follow.Event) {
	if ev.Text == "" || ev.Step == "end" || g.only {
		return
	}
	g.redraw(fmt.Sprintf("%s%s\n", g.indent, g.p.dim(ev.Text)))
}

func (g *progress) row(ev follow.Event) *progressRow {
	for _, r := range g.rows {
		if r.host == ev.Host {
			return r
		}
	}
	r := &progressRow{host: ev.Host, began: ev.At}
	i, _ := slices.BinarySearchFunc(g.rows, ev.Host, func(r *progressRow, name string) int { return strings.Compare(r.host, name) })
	g.rows = slices.Insert(g.rows, i, r)
	return r
}

func (g *progress) line(r *progressRow) {
	if r.outcome == "" {
		fmt.Fprintf(g.w, "%s%s: %s: %s\n", g.indent, r.host, r.step, r.text)
		return
	}
	text := r.text
	if isFailure(r.outcome) {
		text = "" // the end of the run tells each cause once
	}
	fmt.Fprintf(g.w, "%s%s: %s%s\n", g.indent, r.host, r.outcome, colon(indentRest(text, g.indent+"  ")))
}

// isFailure says that an outcome has an error, which the end of the run tells.
func isFailure(o history.Outcome) bool {
	return o != history.OutcomeDone && o != history.OutcomeNothing
}

func colon(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}

// redraw writes the live lines anew, in one write so that nothing flickers, and above them
// what shall stay. Lines are cut to the width of the terminal: a wrapped one could not be
// taken back.
func (g *progress) redraw(above string) {
	var b strings.Builder
	if g.shown > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", g.shown)
	}
	b.WriteString(above)
	if g.live {
		lines := g.lines()
		g.shown = strings.Count(lines, "\n")
		b.WriteString(lines)
	}

	io.WriteString(g.w, b.String())
}

func (g *progress) lines() string {
	width, height := 80, 24
	if f := fileOf(g.w); f != nil {
		if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 20 {
			width, height = w, h
		}
	}

	name := 0
	for _, r := range g.rows {
		name = max(name, len(r.host))
	}

	rows, hidden := g.visible(height - 3)
	var b strings.Builder
	for _, r := range rows {
		b.WriteString(g.liveLine(r, name, width))
	}

	if hidden > 0 {
		fmt.Fprintf(&b, "%s… and %s done\n", g.indent, count(hidden, "host"))
	}

	return b.String()
}

// visible leaves out hosts that ended when there are more than fit.
func (g *progress) visible(most int) (rows []*progressRow, hidden int) {
	over := len(g.rows) - most
	for _, r := range g.rows {
		if over > 0 && r.outcome != "" {
			over--
			hidden++
			continue
		}
		if len(rows) < most {
			rows = append(rows, r)
		}
	}
	return rows, hidden
}

func (g *progress) liveLine(r *progressRow, name, width int) string {
	mark, word, end := g.p.cyan("•"), r.step, time.Now()
	if r.outcome != "" {
		end = r.ended
		word = string(r.outcome)
		mark = g.p.green("✓")
		if isFailure(r.outcome) {
			mark = g.p.red("✗")
		}
	}

	text, _, _ := strings.Cut(r.text, "\n")
	room := width - name - len(g.indent) - 26
	if rs := []rune(text); len(rs) > max(room, 0) {
		text = string(rs[:max(room-1, 0)]) + "…"
	}

	return fmt.Sprintf("%s%s %-*s  %-11s %7s  %s\n", g.indent, mark, name, r.host, word, took(end.Sub(r.began)), g.p.dim(text))
}
