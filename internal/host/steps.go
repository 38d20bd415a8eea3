package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"bellhop/internal/bundle"
	"bellhop/internal/host/before"
	"bellhop/internal/host/blame"
	"bellhop/internal/host/check"
	"bellhop/internal/host/state"
)

// before runs the steps of the services that change, while nothing of them was touched yet. What
// they took in time may have changed the host, so the run is planned again after them.
func (r *run) before(ctx context.Context) error {
	due := r.stepsDue()
	if len(due) == 0 {
		return nil
	}
	if r.m.Commands == nil {
		return check.Refuse(bundle.RefusedBefore, "service %s: this host runs no steps", due[0].Name)
	}

	steps := &before.Runner{
		Commands: r.m.Commands, Path: r.m.At(state.StepsPath), Write: r.m.WriteSteps, Deploy: cmp.Or(r.offer.After, r.offer.Run),
		Began:   func(service string) { r.event("before", service) },
		Started: func(service string, step int) { r.m.Mark(fmt.Sprintf("step %d before %s", step, service)) },
		Wrote:   func(service string) { r.m.Mark("before " + service) },
	}
	outcomes, ran, err := steps.Run(ctx, due)
	if err != nil {
		return fmt.Errorf("before: %w", err)
	}

	if err := r.stepsFailed(ctx, outcomes); err != nil {
		return err
	}
	if !ran {
		return nil
	}

	notes := r.w.Warnings // some are told only when a package is unpacked first
	if err := r.open(r.offer.Run); err != nil {
		return err
	}
	if err := r.preflight(ctx); err != nil {
		return err
	}
	r.w.Warnings = unique(slices.Concat(notes, r.w.Warnings))
	return nil
}

// stepsDue are the services whose steps come before this run, with the steps that do. At the first
// install of a service those do that say so.
func (r *run) stepsDue() (due []bundle.Service) {
	if r.giveUp || r.offer.NoBefore {
		return nil
	}
	for _, name := range r.w.TouchedServices() {
		s := r.offer.Manifest.ServiceOf(name)
		if !r.w.HadService(name) {
			s.Before = atFirst(s.Before)
		}
		s.Digest = cmp.Or(s.Digest, r.offer.Digest)
		if len(s.Before) > 0 {
			due = append(due, s)
		}
	}
	return due
}

func atFirst(steps []bundle.Step) (first []bundle.Step) {
	for _, s := range steps {
		if s.First {
			first = append(first, s)
		}
	}
	return first
}

// stepsFailed is the error of the steps that failed, with what they said.
func (r *run) stepsFailed(ctx context.Context, outcomes []before.Outcome) error {
	due := &blame.Error{}
	e := &blame.Gatherer{Journal: r.m.Journal, Since: r.started}
	var errs []error
	for _, o := range outcomes {
		err := o.Err()
		if err == nil {
			continue
		}
		errs = append(errs, err)
		due.Services = append(due.Services, o.Service)
		unit := before.Unit(o.Service)
		e.Put(bundle.Evidence{Service: o.Service, Unit: unit, Result: o.Result, Exit: o.Exit, Why: err.Error()}, e.LinesOf(ctx, unit, o.Invocation))
	}
	if len(errs) == 0 {
		return nil
	}

	errs = append(errs, fmt.Errorf("nothing was touched; what it said: bellhop logs %s %s", r.offer.Manifest.Host, before.Unit(due.Services[0])))
	due.Evidence = e.All
	due.Err = check.Refuse(bundle.RefusedBefore, "%w", errors.Join(errs...))
	return due
}
