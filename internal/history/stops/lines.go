package stops

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A heldGroup are hosts that are held by one hold: those that were brought back together.
type heldGroup struct {
	by, reason, branch, commit string
	since                      time.Time
}

// Lines say which hosts are held, by whom and why, or run a test, and what ends it: one line for all that were brought
// back together, the newest first. held has the holds by host, nil for a host that is not held; ago says how long ago
// a time was.
func Lines(held map[string]*HoldStatus, ago func(time.Time) string) (lines []string) {
	names := map[heldGroup][]string{}
	var groups []heldGroup
	for host, h := range held {
		if h == nil {
			continue
		}
		g := heldGroup{by: text(h.By), reason: text(h.Reason), since: h.Since}
		if h.Test != nil {
			g.branch, g.commit = h.Test.Branch, h.Test.Commit
		}
		if names[g] == nil {
			groups = append(groups, g)
		}
		names[g] = append(names[g], host)
	}

	slices.SortFunc(groups, func(a, b heldGroup) int {
		if c := b.since.Compare(a.since); c != 0 {
			return c
		}
		return strings.Compare(slices.Min(names[a]), slices.Min(names[b]))
	})
	for _, g := range groups {
		slices.Sort(names[g])
		lines = append(lines, g.line(names[g], ago(g.since)))
	}
	return lines
}

func (g heldGroup) line(hosts []string, since string) string {
	if g.branch != "" {
		return fmt.Sprintf("test: %s is to run %.10s of branch %s since %s; it ends %s", Few(hosts), g.commit, g.branch, since, testEnds)
	}

	line := "held: " + Few(hosts) + " since " + since
	if g.by != "" {
		line += " by " + g.by
	}
	if g.reason != "" {
		line += " (" + g.reason + ")"
	}
	return line + "; bellhop resume " + Typed(hosts)
}

// mostNames is how many held hosts are named in one line.
const mostNames = 5

// Few names hosts, and counts those that are too many for a line.
func Few(hosts []string) string {
	if len(hosts) <= mostNames {
		return strings.Join(hosts, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(hosts[:mostNames], ", "), len(hosts)-mostNames)
}

// Typed are hosts as they are typed.
func Typed(hosts []string) string {
	if len(hosts) <= mostNames {
		return strings.Join(hosts, " ")
	}
	return "HOST..."
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
