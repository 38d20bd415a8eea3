package unitfile

import "strings"

// Near is the candidate that a typist most likely meant by name, the first of equal ones, or "". It
// is "" when name is a candidate.
func Near(name string, candidates []string) string {
	best, least := "", 3
	if len(name) < 5 {
		least = 2
	}

	for _, c := range candidates {
		if c == name {
			return ""
		}
		if d := distance(strings.ToLower(name), strings.ToLower(c), least); d < least {
			best, least = c, d
		}
	}

	return best
}

// distance counts the edits (insert, drop, change, swap of neighbours) between a and b; it
// gives up at limit.
func distance(a, b string, limit int) int {
	tooFar := len(a)-len(b) >= limit || len(b)-len(a) >= limit
	if tooFar || len(a) > 64 {
		return limit
	}

	rows := [3][]int{}
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
	}

	for j := range rows[1] {
		rows[1][j] = j
	}

	for i := 1; i <= len(a); i++ {
		before, last, now := rows[0], rows[1], rows[2]
		now[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			now[j] = min(last[j]+1, now[j-1]+1, last[j-1]+change)
			canSwap := i > 1 && j > 1
			if canSwap && a[i-2:i] == string([]byte{b[j-1], b[j-2]}) {
				now[j] = min(now[j], before[j-2]+1)
			}
		}
		rows = [3][]int{last, now, before}
	}

	return rows[1][len(b)]
}
