package plan

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"bellhop/deploy/commits"
	"bellhop/deploy/routes"
	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/history/results"
	"bellhop/internal/history/stops"
)

// What a run does with one host. The decision is a function of what is wanted and what is known.

// facts are what is known of a host when it is planned.
type facts struct {
	last    history.Host // as history remembers it
	pushing bool         // an earlier run is at work on it
	stopped bool         // a run of the same commit stopped before it came to the host

	cancelled bool // somebody cancelled a run of the same commit before it came to the host

	settled bool // nothing about it differs since the newest plan, and it has a time to be tried again

	// held is what the host is to hold while services of it fail; nil: all that is wanted.
	held *Isolation

	// failure is how the bundle that is wanted failed there.
	failure func(digest string) (history.Failure, bool)

	now time.Time
}

// factsOf is what is known of a host that is planned. It is called under steps.
func (d Comparer) factsOf(host, commit string) facts {
	last, _ := d.History.Host(host)
	known := facts{
		last:    last,
		pushing: d.Hosts.Pushing(host),
		settled: d.Watches && !d.Planner.differ.hosts[host],
		failure: func(digest string) (history.Failure, bool) { return d.Hosts.Failure(host, digest) },
		now:     time.Now(),
	}
	known.stopBy(d.History.Stops().At(host), commit)
	return known
}

// stopBy says whether stop was of a run of the commit.
func (known *facts) stopBy(stop stops.Stop, commit string) {
	isSame := commit != "" && stop.Commit == commit
	known.stopped = isSame && stop.CancelledBy == ""
	known.cancelled = isSame && stop.CancelledBy != ""
}

// decide says what to do with one host, from what is wanted and what is known.
func decide(p *Plan, w *wanted, known facts) *HostPlan {
	last := known.last
	elsewhere := last.Reach.Elsewhere(routes.Reach(w.host))
	if elsewhere {
		last.Digest, last.Systemd = "", 0 // what the machine holds that is pinned now is not known
	}

	hp := &HostPlan{Name: w.host.Name, Host: w.host, Bundle: w.bundle, Last: last, Elsewhere: elsewhere, Units: noUnits()}
	if known.pushing {
		hp.State = history.Deploying
		return hp
	}

	holdsAll := w.err == nil && isCurrent(w.bundle, last)
	wantsHeld := known.held != nil && !holdsAll
	if wantsHeld {
		hp.Isolation, hp.Bundle = known.held, known.held.Bundle
	}
	if w.err != nil && !wantsHeld {
		hp.State, hp.Error, hp.evidence = history.Refused, fleet.ErrorText(w.err), systemEvidence(w.err)
		if failed := systemError(w.err); failed != nil {
			hp.State = systemState(failed, last)
		}
		return hp
	}

	chosen := p.Chose(hp.Name)
	asked := chosen && p.Request.All // a person asked to contact it, whatever is known
	retry := chosen && p.Request.Retry
	failure, failed := known.failureOf(hp)
	failed = failed && !elsewhere
	tryFailed := retry || chosen && p.Request.TakeOver
	missing := firstOf(tooOld(hp.Bundle, last))
	isPersons := chosen && p.Request.isPersons()
	isCancelled := known.cancelled && !isPersons
	isLeftOut := known.stopped && !retry || isCancelled
	mayBeMended := retry && last.State == history.HeldBack // a unit that was masked may be free by now

	switch {
	case isCurrent(hp.Bundle, last) && !wantsHeld:
		hp.State, hp.Follows, hp.Push = history.Current, true, asked || mayBeMended
	case failed && !tryFailed:
		hp.State, hp.Error, hp.Reason = failure.State, failure.Error, failure.Reason
	case isLeftOut:
		hp.State, hp.Error = last.State, last.Error
	case secondTry(last, hp.Wanted()).After(known.now) && !asked && !tryFailed:
		hp.State, hp.Error, hp.Reason, hp.TryAgainAt = last.State, last.Error, last.Reason, secondTry(last, hp.Wanted())
	case missing != "" && !asked && !retry:
		hp.State, hp.Error = history.Refused, missing
	case isCurrent(hp.Bundle, last):
		hp.withoutFailing(p)
		hp.Push = asked
	default:
		hp.State, hp.Push = waiting(last), chosen
		if p.Request.Trigger == TriggerClock && known.settled && isStuck(last, hp.Wanted()) {
			hp.State, hp.Push = last.State, false
		}
		if hp.State == last.State {
			hp.Error = last.Error
		}
	}

	return hp
}

