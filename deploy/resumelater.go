package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"bellhop/deploy/follow"
	"bellhop/internal/history"
)

// Who resumes a host while runs are paused wants two things: that the host is held no longer, which a pause
// does not stand against, and that it gets the head of the branch, which comes with the first run after the
// pause. So the hold ends at once, and the run is done with that.

// errResumedLater says that a run ended holds, and that the rest of it waits for the end of a pause.
var errResumedLater = errors.New("hosts are held no longer, and wait for the end of the pause")

// resumeLater ends the holds of the hosts that r resumes. Where it asks for none that is held, r is refused
// like any other run.
func (r *run) resumeLater(ctx context.Context, paused *PausedError) error {
	hosts, err := r.heldHosts()
	if err != nil || len(hosts) == 0 {
		return errors.Join(err, paused)
	}

	for _, host := range hosts {
		hold := r.d.History.Holds().Of(host)
		note := fmt.Sprintf("%s is held no longer: somebody resumed it (%s); it gets the newest commit when the pause ends", host, hold.Text())
		r.head.Notes = append(r.head.Notes, note)
		r.event(follow.Event{Host: host, Step: "note", Text: note})
	}
	if err := r.d.History.Holds().End(ctx, hosts, "resumed by "+r.req.By+"; it gets the newest commit when the pause ends"); err != nil {
		return err
	}
	for _, host := range hosts { // resuming tries again what failed there
		r.d.hosts.DropFailures(host)
	}
	r.d.log().Info("hosts are held no longer, while runs are paused", "run", r.head.ID, "hosts", strings.Join(hosts, ", "))

	// The commit that waits is not tried by this run, so nothing may count the run among those of it.
	r.head.Commit, r.head.Author, r.head.Subject = "", "", ""
	return errResumedLater
}

// heldHosts are the hosts that r chooses and that are held, by name. Before the first plan of a process they
// can be chosen by their names alone.
func (r *run) heldHosts() (hosts []string, err error) {
	isHeld := func(name string) bool { return r.d.History.Holds().Of(name) != nil }
	if f := r.d.planner.LastFleet(); f != nil {
		chosen, err := f.Select(r.req.On)
		if err != nil {
			return nil, fmt.Errorf("choose hosts by %q: %w", r.req.On, err)
		}
		for _, h := range chosen {
			if isHeld(h.Name) {
				hosts = append(hosts, h.Name)
			}
		}
		return hosts, nil
	}

	for name, h := range r.d.History.Hosts() {
		isNamed := slices.Contains(strings.Split(r.req.On, ","), name)
		if isNamed && isHeld(name) && h.State != history.Released {
			hosts = append(hosts, name)
		}
	}
	slices.Sort(hosts)
	return hosts, nil
}
