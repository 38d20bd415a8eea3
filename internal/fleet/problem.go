package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"bellhop/internal/plain"
)

// A Problem is one thing that is wrong with the config, told so that an editor can jump to it.
type Problem struct {
	File    string // path in the repo; "" when no file is at fault
	Line    int    // from 1; 0 when the whole file is meant
	Column  int    // from 1
	Source  string // the line as it stands there
	Host    string // set: it concerns this host alone; "": it refuses the whole push
	Message string
	Warning bool // told, and nothing is refused
}

// Error is one problem as compilers write it: file:line:column: message, and below it the
// source line.
func (p *Problem) Error() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(plain.Name(p.File)) // whoever named it may have put a line end into it
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", p.Line, max(p.Column, 1))
		}
		b.WriteString(": ")
	}
	if p.Host != "" {
		b.WriteString(p.Host + ": ")
	}
	if p.Warning {
		b.WriteString("warning: ")
	}
	b.WriteString(p.Message)
	if s := strings.TrimSpace(p.Source); s != "" {
		b.WriteString("\n    " + s)
	}
	return b.String()
}

// Problems are all that is wrong, in the order of files and lines.
type Problems []*Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// sort orders ps by place and drops what is told twice.
func (ps Problems) sort() Problems {
	slices.SortStableFunc(ps, func(a, b *Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Host, b.Host), cmp.Compare(a.Message, b.Message))
	})
	return slices.CompactFunc(ps, func(a, b *Problem) bool { return *a == *b })
}

// split parts what refuses from what is only told.
func (ps Problems) split() (refuse, warn Problems) {
	for _, p := range ps {
		if p.Warning {
			warn = append(warn, p)
		} else {
			refuse = append(refuse, p)
		}
	}
	return refuse.sort(), warn.sort()
}

// err is ps as an error; nil when there are none.
func (ps Problems) err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

// near is the candidate that a typist most likely meant by name, or "".
func near(name string, candidates []string) string {
	best, dist := "", 3
	if len(name) < 5 {
		dist = 2
	}
	for _, c := range candidates {
		if d := distance(strings.ToLower(name), strings.ToLower(c), dist); d < dist {
			best, dist = c, d
		}
	}
	return best
}

// didYouMean is a question to end a message with, or "".
func didYouMean(name string, candidates []string) string {
	if c := near(name, candidates); c != "" && c != name {
		return fmt.Sprintf("; did you mean %q?", c)
	}
	return ""
}

// distance counts the edits (insert, drop, change, swap of neighbours) between a and b; it
// gives up at limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit || len(a) > 64 {
		return limit
	}
	prev2, prev := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur := make([]int, len(b)+1)
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev = prev, cur
	}
	return prev[len(b)]
}