// failureOf is how the bundle of a host failed there, the whole one or the composed one.
func (known facts) failureOf(hp *HostPlan) (history.Failure, bool) {
	if f, failed := known.failure(hp.Wanted()); failed {
		return f, true
	}
	return known.failure(hp.Bundle.Digest)
}

// isCurrent says that a host holds b, as far as history knows.
func isCurrent(b *fleet.Bundle, last history.Host) bool {
	if last.State == history.Unknown || last.State == history.Deploying {
		return false
	}
	hadNothing := !last.Had && last.Digest == ""
	return last.Digest == b.Digest || b.Empty() && hadNothing
}

// tooOld says of each service what of it a host can't do by the systemd that it had at the last contact;
// nothing when it can do all, or is not known. Who asks to contact it finds out whether it was upgraded
// meanwhile.
func tooOld(b *fleet.Bundle, last history.Host) map[string]string {
	const then = "; once it is upgraded: bellhop deploy --retry"
	if last.Systemd == 0 {
		return nil
	}

	all := b.TooNew(last.Systemd)
	for _, k := range b.Keys {
		if k.Seal && last.Systemd < bundle.SealingSystemd {
			all[k.Service] = fmt.Sprintf("key %s: persist: sealed needs systemd %d, and the host had %d%s", k.Name, bundle.SealingSystemd, last.Systemd, then)
		}
	}
	return all
}

// firstOf is what is wrong with the first of some services; "" for none.
func firstOf(all map[string]string) string {
	names := slices.Sorted(maps.Keys(all))
	if len(names) == 0 {
		return ""
	}
	return all[names[0]]
}

// isStuck says that a host was tried with b and could not be brought to hold it. A run by the clock
// need not try it again while nothing about it changes; a push, a start or a person always does.
func isStuck(last history.Host, wanted string) bool {
	switch last.State {
	case history.Pending, history.Unknown, history.Refused, history.Failed:
		return last.Wanted == wanted
	}
	return false
}

// waiting is the state of a host that is to be pushed.
func waiting(last history.Host) history.State {
	switch {
	case last.IsUnheard():
		return last.State
	case !last.Had:
		return history.Never
	}
	return history.Behind
}

// detail finds what a push will change, and refuses one that would take too much away.
func detail(ctx context.Context, a commits.Archive, p *Plan, hp *HostPlan) error {
	old, digest, err := a.LastManifest(ctx, hp.Last)
	if err != nil {
		return err
	}

	hp.Old, hp.From, hp.Prune = old, digest, hp.Hold.GoesBack() || p.Request.AllowPrune || allows(consents(p.Snapshot.Message, AllowPrune), hp.Name)
	c := p.changes.of(digest, old, hp.Bundle)
	hp.Changes, hp.Units, hp.Containers = c.changes, c.units, c.containers

	last := hp.Last
	last.Name = hp.Name
	if c.guard != "" && !hp.Prune {
		if hp.Prune = consented(ctx, a, p.Snapshot, last, AllowPrune); !hp.Prune {
			hp.refuse("%s: pass --allow-prune, or commit with the trailer \"%s: %s %s\"", c.guard, AllowTrailer, AllowPrune, hp.Name)
			return nil
		}
	}

	isAllowed := hp.Hold.GoesBack() || p.Request.AllowNewVolumes
	if c.volumes != "" && !isAllowed && !consented(ctx, a, p.Snapshot, last, AllowVolumes) {
		hp.refuse("%s: pass --allow-new-volumes, or commit with the trailer \"%s: %s %s\"", c.volumes, AllowTrailer, AllowVolumes, hp.Name)
	}
	return nil
}

// refuse keeps a push from the host until a person consents.
func (hp *HostPlan) refuse(format string, args ...any) {
	hp.State, hp.Push, hp.Follows, hp.Error = history.Refused, false, false, fmt.Sprintf(format, args...)
}

// secondTry is when a host that was not confirmed is tried again with the bundle of that digest; the zero
// time when it does not wait for that.
func secondTry(last history.Host, digest string) time.Time {
	waits := last.State == history.Unconfirmed && last.Reason == results.ReasonAway && last.Wanted == digest
	if !waits {
		return time.Time{}
	}
	return last.ReasonAt.Add(SecondChance)
}

// SecondChance is how long after the first time a bundle that was not confirmed is tried again, at the
// earliest.
const SecondChance = 2 * time.Minute
