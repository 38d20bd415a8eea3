package page

import (
	"fmt"
	"html/template"
	"strings"
	"time"

	"bellhop/internal/history"
)

// funcs are what templates can call.
var funcs = template.FuncMap{
	"ago": ago, "short": short, "shape": shape, "look": look, "outcome": outcomeWord, "command": command,
	"took": took, "rfc": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"clock": clock, "held": heldWords,
	"between": func(from time.Time, to *time.Time) string { return took(to.Sub(from).Milliseconds()) },
	"unit":    func(name string) string { return strings.TrimSuffix(name, ".service") },
	"dash": func(s *string) string {
		if s == nil {
			return "–"
		}
		return *s
	},
	"num": number, "yes": func(is *bool) bool { return is != nil && *is },
	"text": func(v any) string { return fmt.Sprint(v) },
}

// number is what n points to, which a template would take for true; 0 where nothing is known.
func number(n *int) int {
	if n == nil {
		return 0
	}
	return *n
}

// clock is a time, or what a pointer to one points to.
func clock(t any) string {
	at, ok := t.(time.Time)
	if p, isPointer := t.(*time.Time); isPointer && p != nil {
		at, ok = *p, true
	}
	if !ok {
		return "never"
	}
	return at.UTC().Format("2006-01-02 15:04:05 UTC")
}

// ago is how long before now a time was; t may be a time or a pointer to one.
func ago(now time.Time, t any) string {
	var at time.Time
	switch x := t.(type) {
	case time.Time:
		at = x
	case *time.Time:
		if x == nil {
			return "never"
		}
		at = *x
	}

	d := now.Sub(at)
	switch {
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return fmt.Sprintf("%d days ago", int(d.Hours()/24))
}

func took(ms int64) string {
	return (time.Duration(ms) * time.Millisecond).Round(10 * time.Millisecond).String()
}

// short is a commit as people write it.
func short(commit *string) string {
	if commit == nil || *commit == "" {
		return "–"
	}
	return (*commit)[:min(7, len(*commit))]
}

func outcomeWord(o *history.Outcome) string {
	if o == nil {
		return "running"
	}
	return string(*o)
}

// look is the class of a state or an outcome: how it is drawn.
func look(word string) string {
	switch word {
	case "current", "done", "nothing":
		return "good"
	case "failed", "rolled-back", "unconfirmed", "refused", "partial", "held-back":
		return "bad"
	case "pending", "behind", "held", "cancelled", "unknown", "never":
		return "wait"
	case "deploying", "running":
		return "work"
	}
	return "bad" // a state that is not known is read as a failure
}

// shapes are what a state looks like without colour, by its look.
var shapes = map[string]string{"good": "●", "bad": "✕", "wait": "◐", "work": "▸"}

func shape(word string) string { return shapes[look(word)] }

// command is what a person types about a host in that state; "" is nothing.
func command(h history.HostStatus) string {
	isLeftOut := h.State == history.Behind && h.Error != nil && h.CancelledBy == nil
	switch {
	case h.State == history.Released:
		return "bellhop host remove " + h.Name
	case h.AwaySince != nil:
		return "bellhop host check " + h.Name
	case h.Held != nil && h.Held.Test != nil:
		return "git push origin --delete " + h.Held.Test.Branch
	case h.Held != nil:
		return "bellhop resume " + h.Name
	case h.State == history.Refused:
		return "bellhop check"
	case isLeftOut:
		return "bellhop deploy --retry " + h.Name
	}

	switch h.State {
	case history.Failed, history.RolledBack, history.HeldBack, history.Unconfirmed:
		return "bellhop deploy --retry " + h.Name
	case history.Pending:
		return "bellhop host check " + h.Name
	case history.Behind, history.Unknown, history.Never:
		return "bellhop deploy " + h.Name
	}

	if h.Keys.Present < h.Keys.Expected {
		return "bellhop key push " + h.Name
	}

	return ""
}
