package deploy

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"bellhop/deploy/bell"
	"bellhop/deploy/follow"
	"bellhop/deploy/plan"
	"bellhop/internal/history"
	"bellhop/internal/history/stops"
)

// A person cancels a run: no other host is begun. Hosts that are at work go on to their end, since a host
// is never left between two bundles. Those that were not begun are recorded before the person is
// answered, each with the commit: nothing pushes them to it until a person deploys or resumes, or there
// is another commit. So are hosts that the run could not reach, which would be tried again.

// A cancelling is what a run knows of being cancelled. Its zero value is that of a run that nobody cancelled.
type cancelling struct {
	by atomic.Pointer[string]

	mu     sync.Mutex // held until what was not begun is recorded
	batch  *batch     // nil until the plan is stored
	left   []string   // hosts that were not begun, by name
	isOver bool       // every wave has ended
}

// cancel cancels the run, unless every wave has ended.
func (c *cancelling) cancel(by string, out *bell.Cancelled) (ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.isOver {
		return false
	}
	out.Again = !c.by.CompareAndSwap(nil, &by)
	if c.batch == nil {
		return true
	}

	out.Planned = true
	c.leave()
	out.Left = append(out.Left, c.left...)
	for _, one := range c.batch.underWay() {
		out.AtWork = append(out.AtWork, one.host.Name)
	}
	slices.Sort(out.AtWork)
	return true
}

// leave cancels the batch. Who cancels once more hears of the hosts that were left then. It is called under mu.
func (c *cancelling) leave() {
	for _, hp := range c.batch.cancel() {
		c.left = append(c.left, hp.Name)
	}
	slices.Sort(c.left)
}

// begin says that hosts are pushed from now on; none is when the run was cancelled before.
func (c *cancelling) begin(b *batch) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.batch = b
	if c.who() != "" {
		c.leave()
	}
}

// end says that every wave has ended. It returns when all that was cancelled is recorded.
func (c *cancelling) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isOver = true
}

// who cancelled the run; "" when nobody did.
func (c *cancelling) who() string {
	if by := c.by.Load(); by != nil {
		return *by
	}
	return ""
}

// cancel records the hosts that were not begun, and those that would be tried again, and returns the
// former.
func (b *batch) cancel() (left []*plan.HostPlan) {
	b.mu.Lock()
	isFirst := !b.cancelled
	b.cancelled = true
	left = slices.Concat(append([][]*plan.HostPlan{b.left}, b.later...)...)
	b.left, b.later = nil, nil
	b.mu.Unlock()

	if isFirst {
		b.run.event(follow.Event{Step: "cancelled", Text: "cancelled by " + b.run.cancelling.who()})
	}
	b.leaveCancelled(left)
	for _, wave := range b.plan.Order {
		for _, hp := range wave {
			b.run.keepCancelled(hp)
		}
	}
	return left
}

// leaveCancelled ends hosts that a cancelled run did not begin.
func (b *batch) leaveCancelled(hosts []*plan.HostPlan) {
	by := b.run.cancelling.who()
	for _, hp := range hosts {
		if hp.BeginsHold {
			b.leaveBack(hp, by)
			continue
		}
		b.leave([]*plan.HostPlan{hp}, history.End{Outcome: history.OutcomeCancelled, Error: cancelledText(by), Stopped: true, CancelledBy: by})
	}
}

// leaveBack ends a host that a cancelled rollback did not begin: it stays at what it holds, and no rollback
// waits for it.
func (b *batch) leaveBack(hp *plan.HostPlan, by string) {
	why := "the rollback was cancelled by " + by
	if hp.Last.State.IsInVain() { // what kept it from the commit still does
		why = strings.TrimPrefix(strings.TrimSuffix(hp.Last.Error, "\n"+why)+"\n"+why, "\n")
	}
	e := history.End{Outcome: history.OutcomeCancelled, State: hp.Last.State, Untouched: true, Whole: hp.Wanted(), Error: why}
	b.d.end(b.run, hp, e)
	b.run.endBack(hp, why)
}

// endBack has the hold that held a host before the rollback hold it again, or none.
func (r *run) endBack(hp *plan.HostPlan, why string) {
	if err := r.d.History.Holds().TakeBack(context.Background(), hp.Name, r.head.ID, hp.FormerHold, why); err != nil {
		r.d.log().Error("end the hold of a rollback that was cancelled", "host", hp.Name, "run", r.head.ID, "err", err)
	}
}

func cancelledText(by string) string {
	return "cancelled by " + by + "; it goes on with: bellhop resume, bellhop deploy, or a new commit"
}

// keepCancelled has a host on which a cancelled run came to no end wait like those that were not begun:
// one that did not answer, or where the push was cut off or not confirmed, would be tried again.
func (r *run) keepCancelled(hp *plan.HostPlan) {
	by := r.cancelling.who()
	if by == "" {
		return
	}
	host, commit := hp.Name, hp.Commit(r.head.Commit)
	h, ok := r.d.History.Host(host)
	wasCutOff := h.State == history.Behind && h.Error != ""
	triedAgain := h.State == history.Pending || wasCutOff || h.State == history.Unconfirmed
	isOurs := ok && h.Run == r.head.ID
	if !isOurs || !triedAgain || r.d.History.Stops().At(host).Commit == commit {
		return
	}

	if hp.BeginsHold {
		r.endBack(hp, strings.TrimPrefix(h.Error+"\nthe rollback was cancelled by "+by, "\n"))
		return
	}

	why := cancelledText(by)
	if h.Error != "" {
		why = h.Error + "\n" + why
	}
	stop := stops.Stop{Commit: commit, CancelledBy: by}
	if err := r.d.History.Stops().Cancel(context.Background(), []string{host}, stop, why); err != nil {
		r.d.log().Error("remember that the run was cancelled", "host", host, "run", r.head.ID, "err", err)
	}
}
