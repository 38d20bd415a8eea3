package host

import (
	"context"
	"errors"
)

// queue asks for what ran before the reboot. Boot has made up its mind already, without the
// units that were just enabled again; and to wait for a job here would be a deadlock. A unit that the run
// brought may have failed by now: without its file it is only noise.
func (u *undoer) queue(ctx context.Context) error {
	var gone []string
	for _, w := range u.j.Units {
		if w.New && !w.Ran {
			gone = append(gone, w.Name)
		}
	}
	errs := []error{u.m.Systemd.ResetFailed(ctx, gone)}

	for _, w := range u.j.Units {
		if w.Ran && w.Start && !w.Key {
			errs = append(errs, u.m.Systemd.Queue(ctx, "start", w.Name))
		}
	}
	return errors.Join(errs...)
}
