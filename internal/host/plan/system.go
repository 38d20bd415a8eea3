package plan

import (
	"fmt"

	"bellhop/internal/bundle"
	"bellhop/internal/host/nixsystem"
)

// planSystem plans how the NixOS system of the host changes. One that somebody changed by hand is
// brought back; one that the bundle names no more stays, since a host must run something.
func (w *Plan) planSystem() (err error) {
	was, want := w.Old.Manifest.System, w.Offer.Manifest.System
	if want == nil && was != nil {
		w.Kept = append(w.Kept, "system "+was.Path)
	}

	runs := want != nil && nixsystem.ReadLinks(w.m.Machine).Current == want.Path
	if runs && w.lateOwner != nil { // it makes no more users than it did
		return w.lateOwner
	}

	isThere := was != nil && want != nil
	stands := isThere && was.Path == want.Path && was.Verb() == want.Verb()
	w.System, err = nixsystem.Plan(w.m.Machine, want, stands)
	if w.System != nil && stands && w.Old.Exists {
		w.Restored = append(w.Restored, fmt.Sprintf("the system (%s ran, and the profile had %s)", w.System.Current, w.System.Profile))
		w.Edits = append(w.Edits, "")
		w.Changed[bundle.KindSystem+":"+bundle.SystemService] = true
	}
	return err
}
