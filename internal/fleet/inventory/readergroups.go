package inventory

import (
	"maps"
	"slices"
	"strings"

	"bellhop/internal/fleet/yaml"
)

// maxReaderSteps bounds what following all groups of readers: may cost.
const maxReaderSteps = 500_000

// readerGroups follows the groups of readers: to recipients. Each group is gone through once for
// each name, however many other groups name it: groups of groups would else take time by powers
// of two.
type readerGroups struct {
	lines map[string]yaml.List
	steps int // entries looked at
}

func newReaderGroups(es yaml.Entries[yaml.List]) *readerGroups {
	g := &readerGroups{lines: make(map[string]yaml.List, len(es))}
	for _, e := range es {
		if _, dup := g.lines[e.Key]; !dup {
			g.lines[e.Key] = e.Value
		}
	}

	return g
}

// known says whether readers: has that name or pattern.
func (g *readerGroups) known(name string) bool { _, ok := g.lines[name]; return ok }

// isName says whether readers: has that name, and it is a reader or a group, not the pattern of a rule.
func (g *readerGroups) isName(name string) bool { return g.known(name) && !isRule(name) }

// isRule says whether an entry of readers: is a rule: a pattern of paths.
func isRule(name string) bool { return strings.ContainsAny(name, "/*?[") }

// spent says whether the groups name each other more often than is followed.
func (g *readerGroups) spent() bool { return g.steps > maxReaderSteps }

// expand is every recipient that name comes to, sorted.
func (g *readerGroups) expand(name string) []string {
	recipients := map[string]bool{}
	seen := map[string]bool{name: true}
	open := []string{name}

	for len(open) > 0 && !g.spent() {
		last := len(open) - 1
		name, open = open[last], open[:last]
		for _, s := range g.lines[name] {
			g.steps++
			switch {
			case recipient(s.S):
				recipients[s.S] = true
			case g.known(s.S) && !seen[s.S]:
				seen[s.S] = true
				open = append(open, s.S)
			}
		}
	}

	return slices.Sorted(maps.Keys(recipients))
}
