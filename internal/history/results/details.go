package results

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

// RestoredOf reads them from what was stored of a result.
func RestoredOf(details string) []Restored {
	out := []Restored{}
	var res bundle.Result
	if details == NoDetails || json.Unmarshal([]byte(details), &res) != nil {
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

// Details is what is stored of a result besides the columns: what people are shown, what
// became of units, that it was cut off, and why it was unconfirmed. Most results have none of it.
func Details(details any, reason Reason) (string, error) {
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
			return NoDetails, nil
		}
		details = few
	} else if details == nil {
		return NoDetails, nil
	}

	p, err := json.Marshal(details)
	return string(p), err
}

// NoDetails are those of a result that has none.
const NoDetails = "{}"

// NotesOf reads them from what was stored of a result.
func NotesOf(details string) []string {
	if details == NoDetails {
		return nil
	}
	var res bundle.Result
	if json.Unmarshal([]byte(details), &res) != nil {
		return nil
	}
	return bundle.Notes(&res)
}

// ReasonOf reads it from what was stored of a result.
func ReasonOf(details string) *Reason {
	var d struct{ Reason Reason }
	if details == NoDetails || json.Unmarshal([]byte(details), &d) != nil || d.Reason == "" {
		return nil
	}
	return &d.Reason
}
