package history

import (
	"encoding/json"
	"slices"
	"strings"

	"bellhop/internal/bundle"
)

// Notes are what a person must hear of a result besides what changed and what failed: edits
// that were taken back, what stays behind, what was stopped by hand.
func Notes(res *bundle.Result) []string {
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
func withEdits(res *bundle.Result) []string {
	out := slices.Clone(res.Restored)
	for i := range out[:min(len(out), len(res.Edits))] {
		if res.Edits[i] != "" {
			out[i] += " (the edit is " + res.Edits[i] + ")"
		}
	}
	return out
}

// notesOf reads them from what was stored of a result.
func notesOf(details string) []string {
	var res bundle.Result
	if json.Unmarshal([]byte(details), &res) != nil {
		return nil
	}
	return Notes(&res)
}
