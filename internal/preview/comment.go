package preview

import (
	"fmt"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/plain"
)

// A Caption is what a comment says beside the plan.
type Caption struct {
	Network    string
	Head, Base string // commits
	IsFull     bool   // each change is named; else hosts and numbers alone
}

// MaxComment is how long a comment is at most, bytes. GitHub takes 65,536 characters.
const MaxComment = 60_000

// Marker is how the comment of a network begins, by which it is found again.
func Marker(network string) string { return "<!-- bellhop plan " + word(network) + " -->" }

// Comment is the plan as Markdown. All names stand in one block of code, where no name is markup, a link or a mention.
func (p *Plan) Comment(c Caption) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n**bellhop:** %s\n", Marker(c.Network), p.sentence())

	lines := p.lines(c.IsFull)
	if len(lines) > 0 {
		b.WriteString("\n````text\n")
		writeLines(&b, lines)
		b.WriteString("````\n")
	}

	if len(p.Problems) == 0 {
		fmt.Fprintf(&b, "\nPlan `%s` of `%s`, against `%s`, which is deployed.", p.Digest, short(c.Head), short(c.Base))
		b.WriteString(" Not told: the values of keys, whether a new value equals the old one, and what hosts lack that are away, behind or held.\n")
	}
	return b.String()
}

// room is what of a comment is left for what follows the block.
const room = 1000

func writeLines(b *strings.Builder, lines []string) {
	for i, line := range lines {
		if b.Len()+len(line) > MaxComment-room {
			fmt.Fprintf(b, "and %d more lines\n", len(lines)-i)
			return
		}
		b.WriteString(line + "\n")
	}
}

// sentence has numbers alone: nothing in it was written by anybody.
func (p *Plan) sentence() string {
	if n := len(p.Problems); n > 0 {
		return fmt.Sprintf("this commit would be refused, with %s.", count(n, "problem"))
	}

	changed := 0
	var units bundle.UnitPlan
	for _, h := range p.Hosts {
		if len(h.Changes) > 0 {
			changed++
		}
		units.Start, units.Stop = append(units.Start, h.Units.Start...), append(units.Stop, h.Units.Stop...)
		units.Restart, units.Reload = append(units.Restart, h.Units.Restart...), append(units.Reload, h.Units.Reload...)
	}

	text := fmt.Sprintf("%d of %s would change", changed, count(p.Total, "host"))
	for _, u := range []struct {
		names []string
		verb  string
	}{{units.Restart, "restarted"}, {units.Reload, "reloaded"}, {units.Start, "started"}, {units.Stop, "stopped"}} {
		if len(u.names) > 0 {
			text += fmt.Sprintf(", %s %s", count(len(u.names), "unit"), u.verb)
		}
	}
	return text + "."
}

func (p *Plan) lines(isFull bool) []string {
	var lines []string
	for _, problem := range p.Problems {
		for text := range strings.Lines(problem) {
			lines = append(lines, safe(text))
		}
	}

	for _, h := range p.Hosts {
		lines = append(lines, safe(h.Name)+counts(h.Changes, isFull))
		for _, note := range h.Notes {
			lines = append(lines, "    "+safe(note))
		}
		if isFull {
			lines = append(lines, h.full()...)
		}
	}
	return lines
}

// counts says how many changes a host has, where they are not named.
func counts(cs []bundle.Change, isFull bool) string {
	if isFull || len(cs) == 0 {
		return ""
	}
	return ": " + count(len(cs), "change")
}

var signs = map[string]string{bundle.Add: "+", bundle.Modify: "~", bundle.Remove: "-"}

func (h *Host) full() []string {
	var lines []string
	for _, c := range h.Changes {
		line := fmt.Sprintf("    %s %s %s", signs[c.Action], c.Kind, safe(c.Name))
		if c.Kind == bundle.KindKey && c.Action == bundle.Modify {
			line += " (its files or its declaration)"
		}
		lines = append(lines, line)
	}

	for _, u := range []struct {
		names []string
		verb  string
	}{{h.Units.Stop, "stops"}, {h.Units.Restart, "restarts"}, {h.Units.Reload, "reloads"}, {h.Units.Start, "starts"}} {
		for _, name := range slices.Sorted(slices.Values(u.names)) {
			lines = append(lines, "    "+safe(name)+" "+u.verb)
		}
	}
	return lines
}

// maxName is how much of a name is shown.
const maxName = 500

// safe is a text that somebody wrote, as one line of a block of code: it can't end the block.
func safe(s string) string {
	s = plain.Line(plain.Visible(strings.TrimRight(s, "\n")), maxName)
	return strings.NewReplacer("`", "'", "~~~", "~ ~ ~").Replace(s)
}

// word is a name that may stand in an HTML comment.
func word(s string) string {
	return strings.Map(func(r rune) rune {
		isSmall, isCapital, isDigit := r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9'
		isSign := r == '_' || r == '.' || r == '-'
		isWord := isSmall || isCapital || isDigit
		if isWord || isSign {
			return r
		}
		return '_'
	}, s)
}

func short(commit string) string { return word(commit[:min(len(commit), 12)]) }

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
