package bundle

import (
	"slices"
	"strings"
)

// Notes are what a person must know of a result besides what changed and what failed: edits
// that were taken back, what stays behind, what was stopped by hand.
func Notes(res *Result) []string {
	var notes []string
	add := func(text string, of []string) {
		if len(of) > 0 {
			notes = append(notes, text+": "+strings.Join(of, ", "))
		}
	}

	add("edited on the host and put back", withEdits(res))
	add("stays on the host", res.Kept)
	add("stopped by hand and left so", res.Drifted)
	return append(notes, res.Warnings...)
}

// withEdits says where on the host the edits are.
func withEdits(res *Result) []string {
	out := slices.Clone(res.Restored)
	for i := range out[:min(len(out), len(res.Edits))] {
		if res.Edits[i] != "" {
			out[i] += " (the edit is " + res.Edits[i] + ")"
		}
	}

	return out
}
