package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"bellhop/internal/history"
)

// How things look. Colour goes only to a terminal that wants it (NO_COLOR, TERM=dumb), and
// nothing is told by colour alone: a pipe, a log and a person who sees no colour read the
// same words.

// A paint wraps words in colour, or leaves them.
type paint bool

func (p paint) in(code, s string) string {
	if !p || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p paint) bold(s string) string   { return p.in("1", s) }
func (p paint) dim(s string) string    { return p.in("2", s) }
func (p paint) red(s string) string    { return p.in("31", s) }
func (p paint) green(s string) string  { return p.in("32", s) }
func (p paint) yellow(s string) string { return p.in("33", s) }
func (p paint) cyan(s string) string   { return p.in("36", s) }

func (e *Env) outPaint() paint { return e.paintFor(e.Stdout) }
func (e *Env) errPaint() paint { return e.paintFor(e.Stderr) }

func (e *Env) paintFor(w io.Writer) paint {
	return paint(isTerminal(w) && e.Getenv("NO_COLOR") == "" && e.Getenv("TERM") != "dumb")
}

// isTerminal tells whether a person reads w, or types r.
func isTerminal(v any) bool {
	f := fileOf(v)
	return f != nil && term.IsTerminal(int(f.Fd()))
}

// state paints a text that says that hosts are in state s.
func (p paint) state(s history.State, text string) string {
	switch s {
	case history.Current:
		return p.green(text)
	case history.Failed, history.RolledBack, history.Unconfirmed, history.Refused:
		return p.red(text)
	case history.Behind, history.Pending, history.Held, history.HeldBack, history.Deploying:
		return p.yellow(text)
	}
	return p.dim(text)
}

// outcome paints the outcome of a run.
func (p paint) outcome(o history.Outcome) string {
	switch o {
	case history.OutcomeDone:
		return p.green(string(o))
	case history.OutcomeNothing, running:
		return p.dim(string(o))
	case history.OutcomePartial, history.OutcomePending, history.OutcomeHeldBack:
		return p.yellow(string(o))
	}
	return p.red(string(o))
}

// writeJSON prints v as people and jq like it.
func (e *Env) writeJSON(v any) error {
	enc := json.NewEncoder(e.Stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// A table prints columns. Cells are plain text; colour would count as width, so a row's
// paint is put on by column after the widths are known.
type table struct {
	rows [][]string
	hues []func(int, string) string
}

func (t *table) row(cells ...string) { t.painted(nil, cells...) }

func (t *table) painted(hue func(col int, cell string) string, cells ...string) {
	t.rows = append(t.rows, cells)
	t.hues = append(t.hues, hue)
}

func (t *table) write(w io.Writer) {
	widths := map[int]int{}
	for _, r := range t.rows {
		for i, c := range r {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	for n, r := range t.rows {
		var line strings.Builder
		for i, c := range r {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c))
			if i == len(r)-1 {
				pad = ""
			}
			if t.hues[n] != nil {
				c = t.hues[n](i, c)
			}
			line.WriteString(c + pad)
			if i < len(r)-1 {
				line.WriteString("  ")
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// short is a commit as people quote it.
func short(commit string) string {
	if len(commit) > 7 {
		return commit[:7]
	}
	return commit
}

// took prints a duration as people say it.
func took(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// ago prints how long ago t was.
func ago(now, t time.Time) string {
	d := now.Sub(t)
	switch {
	case t.IsZero():
		return "–"
	case d < 2*time.Second:
		return "just now"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return fmt.Sprintf("%d days ago", int(d.Hours()/24))
}

// count says "1 host", "2 hosts".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
