package plan

import (
	"maps"
	"slices"

	"bellhop/internal/bundle"
)

// ServiceWith is the service of a unit: of the bundle, or of the one before where the unit leaves.
func (w *Plan) ServiceWith(unit string) string {
	for _, units := range [][]bundle.Unit{w.Offer.Manifest.Units, w.Old.Manifest.Units} {
		for _, u := range units {
			if u.Name == unit {
				return u.Service
			}
		}
	}
	return ""
}

// ServiceAt is the service that a path belongs to, or that gives it up; "" for none, or where the service leaves.
func (w *Plan) ServiceAt(path string) string {
	if service := w.wanted[path].service; service != "" {
		return service
	}

	stays := services(&w.Offer.Manifest)
	for _, f := range w.Old.Manifest.Files { // what a service that stays gives up
		if f.Path == path && stays[f.Service] {
			return f.Service
		}
	}
	return ""
}

// ServiceOf is how a service is started and judged: as the bundle says, or the one before where the
// service leaves.
func (w *Plan) ServiceOf(name string) (s bundle.Service, stays bool) {
	if services(&w.Offer.Manifest)[name] {
		return w.Offer.Manifest.ServiceOf(name), true
	}
	return w.Old.Manifest.ServiceOf(name), false
}

// TouchedServices are those of the bundle of which anything on the host changes.
func (w *Plan) TouchedServices() []string { return w.staying(w.touched()) }

func (w *Plan) touched() map[string]bool {
	touched := map[string]bool{}
	for _, c := range w.diff {
		if c.Kind != bundle.KindService {
			touched[c.Service] = true
		}
	}
	if w.System != nil {
		touched[bundle.SystemService] = true
	}
	for _, p := range w.Puts {
		touched[w.wanted[p.Path].service] = true
	}
	for _, k := range w.Offer.Manifest.Keys {
		if w.Changed[bundle.KindKey+":"+k.Name] {
			touched[k.Service] = true
		}
	}
	return touched
}

// staying are those of some services that the bundle has.
func (w *Plan) staying(some map[string]bool) []string {
	stays := services(&w.Offer.Manifest)
	maps.DeleteFunc(some, func(name string, _ bool) bool { return !stays[name] })
	return slices.Sorted(maps.Keys(some))
}

// HadService says that the host has anything of a service already.
func (w *Plan) HadService(name string) bool { return services(&w.Old.Manifest)[name] }

// services are those that have anything in a manifest.
func services(m *bundle.Manifest) map[string]bool {
	all := map[string]bool{}
	for _, c := range bundle.Diff(bundle.Manifest{}, *m) {
		all[c.Service] = true
	}
	delete(all, "")
	return all
}
