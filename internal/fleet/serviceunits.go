package fleet

import (
	"path"
	"slices"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/yaml"
	"bellhop/internal/unitfile"
)

// has tells whether a unit of that name is in the folder; instances count through their template.
func (s *service) has(unit string) bool {
	for _, u := range s.units {
		if u.dropin {
			continue
		}
		name := u.unit
		if u.quadlet {
			name = unitfile.Read(u.blob.Data).Generated(u.unit)
		}
		if name == unit || u.unit == unit || unitfile.TemplateOf(unit) == name {
			return true
		}
	}
	return false
}

func (s *service) unitNames() []string {
	var names []string
	for _, u := range s.units {
		names = append(names, u.unit)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (s *service) readUnits() {
	s.rules = map[string]*syntax.UnitRule{}
	for i := range s.def.Units {
		e := &s.def.Units[i]
		r := &e.Value
		if !syntax.IsUnit(e.Key) && !syntax.IsQuadlet(e.Key) || syntax.CheckUnitName(e.Key) != "" {
			s.tell(e.At, "units: %q is no name of a unit%s", e.Key, problem.DidYouMean(e.Key, s.unitNames()))
			continue
		}
		mine := s.has(e.Key)
		if !mine {
			dropins := slices.ContainsFunc(s.units, func(u unitSpec) bool { return u.dropin && u.unit == e.Key })
			if c := problem.Near(e.Key, s.unitNames()); c != "" && !dropins {
				s.tell(e.At, "units: no %s in this folder; did you mean %q?", e.Key, c)
				continue
			}
		}
		switch r.OnChange.S {
		case "", bundle.Restart, bundle.Reload, bundle.None:
		default:
			s.tell(r.OnChange.At, "on_change %q: want restart, reload or none%s", r.OnChange.S, problem.DidYouMean(r.OnChange.S, []string{bundle.Restart, bundle.Reload, bundle.None}))
		}
		if len(r.Instances) > 0 && !unitfile.IsTemplate(e.Key) {
			s.tell(e.At, "units: %s has no instances: only NAME@.KIND has", e.Key)
		}
		seen := map[string]bool{}
		for _, in := range r.Instances {
			if !syntax.IsInstance(in.S) || syntax.CheckUnitName(unitfile.Instance(e.Key, in.S)) != "" {
				s.tell(in.At, "bad name %q for an instance: want letters, digits and : _ . - \\", in.S)
			}
			if seen[in.S] {
				s.tell(in.At, "instance %s stands here twice", in.S)
			}
			seen[in.S] = true
		}
		for _, w := range r.Watch {
			if !s.watchable(w) {
				s.tell(w.At, "watch: %q is no file, link, key or package of this service", w.S)
			}
		}
		s.rules[e.Key] = r
	}
	for _, k := range s.keys {
		s.checkKeyUnits(k)
	}
}

// watchable tells whether a path of watch: fits anything.
func (s *service) watchable(w yaml.String) bool {
	one := yaml.List{w}
	return path.IsAbs(w.S) && (slices.ContainsFunc(s.files, func(f fileSpec) bool { return watches(one, f.path) }) ||
		slices.ContainsFunc(s.units, func(u unitSpec) bool { return watches(one, u.path) }) ||
		slices.ContainsFunc(s.keys, func(k keySpec) bool { return watches(one, k.Path) || k.link != "" && watches(one, k.link) }) ||
		s.pkg != nil && watches(one, bundle.PackageDir+"/"+s.name))
}

// checkKeyUnits holds the units that a key restarts or reloads against the folder.
func (s *service) checkKeyUnits(k keySpec) {
	for _, u := range slices.Concat(k.restart, k.reload) {
		if !syntax.IsUnit(u) || syntax.CheckUnitName(u) != "" || unitfile.IsTemplate(u) {
			s.tell(k.at, "key %s: %q is no unit to restart or reload%s", k.Name, u, problem.DidYouMean(u, s.unitNames()))
		} else if c := problem.Near(u, s.unitNames()); !s.has(u) && c != "" {
			s.tell(k.at, "key %s: no %s in this folder; did you mean %q?", k.Name, u, c)
		}
		if slices.Contains(k.restart, u) && slices.Contains(k.reload, u) {
			s.tell(k.at, "key %s: %s stands under restart and under reload", k.Name, u)
		}
	}
}
