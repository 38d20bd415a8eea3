package health

import (
	"context"
	"fmt"
	"time"

	"bellhop/internal/host/machine"
)

// How often units are glanced at: a fifth of the shortest settle time, within these bounds.
const (
	glanceOften  = time.Millisecond
	glanceSeldom = 100 * time.Millisecond
)

// A watching is a Watch at work. All of it belongs to one goroutine.
type watching struct {
	*Watch
	began     time.Time
	every     time.Duration // between two glances
	units     []*watched
	probes    []*probing
	settledAt map[string]time.Time // since when the units of a service count, by service
	report    Report
}

// Run watches until all units have settled and all probes have answered well after that, or until
// something fails. An error is that the units could not be read, or that ctx ended.
func (w *Watch) Run(ctx context.Context) (*Report, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	g := w.start()
	answers := make(chan answered)
	for _, p := range g.probes {
		go p.run(ctx, w.Prober, g.began, answers)
	}
	if err := g.look(ctx, true); err != nil {
		return nil, err
	}

	for !g.ended() {
		wake := time.NewTimer(g.wait())
		select {
		case <-ctx.Done():
			wake.Stop()
			return nil, ctx.Err()
		case a := <-answers:
			g.take(a)
		case <-wake.C:
			if err := g.look(ctx, false); err != nil {
				return nil, err
			}
		}
		wake.Stop()
	}

	return &g.report, nil
}

func (w *Watch) start() *watching {
	g := &watching{Watch: w, began: time.Now(), every: glanceSeldom, settledAt: map[string]time.Time{}}
	for _, u := range w.Units {
		one := &watched{Unit: u, settle: w.settleOf(u.Service), explain: w.Explain}
		g.units = append(g.units, one)
		if one.settle > 0 {
			g.every = min(g.every, max(one.settle/5, glanceOften))
		}
	}

	for _, s := range w.Services {
		if w.Prober == nil {
			break
		}
		for _, p := range s.Probes {
			g.probes = append(g.probes, w.probing(s.Name, p))
		}
	}

	return g
}

// ended says that there is nothing more to wait for.
func (g *watching) ended() bool {
	if len(g.report.Failures) > 0 {
		return true
	}

	for _, u := range g.units {
		if !u.over {
			return false
		}
	}

	for _, p := range g.probes {
		if !p.over {
			return false
		}
	}

	return true
}

// wait is how long until units are looked at again: at the next glance, or when one has been up
// for long enough.
func (g *watching) wait() time.Duration {
	wait := g.every
	open := false
	for _, u := range g.units {
		if u.over {
			continue
		}
		open = true
		if !u.upAt.IsZero() {
			wait = min(wait, time.Until(u.upAt.Add(u.settle)))
		}
	}

	if !open { // only probes are waited for, which wake by themselves
		return Patience
	}

	return max(wait, 0)
}

// look reads the units that do not count yet. Most are only glanced at: a unit is read whole when
// it changed, and when it has been up for long enough, since only that tells of a restart between
// two glances. All of them are read whole where whole is set.
func (g *watching) look(ctx context.Context, whole bool) error {
	names := g.open()
	if len(names) == 0 {
		g.settled()
		return nil
	}

	if !whole {
		seen, err := g.Systemd.Glance(ctx, names)
		if err != nil {
			return err
		}
		if names = g.changed(seen); len(names) == 0 {
			g.late()
			return nil
		}
	}

	states, err := g.Systemd.Units(ctx, names)
	if err != nil {
		return err
	}

	g.judge(states)
	g.late()
	g.settled()
	return nil
}

// open are the units that do not count yet.
func (g *watching) open() (names []string) {
	for _, u := range g.units {
		if !u.over {
			names = append(names, u.Name)
		}
	}
	return names
}

// changed are the open units that differ from what was read of them last, or have been up for long
// enough to count.
func (g *watching) changed(seen map[string]machine.UnitState) (names []string) {
	now := time.Now()
	for _, u := range g.units {
		if u.over {
			continue
		}
		s := seen[u.Name]
		differs := s.Active != u.last.Active || s.Sub != u.last.Sub || s.Job != u.last.Job
		mayCount := !u.upAt.IsZero() && now.Sub(u.upAt) >= u.settle
		if differs || mayCount {
			names = append(names, u.Name)
		}
	}

	return names
}

// judge judges the units that were read.
func (g *watching) judge(states map[string]machine.UnitState) {
	now := time.Now()
	for _, u := range g.units {
		s, read := states[u.Name]
		if !read || u.over {
			continue
		}
		switch v, err := u.judge(s, now); v {
		case isDead:
			g.report.Failures = append(g.report.Failures, u.failure(err))
		case isDone:
			u.over = true
			if s.Active == "inactive" && s.Skipped {
				g.report.Skipped = append(g.report.Skipped, u.Name)
			}
		}
	}
}

// late fails the units whose time is over.
func (g *watching) late() {
	if len(g.report.Failures) > 0 {
		return
	}

	took := time.Since(g.began)
	for _, u := range g.units {
		if u.over || !u.read {
			continue
		}
		v, limit := waits, min(Patience, g.Limit)
		switch u.last.Active {
		case "active":
			continue // it settles
		case "activating":
			v, limit = starts, g.Limit
		}
		if took >= limit {
			g.report.Failures = append(g.report.Failures, u.failure(u.tooLate(v, limit)))
		}
	}
}

// settled notes which services have settled by now, and has their probes asked: only an answer that
// is asked for from now on counts.
func (g *watching) settled() {
	for _, p := range g.probes {
		if _, known := g.settledAt[p.service]; !known && g.isSettled(p.service) {
			g.settledAt[p.service] = time.Now()
		}
	}

	for _, p := range g.probes {
		if _, settled := g.settledAt[p.service]; settled && !p.kicked {
			p.kicked = true
			p.askNow()
		}
	}
}

func (g *watching) isSettled(service string) bool {
	for _, u := range g.units {
		if u.Service == service && !u.over {
			return false
		}
	}
	return true
}

// take takes in the answer of a probe. A good one counts when it was asked for after the units of
// its service had settled.
func (g *watching) take(a answered) {
	if a.p.over {
		return
	}
	if err := a.p.take(a, g.began); err != nil {
		g.report.Failures = append(g.report.Failures, a.p.failure(err))
		return
	}
	if took := time.Since(g.began); took >= g.Limit && a.Wrong != "" {
		err := fmt.Errorf("probe %s: %s, after %v", a.p.probe.Name(), a.Wrong, took.Round(time.Second))
		g.report.Failures = append(g.report.Failures, a.p.failure(err))
		return
	}

	at, settled := g.settledAt[a.p.service]
	a.p.over = a.Wrong == "" && settled && !a.asked.Before(at)
}
