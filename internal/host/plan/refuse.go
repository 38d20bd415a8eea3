package plan

import (
	"errors"
	"fmt"
	"slices"

	"bellhop/internal/bundle"
	"bellhop/internal/host/check"
	"bellhop/internal/host/owned"
)

// What a host can't have of one service, a masked unit, an owner that it does not know, refuses that service: the
// deployer holds it back, and offers the rest anew. So a plan goes on where it finds such a thing, to name all of
// them at once. What belongs to no service refuses the host.
//
// The offer that follows has what the host holds of those services already, and names them as held. What refuses
// them is in the way still, so the host leaves them as they are, as it does with those whose paths are barred.

// mostReasons is how many reasons are told of one service: hundreds of its files may have one unknown owner.
const mostReasons = 5

// A refusals is what a plan found that this host can't have.
type refusals struct {
	heldBack []string // services of which the offer has what the host holds
	all      []refusedService
}

// A refusedService is one that this host can't have as it is offered.
type refusedService struct {
	name string
	err  error
}

// refuse takes in why one of the services of the offer can't be brought. It returns nil where the plan can go on,
// to find what else is wrong: Refused then tells of all.
func (r *refusals) refuse(service string, err error) error {
	switch {
	case service == "":
		return check.Refuse(bundle.RefusedBundle, "%w", err)
	case r.isHeldBack(service):
		return &heldError{heldService{service, err}}
	}

	reasons := 0
	for _, one := range r.all {
		if one.name == service {
			reasons++
		}
	}
	if reasons < mostReasons {
		r.all = append(r.all, refusedService{service, err})
	}
	return nil
}

// refuseFor is refuse for an error that may be one of the host instead: who can't be looked up is no refusal.
func (r *refusals) refuseFor(service string, err error) error {
	var no *check.Refusal
	if !errors.As(err, &no) {
		return err
	}
	return r.refuse(service, err)
}

// isHeldBack says that the offer has of a service what the host holds of it.
func (r *refusals) isHeldBack(service string) bool { return slices.Contains(r.heldBack, service) }

// Refused tells of all services that were refused until now; nil when none was.
func (r *refusals) Refused() error {
	if len(r.all) == 0 {
		return nil
	}

	var names []string
	var errs []error
	var seen []bundle.Evidence
	for _, one := range r.all {
		names, errs = append(names, one.name), append(errs, one.err)
		text := one.err.Error()
		seen = append(seen, bundle.Evidence{Service: one.name, Result: text, Why: text})
	}

	slices.Sort(names)
	var barred []string
	for _, one := range r.all {
		var blocked *owned.BlockedError
		if errors.As(one.err, &blocked) {
			barred = append(barred, one.name)
		}
	}

	no := &check.Refusal{Barred: barred, Why: bundle.RefusedBundle, Services: slices.Compact(names), Err: errors.Join(errs...)}
	if len(no.Services) > 1 {
		no.Seen = seen
	}
	return no
}

// checkNeeds refuses services that need a command which is not on the host.
func checkNeeds(w *Plan) error {
	for _, n := range w.Offer.Manifest.Needs {
		if w.m.Accounts.Command(n.Command) {
			continue
		}
		if err := w.refuse(n.Service, fmt.Errorf("service %s needs the command %s", n.Service, n.Command)); err != nil {
			return err
		}
	}
	return nil
}
