package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/host/check"
	"bellhop/internal/host/owned"
)

// A service's user may bar the way to what bellhop puts into his folders: by a link, a pipe, a
// file without end. That fails his service and no other. Such a service is held: what the host
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

// block makes err the fault of the service that p belongs to, where somebody but root is to blame.
// Any other error refuses the host.
func (w *Plan) block(p string, err error) error {
	var blocked *owned.BlockedError
	service := w.wanted[p].service
	if service == "" || !errors.As(err, &blocked) {
		return check.Refuse(bundle.RefusedBundle, "%w", err)
	}
	return &heldError{heldService{service, err}}
}

// A heldError asks for a plan without a service.
type heldError struct{ heldService }

func (e *heldError) Error() string { return e.String() }

func (e *heldError) Unwrap() error { return e.why }

func (w *Plan) Holds(service string) bool {
	return service != "" && slices.ContainsFunc(w.held, func(h heldService) bool { return h.service == service })
}

// Held tells of all services that are held; nil when none is.
func (w *Plan) Held() error {
	if len(w.held) == 0 {
		return nil
	}

	var lines []string
	for _, h := range w.held {
		lines = append(lines, h.String())
	}

	return fmt.Errorf("%s; the other services were brought. Move that away on the host, then bellhop deploy --retry", strings.Join(lines, "; "))
}

// Digest is what the record says of the bundle: that of the offer only when all of it was done.
func (w *Plan) Digest() string {
	switch {
	case len(w.held) == 0:
		return w.Offer.Digest
	case w.Old.Exists && w.Nothing(): // a key's value is in no manifest
		return w.Old.Digest
	}
	return bundle.HeldDigest(w.Offer.Digest)
}

// holding is the manifest new, with what old has of the services that are held.
func (w *Plan) holding(new, old bundle.Manifest) bundle.Manifest {
	m := new
	m.Files = mixed(w, new.Files, old.Files, func(f bundle.File) string { return f.Service })
	m.Links = mixed(w, new.Links, old.Links, func(l bundle.Link) string { return l.Service })
	m.Keys = mixed(w, new.Keys, old.Keys, func(k bundle.Key) string { return k.Service })
	m.Packages = mixed(w, new.Packages, old.Packages, func(p bundle.Package) string { return p.Service })
	m.Users = mixed(w, new.Users, old.Users, func(u bundle.User) string { return u.Service })
	m.Units = mixed(w, new.Units, old.Units, func(u bundle.Unit) string { return u.Service })
	m.Needs = mixed(w, new.Needs, old.Needs, func(n bundle.Need) string { return n.Service })
	m.Services = mixed(w, new.Services, old.Services, func(s bundle.Service) string { return s.Name })
	m.Sort()
	return m
}

func mixed[T any](w *Plan, new, old []T, serviceOf func(T) string) (all []T) {
	for _, v := range new {
		if !w.Holds(serviceOf(v)) {
			all = append(all, v)
		}
	}

	for _, v := range old {
		if w.Holds(serviceOf(v)) {
			all = append(all, v)
		}
	}

	return all
}
