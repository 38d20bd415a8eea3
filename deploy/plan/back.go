package plan

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bellhop/deploy/commits"
	"bellhop/deploy/contact"
	"bellhop/deploy/routes"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/history/stops"
	"bellhop/internal/plain"
)

// A Backward plans the hosts that a rollback brings back. Either all hosts that it chose are planned, or nothing
// is done.
type Backward struct {
	Comparer
	Req Request
	At  time.Time // when the run began
}

// A goingBack is what one host goes back to, and what is said of it.
type goingBack struct {
	hold *stops.Hold
	note string
}

// planBack plans the hosts that go back, and no others. It is called under steps.
func (r *Backward) Plan(ctx context.Context, snap commits.Snapshot, f *fleet.Fleet) (*Plan, error) {
	d := r.Comparer
	r.Req.Retry = true // a person asks
	p := &Plan{Snapshot: snap, Fleet: f, Before: r.Planner.takeBefore(), Request: r.Req}
	chosen, err := f.Select(r.Req.On)
	if err != nil {
		return nil, r.unchosen(err)
	}
	if r.Req.On != "" {
		p.Chosen = map[string]bool{}
		for _, h := range chosen {
			p.Chosen[h.Name] = true
		}
	}
	if err := d.Hosts.ReadFailures(d.History); err != nil {
		return nil, err
	}

	held, refused := d.heldPlans(p), map[string]error{}
	for _, h := range chosen {
		hp, err := r.planOneBack(ctx, held, h.Name)
		if err != nil {
			refused[h.Name] = err
			continue
		}
		p.Hosts = append(p.Hosts, hp)
	}
	if len(refused) > 0 {
		return nil, refusedBack(refused, len(chosen))
	}

	p.Order = d.waves(p)
	return p, nil
}

// unchosen is err of choosing hosts; of one that left the repo it says so.
func (r *Backward) unchosen(err error) error {
	for name := range strings.SplitSeq(r.Req.On, ",") {
		name = strings.TrimSpace(name)
		if h, known := r.History.Host(name); known && h.State == history.Released {
			return commits.Refuse(fmt.Errorf("rollback: %s left the repo, and is left as it stands: put it back into the repo first", name))
		}
	}
	return fmt.Errorf("choose hosts by %q: %w", r.Req.On, err)
}

// refusedBack says which hosts can't go back, and why. Nothing was done to the others.
func refusedBack(refused map[string]error, chosen int) error {
	names := slices.Sorted(maps.Keys(refused))
	byCause, lines := map[string][]string{}, []string(nil) // a run that nobody knows is the cause for all of them
	for _, name := range names {
		cause := fleet.ErrorText(refused[name])
		byCause[cause] = append(byCause[cause], name)
	}
	for cause, hosts := range byCause {
		lines = append(lines, strings.Join(hosts, ", ")+": "+cause)
	}
	slices.Sort(lines)

	text := "rollback: nothing was done, since not all of these hosts can go back\n" + strings.Join(lines, "\n")
	if len(names) == chosen {
		text = "rollback: " + strings.Join(lines, "\n")
	} else if len(names) <= 5 {
		text += "\nleave them out: bellhop rollback '!" + strings.Join(names, "' '!") + "'"
	}
	return commits.Refuse(errors.New(plain.Text(text, contact.MaxText)))
}

// planOneBack plans one host that goes back.
func (r *Backward) planOneBack(ctx context.Context, held *heldPlans, host string) (*HostPlan, error) {
	d := r.Comparer
	w, known := d.Planner.wanted[host], d.factsOf(host, "")
	if known.last.Reach.Elsewhere(routes.Reach(w.host)) {
		return nil, errors.New("another machine has its name since, which held nothing yet")
	}

	back, err := r.backOf(ctx, w, known.last)
	if err != nil {
		return nil, err
	}
	if !holdsWhat(known.last, back.hold) {
		if _, err := held.past.OfHold(ctx, host, back.hold); err != nil {
			return nil, err
		}
	}

	hp := held.plan(ctx, w, known, back.hold)
	hp.BeginsHold, hp.Note, hp.FormerHold = true, back.note, d.History.Holds().Of(host)
	if !hp.Push {
		return hp, nil
	}
	return hp, detail(ctx, held.past.Archive, held.p, hp)
}

