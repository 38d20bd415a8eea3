package problem

import (
	"fmt"
	"strings"
)

// maxCandidates bounds a search for what a typist meant.
const maxCandidates = 10_000

// Near is the candidate that a typist most likely meant by name, or "".
func Near(name string, candidates []string) string {
	best, dist := "", 3
	if len(name) < 5 {
		dist = 2
	}
	for _, c := range candidates[:min(len(candidates), maxCandidates)] {
		if d := distance(strings.ToLower(name), strings.ToLower(c), dist); d < dist {
			best, dist = c, d
		}
	}

	return best
}

// DidYouMean is a question to end a message with, or "".
func DidYouMean(name string, candidates []string) string {
	if c := Near(name, candidates); c != "" && c != name {
		return fmt.Sprintf("; did you mean %q?", c)
	}
	return ""
}

// Hints bounds how often suggestions are looked for: among many names each costs a look at all.
type Hints struct{ given int }

// Spent says whether no more suggestions are looked for.
func (h *Hints) Spent() bool { return h.given >= Max }

func (h *Hints) DidYouMean(name string, candidates []string) string {
	if h.given++; h.given > Max {
		return ""
	}
	return DidYouMean(name, candidates)
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
			hasTwo := i > 1 && j > 1
			if hasTwo && a[i-1] == b[j-2] && a[i-2] == b[j-1] { // two letters in the other order
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}

		prev2, prev = prev, cur
	}

	return prev[len(b)]
}
