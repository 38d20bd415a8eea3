package history

import (
	"encoding/json"

	"bellhop/internal/bundle"
	"bellhop/internal/history/null"
)

// A Restored is a file that somebody edited on a host, and that a run put back.
type Restored struct {
	Path string  `json:"path"`
	Edit *string `json:"edit"` // where the host keeps what it held; null when it was gone
}

// restoredOf reads them from what was stored of a result.
func restoredOf(details string) []Restored {
	out := []Restored{}
	var res bundle.Result
	if details == noDetails || json.Unmarshal([]byte(details), &res) != nil {
		return out
	}

	for i, p := range res.Restored {
		r := Restored{Path: p}
		if i < len(res.Edits) {
			r.Edit = null.Text(res.Edits[i])
		}
		out = append(out, r)
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
	return bundle.Notes(&res)
}
