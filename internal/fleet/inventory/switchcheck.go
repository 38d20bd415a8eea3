package inventory

import (
	"fmt"
	"maps"
	"slices"

	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/scalar"
	"bellhop/internal/fleet/service"
	"bellhop/internal/fleet/syntax"
)

// CheckSwitch holds a switch against its service: unknown settings, and values of another kind
// than the default's, are problems.
func CheckSwitch(p Place, s *service.Service) (ps problem.Problems) {
	report := func(at problem.Pos, format string, args ...any) *problem.Problem {
		q := problem.At(p.File.Name, p.File.Data, at, format, args...)
		ps = append(ps, q)
		return q
	}

	for _, e := range p.Switch.Set {
		def, ok := s.Settings[e.Key]
		switch {
		case !ok:
			names := append(slices.Sorted(maps.Keys(s.Settings)), syntax.EnableWord)
			hint := problem.DidYouMean(e.Key, names)
			if hint == "" {
				hint = "; its service.yaml has " + orNone(slices.Sorted(maps.Keys(s.Settings)))
			}
			report(e.At, "service %s has no setting %q%s", s.Name, e.Key, hint)
		case !fitsDefault(def, e.Value.V):
			report(e.Value.At, "setting %s of service %s is %s by default; here it is %s", e.Key, s.Name, scalar.KindOf(def), scalar.KindOf(e.Value.V))
		}
	}

	return ps
}

// fitsDefault says whether v may take the place of def: a value of its kind, a number for text, or text
// that reads as a number for a number.
func fitsDefault(def, v any) bool {
	if def == nil || v == nil {
		return true // reported as a problem at its own place
	}

	_, textDef := def.(string)
	_, text := v.(string)
	switch {
	case textDef && scalar.IsNumber(v):
		return true
	case text && scalar.IsNumber(def):
		_, reads := scalar.Rational(v)
		return reads
	}

	return scalar.KindOf(def) == scalar.KindOf(v)
}

// AsDefault is v as text where the default is text, so that a version of 1.10 is text as 1.10.1 is.
func AsDefault(def, v any) any {
	if _, text := def.(string); text && scalar.IsNumber(v) {
		return fmt.Sprint(v)
	}
	return v
}

// UnknownService says that no folder has this service's name. Switching off what is not there only
// warns: the line is what remains of a service that left.
func UnknownService(p Place, meant string) *problem.Problem {
	q := problem.At(p.File.Name, p.File.Data, p.At, "no service %q: there is no folder services/%s%s", p.Name, p.Name, meant)
	q.Warning = !p.Switch.On()
	return q
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return fmt.Sprint(names)
}
