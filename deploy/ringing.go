package deploy

import (
	"context"
	"sync/atomic"

	"bellhop/deploy/bell"
	"bellhop/deploy/follow"
	"bellhop/deploy/plan"
	"bellhop/internal/history"
)

// NewBell returns the bell of d, and hears d's progress from now on.
func NewBell(d *Deployer) *bell.Bell {
	logs := follow.NewLogs()
	before := d.Progress
	d.Progress = func(e follow.Event) {
		logs.Add(e)
		if before != nil {
			before(e)
		}
	}

	b := bell.New(bell.Runs{
		Prepare: d.prepare, Wait: d.Wait, Watch: d.Watch, Unwatch: d.unwatch,
		Head:   func() func(context.Context) (string, error) { return d.Head },
		Pauses: d.History.Pauses(), Logs: logs, Log: d.log,
	})
	d.bell.set(b)
	return b
}

// prepare is a run that a person can cancel from now on.
func (d *Deployer) prepare(req plan.Request) bell.Run {
	stop := &cancelling{}
	return bell.Run{
		Make:   func(ctx context.Context) (*history.Run, error) { return d.run(ctx, req, stop) },
		Cancel: stop.cancel,
	}
}

// unwatch closes what Watch keeps open, once nobody is looking at hosts any more.
func (d *Deployer) unwatch() {
	d.looks.Work.Wait()
	d.lines.Stop()
}

// A bellRef is the bell of a deployer, which may have none: a command makes one run and ends.
type bellRef struct{ bell atomic.Pointer[bell.Bell] }

func (r *bellRef) set(b *bell.Bell) { r.bell.Store(b) }

// ring asks for a run, when there is a bell.
func (r *bellRef) ring(cause string) {
	if b := r.bell.Load(); b != nil {
		b.Ring(cause)
	}
}

// pushWaits says that another run is asked for, by more than the clock.
func (r *bellRef) pushWaits() bool {
	b := r.bell.Load()
	return b != nil && b.PushWaits()
}
