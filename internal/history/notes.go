package history

import (
	"encoding/json"
	"slices"
	"strings"

	"bellhop/internal/bundle"
)

// Notes are what a person must know of a result besides what changed and what failed: edits
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

// detailsOf is what is stored of a result besides the columns: what people are shown, what
// became of units, that it was cut off, and why it was unconfirmed. Most results have none of it.
func detailsOf(details any, reason Reason) (string, error) {
	res, ok := details.(*bundle.Result)
	if ok {
		few := struct {
			CutOff    bool     `json:"cut_off,omitempty"`
			Reason    Reason   `json:"reason,omitempty"`
			Restored  []string `json:"restored,omitempty"`
			Edits     []string `json:"edits,omitempty"`
			Kept      []string `json:"kept,omitempty"`
			Started   []string `json:"started,omitempty"`
			Stopped   []string `json:"stopped,omitempty"`
			Restarted []string `json:"restarted,omitempty"`
			Reloaded  []string `json:"reloaded,omitempty"`
			Drifted   []string `json:"drifted,omitempty"`
			Warnings  []string `json:"warnings,omitempty"`
		}{res.CutOff, reason, res.Restored, res.Edits, res.Kept, res.Started, res.Stopped, res.Restarted, res.Reloaded, res.Drifted, res.Warnings}
		n := len(few.Restored) + len(few.Edits) + len(few.Kept) + len(few.Started) + len(few.Stopped) + len(few.Restarted) + len(few.Reloaded) +
			len(few.Drifted) + len(few.Warnings)
		if n == 0 && !few.CutOff && reason == "" {
			return noDetails, nil
		}
		details = few
	} else if details == nil {
		return noDetails, nil
	}
	p, err := json.Marshal(details)
	return string(p), err
}

const noDetails = "{}"

// notesOf reads them from what was stored of a result.
func notesOf(details string) []string {
	if details == noDetails {
		return nil
	}
	var res bundle.Result
	if json.Unmarshal([]byte(details), &res) != nil {
		return nil
	}
	return Notes(&res)
}
