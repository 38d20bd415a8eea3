package page

import (
	"fmt"
	"html/template"
	"strings"
	"time"

	"bellhop/internal/history"
	"bellhop/internal/history/stops"
)

// A fleetRow is a host in the table of the fleet. Its texts are made before the template has it: for a thousand hosts the
// calls of a template cost more than all else.
type fleetRow struct {
	Name, Commit, Deployed, Keys, Seen string

	State   template.HTML // word and shape
	Marks   []mark        // what else somebody should know
	Bars    template.HTML
	Why     string // of a state that is not good
	Command string // what a person types about it
}

// A mark is a few words about a host, and how they are drawn.
type mark struct{ Look, Shape, Words string }

func newMark(look, words string) mark { return mark{Look: look, Shape: shapes[look], Words: words} }

func rowOf(now time.Time, h *history.HostStatus, b bars) fleetRow {
	r := fleetRow{
		Name: h.Name, State: stateHTML(string(h.State)), Commit: short(h.Commit), Deployed: ago(now, h.DeployedAt), Keys: "–",
		Seen: ago(now, h.SeenAt), Marks: marksOf(h), Bars: b.SVG(), Command: command(*h),
	}
	if h.Keys.Expected > 0 {
		r.Keys = fmt.Sprintf("%d of %d", h.Keys.Present, h.Keys.Expected)
	}
	r.Why = whyOf(now, h)
	return r
}

// stateHTML draws a state.
func stateHTML(state string) template.HTML {
	kind := look(state)
	return template.HTML(`<span class="state ` + kind + `"><span aria-hidden="true">` + shapes[kind] + `</span> ` + template.HTMLEscapeString(state) + `</span>`)
}

// whyOf is why a host is not as its commit wants it.
func whyOf(now time.Time, h *history.HostStatus) string {
	var parts []string
	if h.Held != nil {
		parts = append(parts, heldWords(now, h.Held))
	}
	if h.CancelledBy != nil {
		parts = append(parts, "cancelled by "+*h.CancelledBy)
	}
	if h.Error != nil {
		parts = append(parts, *h.Error)
	}
	return strings.Join(parts, "; ")
}

func heldWords(now time.Time, h *stops.HoldStatus) string {
	if h.Test != nil {
		return fmt.Sprintf("to run %.10s of branch %s, %s", h.Test.Commit, h.Test.Branch, ago(now, h.Since))
	}
	text := "held " + ago(now, h.Since)
	if h.By != nil {
		text = "held by " + *h.By + ", " + ago(now, h.Since)
	}
	if h.Reason != nil {
		text += ": " + *h.Reason
	}
	return text
}

// marksOf are what a look found, and that a host does not answer.
func marksOf(h *history.HostStatus) []mark {
	var all []mark
	if h.AwaySince != nil {
		all = append(all, newMark("wait", "does not answer"))
	}
	if h.Units != nil && len(h.Units.Failed) > 0 {
		all = append(all, newMark("bad", counted(len(h.Units.Failed), "unit")+" failed"))
	}
	if n := number(h.Drift); n > 0 {
		all = append(all, newMark("wait", counted(n, "thing")+" edited"))
	}
	if h.RebootRequired != nil && *h.RebootRequired {
		all = append(all, newMark("wait", "reboot required"))
	}
	return all
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