// backOf decides what a host goes back to.
func (r *Backward) backOf(ctx context.Context, w *wanted, last history.Host) (goingBack, error) {
	d, host := r.Comparer, w.host.Name
	before := d.History.Holds().Of(host)
	back := goingBack{hold: &stops.Hold{By: r.Req.By, Reason: plain.Line(r.Req.Rollback.Reason, MostReason), Since: r.At.UTC().Truncate(time.Second), Run: r.Req.RunID}}
	if w.err == nil {
		back.hold.Wanted = w.bundle.Digest
	}
	if before != nil {
		back.hold.Left = slices.Clone(before.Left)
	}

	var err error
	if to := r.Req.Rollback.To; to != "" {
		err = r.backTo(ctx, to, host, back.hold)
	} else {
		err = r.backFrom(w, last, before, &back)
	}
	if err != nil {
		return back, err
	}

	for _, left := range []string{last.Digest, back.hold.Wanted} {
		isNew := left != "" && left != back.hold.Digest && !slices.Contains(back.hold.Left, left)
		if isNew {
			back.hold.Left = append(back.hold.Left, left)
		}
	}
	if f, failed := d.Hosts.Failure(host, back.hold.Digest); failed {
		back.note = fmt.Sprintf("%s: what it goes back to failed there in run %s, and is tried again: %s", host, f.Run, firstLine(f.Error))
	}
	return back, nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// backTo has a hold name what the host held after a run.
func (r *Backward) backTo(ctx context.Context, to, host string, hold *stops.Hold) error {
	past, err := r.History.Holds().After(ctx, to, host)
	switch {
	case errors.Is(err, history.ErrNoRun):
		return fmt.Errorf("no run %s is remembered: bellhop history lists those that are", plain.Line(to, 60))
	case errors.Is(err, history.ErrNotOver):
		return fmt.Errorf("run %s is still at work: wait for its end, or name an earlier one", to)
	case errors.Is(err, history.ErrNothingHeld):
		return fmt.Errorf("nothing is known of what it held after run %s: bellhop history %s lists its runs", to, host)
	case err != nil:
		return err
	}

	hold.Digest, hold.Commit = past.Digest, past.Commit
	if g, ok := r.Archive.Generation(host, past.Digest); ok {
		hold.Commit, hold.Origins = g.Commit, g.Origins
	}
	return nil
}

// backFrom has a hold name what the host held before what it holds, or what it holds where that is not
// what the head wants. before is the hold that it is in already.
func (r *Backward) backFrom(w *wanted, last history.Host, before *stops.Hold, back *goingBack) error {
	const how = "to bring it to a commit, revert to that in the repo and push"
	generations := r.History.Generations(last.Name)
	if len(generations) == 0 || !last.Had {
		return errors.New("history knows of nothing that it had before; " + how)
	}

	if before != nil && before.Digest != "" && last.Digest != before.Digest {
		if _, failed := r.Hosts.Failure(last.Name, before.Digest); !failed {
			back.hold.Digest, back.hold.Commit, back.hold.Origins = before.Digest, before.Commit, before.Origins
			back.note = last.Name + ": it is not yet where the rollback before brings it to, which is tried again"
			return nil
		}
	}

	holdsNewest := w.err == nil && last.Digest == w.bundle.Digest
	isAtHead := last.Follows || last.State == history.HeldBack || holdsNewest
	skipped := func(digest string) bool {
		wasLeft := before != nil && (digest == before.Digest || slices.Contains(before.Left, digest))
		return digest == last.Digest || wasLeft
	}
	if last.Digest != "" && before == nil && !isAtHead {
		back.note = last.Name + ": it does not hold what the newest commit wants, and is held where it stands; another rollback takes it further back"
		skipped = func(digest string) bool { return digest != last.Digest }
	}

	for _, g := range generations {
		if !skipped(g.Digest) {
			back.hold.Digest, back.hold.Commit, back.hold.Origins = g.Digest, g.Commit, g.Origins
			return nil
		}
	}
	if before != nil {
		return fmt.Errorf("it is %s; history knows of nothing older that it had. To go to a run by its id: bellhop rollback %s --to RUN; to the newest commit: bellhop resume %s", before.Text(), last.Name, last.Name)
	}
	return errors.New("history knows of nothing older that it had; " + how)
}
