package health

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
)

// A probing is a probe while it is watched. Its goroutine asks it again and again; what is known of
// it belongs to the goroutine of the watch.
type probing struct {
	service  string
	probe    bundle.Probe
	interval time.Duration
	grace    time.Duration
	kick     chan struct{} // ask now; holds one

	kicked bool // it was asked when its service had settled
	last   machine.Answer
	good   bool // it has given a good answer
	over   bool // it counts
}

// An answered is one answer, on its way to the watch.
type answered struct {
	p     *probing
	asked time.Time
	machine.Answer
}

func (w *Watch) probing(service string, p bundle.Probe) *probing {
	one := &probing{service: service, probe: p, kick: make(chan struct{}, 1)}
	one.interval = max(w.scaled(millis(p.Interval, bundle.DefaultInterval)), time.Millisecond)
	one.grace = w.scaled(millis(p.Grace, bundle.DefaultGrace))
	return one
}

// millis is a number of milliseconds, or what it is by default.
func millis(n int64, otherwise time.Duration) time.Duration {
	return cmp.Or(time.Duration(n)*time.Millisecond, otherwise)
}

// run asks until ctx ends. The last try of the grace is at its end.
func (p *probing) run(ctx context.Context, prober machine.Prober, began time.Time, out chan<- answered) {
	timeout := millis(p.probe.Timeout, bundle.DefaultTimeout)
	for {
		asked := time.Now()
		one, cancel := context.WithTimeout(ctx, timeout)
		a := prober.Ask(one, p.probe)
		cancel()
		select {
		case out <- answered{p, asked, a}:
		case <-ctx.Done():
			return
		}

		wait := p.interval
		if left := p.grace - time.Since(began); left > 0 {
			wait = min(wait, left)
		}
		select {
		case <-time.After(wait):
		case <-p.kick:
		case <-ctx.Done():
			return
		}
	}
}

// askNow has the probe asked without a wait for its interval.
func (p *probing) askNow() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// take takes in an answer that was asked for a time after the watch began, and says whether the
// probe failed by it: it must answer well within its grace, and from then on.
func (p *probing) take(a answered, began time.Time) error {
	p.last = a.Answer
	if a.Wrong == "" {
		p.good = true
		return nil
	}
	if a.asked.Sub(began) < p.grace {
		return nil
	}
	if p.good {
		return fmt.Errorf("probe %s: %s, after it had answered well", p.probe.Name(), a.Wrong)
	}

	return fmt.Errorf("probe %s: %s, %v after its service was started", p.probe.Name(), a.Wrong, p.grace.Round(time.Millisecond))
}

func (p *probing) failure(err error) Failure {
	return Failure{Service: p.service, Probe: &p.probe, Answer: p.last, Err: err}
}
