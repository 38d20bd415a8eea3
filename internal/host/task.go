package host

import (
	"fmt"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/health"
	"bellhop/internal/host/plan"
	"bellhop/internal/host/state"
)

// A task is what every part of a run reads: what was asked for, what is planned, and what came of it so far.
type task struct {
	m       state.Dir
	offer   bundle.Offer
	w       *plan.Plan
	res     *bundle.Result
	started time.Time
}

// event tells whoever watches.
func (r *task) event(step, text string) { r.m.Runs().Event(r.res.Run, step, text) }

// warn tells people of something in the result.
func (r *task) warn(format string, args ...any) {
	r.w.Warnings = append(r.w.Warnings, fmt.Sprintf(format, args...))
}

func (r *task) changedFile(path string) bool { return r.w.Changed[bundle.KindFile+":"+path] }

// judged is how a service is judged. One that leaves is not asked any more.
func (r *task) judged(name string) health.Service {
	s, stays := r.w.ServiceOf(name)
	one := health.Service{Name: name, Settle: s.SettleTime()}
	if stays {
		one.Probes = s.Probes
	}
	return one
}

func (r *task) oneshot(name string) bool {
	for _, u := range r.offer.Manifest.Units {
		if u.Name == name {
			return u.Oneshot
		}
	}
	return false
}
