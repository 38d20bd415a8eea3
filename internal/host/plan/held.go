package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/host/owned"
)

// A service's user may bar the way to what bellhop puts into his folders: by a link, a pipe, a
// file without end. That fails his service and no other. A deployer that isolates services is refused that one, and offers
// the rest anew. For any other, and in a push of keys alone, the service is held here: what the host
// has of it stays as it is, whatever the offer wants of it, and the rest of the offer goes on. The
// record then holds the manifest that came of it, and a digest that no bundle has.

// A heldService is one that is not applied, and why.
type heldService struct {
	service string
	why     error
}

func (h heldService) String() string {
	return fmt.Sprintf("service %s is left as it is: %v", h.service, h.why)
}

// block makes err the fault of the service that p belongs to, and returns nil where the plan can go on. Where somebody but
// root is to blame, and nobody offers the rest anew, the service is held here; else it is refused, and without a service the host is.
func (w *Plan) block(p string, err error) error {
	var blocked *owned.BlockedError
	service := w.wanted[p].service
	isBarred := service != "" && errors.As(err, &blocked)
	if !isBarred || w.Offer.Isolates {
		return w.refuse(service, err)
	}
	return &heldError{heldService{service, err}}
}

// A heldError asks for a plan without a service.
type heldError struct{ heldService }

func (e *heldError) Error() string { return e.String() }

func (e *heldError) Unwrap() error { return e.why }

// Holds says that a service is held.
func (w *Plan) Holds(service string) bool {
	return service != "" && isHeld(w.held, service)
}

// isHeld says that a service is one of those held already.
func isHeld(held []heldService, service string) bool {
	return slices.ContainsFunc(held, func(h heldService) bool { return h.service == service })
}

// heldHere are the services that are held though the offer wants something else of them than the host holds.
func heldHere(w *Plan) (all []heldService) {
	for _, h := range w.held {
		if !w.isHeldBack(h.service) {
			all = append(all, h)
		}
	}
	return all
}

// Held tells of all services that are held though the offer wants something else of them; nil when none is.
func (w *Plan) Held() error {
	held := heldHere(w)
	if len(held) == 0 {
		return nil
	}

	var lines []string
	for _, h := range held {
		lines = append(lines, h.String())
	}

	return fmt.Errorf("the other services were brought, but %s", strings.Join(lines, "; "))
}

// Digest is what the record says of the bundle: that of the offer only when all of it was done.
func (w *Plan) Digest() string {
	switch {
	case len(heldHere(w)) == 0:
		return w.Offer.Digest
	case w.Old.Exists && w.Nothing(): // a key's value is in no manifest
		return w.Old.Digest
	}
	return bundle.HeldDigest(w.Offer.Digest)
}

// withoutHeld is the offer's manifest, with what the host has of the services that are held. Those that
// are tied to one of them are held with it.
func (w *Plan) withoutHeld(offer, old bundle.Manifest) bundle.Manifest {
	names := make([]string, 0, len(w.held))
	for _, h := range w.held {
		names = append(names, h.service)
	}

	c := bundle.Compose(offer, old, names)
	for _, h := range c.Held {
		if h.With != "" {
			w.held = append(w.held, heldService{h.Name, fmt.Errorf("it shares %s with %s", h.By, h.With)})
		}
	}
	return c.Manifest
}
