package service

import (
	"path"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/yaml"
	"bellhop/internal/unitfile"
)

// has says whether a unit of that name is in the folder; instances count through their template.
func (s *Service) has(unit string) bool {
	for _, u := range s.Units {
		if u.IsDropin {
			continue
		}
		name := u.Name
		if u.IsQuadlet {
			name = unitfile.Read(u.Blob.Data).Generated(u.Name)
		}
		if name == unit || u.Name == unit || unitfile.TemplateOf(unit) == name {
			return true
		}
	}
	return s.Compose != nil && unit == s.Name+".service"
}

// hasTemplate says whether the folder has the template itself; the instances of another package's may be named one by one.
func (s *Service) hasTemplate(name string) bool {
	return slices.ContainsFunc(s.Units, func(u Unit) bool { return !u.IsDropin && u.Name == name })
}

// instanceOf is what stands between the @ and the kind.
func instanceOf(unit string) string {
	base, _ := unitfile.SplitName(unit)
	_, instance, _ := strings.Cut(base, "@")
	return instance
}

func (s *Service) unitNames() []string {
	var names []string
	for _, u := range s.Units {
		names = append(names, u.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (s *reader) readUnits() {
	s.Rules = map[string]*syntax.UnitRule{}
	for i := range s.Def.Units {
		e := &s.Def.Units[i]
		r := &e.Value
		if !syntax.IsUnit(e.Key) && !syntax.IsQuadlet(e.Key) || syntax.CheckUnitName(e.Key) != "" {
			s.report(e.At, "units: %q is no name of a unit%s", e.Key, problem.DidYouMean(e.Key, s.unitNames()))
			continue
		}

		if s.Compose != nil && e.Key == s.Name+".service" {
			s.report(e.At, "units: %s is made for the compose project, and takes no rule: a change reaches its containers one by one; remove this, and say in the compose file what is meant", e.Key)
			continue
		}

		mine := s.has(e.Key)
		if !mine {
			dropins := slices.ContainsFunc(s.Units, func(u Unit) bool { return u.IsDropin && u.Name == e.Key })
			if c := problem.Near(e.Key, s.unitNames()); c != "" && !dropins {
				s.report(e.At, "units: no %s in this folder; did you mean %q?", e.Key, c)
				continue
			}
		}

		if t := unitfile.TemplateOf(e.Key); t != "" && s.hasTemplate(t) {
			s.report(e.At, "units: %s is one of %s of this folder: an instance takes no rule of its own; want %q: { instances: [%s] }", e.Key, t, t, instanceOf(e.Key))
			continue
		}

		s.checkRule(e)
		s.Rules[e.Key] = r
	}

	for _, k := range s.Keys {
		s.checkKeyUnits(k)
	}
}

// checkRule reports what is wrong with the rule of one unit: its action, its instances, what it watches.
func (s *reader) checkRule(e *yaml.Entry[syntax.UnitRule]) {
	r := &e.Value
	switch r.OnChange.S {
	case "", bundle.Restart, bundle.Reload, bundle.None:
	default:
		s.report(r.OnChange.At, "on_change %q: want restart, reload or none%s", r.OnChange.S, problem.DidYouMean(r.OnChange.S, []string{bundle.Restart, bundle.Reload, bundle.None}))
	}

	if len(r.Instances) > 0 && !unitfile.IsTemplate(e.Key) {
		s.report(e.At, "units: %s has no instances: only NAME@.KIND has", e.Key)
	}
	s.checkInstances(e)

	for _, w := range r.Watch {
		if !s.watchable(w) {
			s.report(w.At, "watch: %q is no file, link, key or package of this service", w.S)
		}
	}
}

// checkInstances reports bad and repeated names of instances.
func (s *reader) checkInstances(e *yaml.Entry[syntax.UnitRule]) {
	seen := map[string]bool{}
	for _, in := range e.Value.Instances {
		if !syntax.IsInstance(in.S) || syntax.CheckUnitName(unitfile.Instance(e.Key, in.S)) != "" {
			s.report(in.At, "bad name %q for an instance: want letters, digits and : _ . - \\", in.S)
		}
		if seen[in.S] {
			s.report(in.At, "instance %s stands here twice", in.S)
		}
		seen[in.S] = true
	}
}

// watchable says whether a path of watch: matches anything that the service has on a host.
func (s *reader) watchable(w yaml.String) bool {
	if !path.IsAbs(w.S) {
		return false
	}
	matches := func(path string) bool { return path != "" && Watches(yaml.List{w}, path) }

	isFile := slices.ContainsFunc(s.Files, func(f File) bool { return matches(f.Path) })
	isUnit := slices.ContainsFunc(s.Units, func(u Unit) bool { return matches(u.Path) })
	isKey := slices.ContainsFunc(s.Keys, func(k Key) bool { return matches(k.Path) || matches(k.Link) })
	if isFile || isUnit || isKey {
		return true
	}

	return s.Package != nil && matches(bundle.PackageDir+"/"+s.Name)
}

// checkKeyUnits holds the units that a key restarts or reloads against the folder.
func (s *reader) checkKeyUnits(k Key) {
	for _, u := range slices.Concat(k.Restart, k.Reload) {
		if !syntax.IsUnit(u) || syntax.CheckUnitName(u) != "" || unitfile.IsTemplate(u) {
			s.report(k.At, "key %s: %q is no unit to restart or reload%s", k.Name, u, problem.DidYouMean(u, s.unitNames()))
		} else if c := problem.Near(u, s.unitNames()); !s.has(u) && c != "" {
			s.report(k.At, "key %s: no %s in this folder; did you mean %q?", k.Name, u, c)
		}
		if slices.Contains(k.Restart, u) && slices.Contains(k.Reload, u) {
			s.report(k.At, "key %s: %s stands under restart and under reload", k.Name, u)
		}
	}
}

// Watches says whether a path is one of the list, below one, or matched by one.
func Watches(l yaml.List, at string) bool {
	for _, w := range l {
		if syntax.Below(at, strings.TrimSuffix(w.S, "/")) {
			return true
		}
		if ok, err := path.Match(w.S, at); err == nil && ok {
			return true
		}
	}
	return false
}
