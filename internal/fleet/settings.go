package fleet

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"bellhop/internal/fleet/problem"
)

// decode reads true, false, nothing (on), or settings beside enable.
func (s *switchFile) decode(d *decoder, n ast.Node) {
	s.At = nodeAt(n)
	r, ok := d.resolve(n)
	if !ok {
		return
	}
	switch x := r.(type) {
	case *ast.BoolNode:
		s.Enable = &x.Value
	case *ast.NullNode:
	case ast.MapNode:
		d.pairs(r, func(key string, at problem.Pos, val ast.Node) {
			if key == enableWord {
				on := true
				d.decode(val, reflect.ValueOf(&on).Elem())
				s.Enable = &on
				return
			}
			e := entry[value]{Key: key, At: at}
			e.Value.decode(d, val)
			s.Set = append(s.Set, e)
		})
	default:
		d.problem(s.At, "want true, false or settings, not %s", describe(r))
	}
}

// settingsKey is equal for equal settings, and only for them.
func settingsKey(set []setting) string {
	if len(set) == 0 {
		return ""
	}
	var b strings.Builder
	for _, e := range set {
		fmt.Fprintf(&b, "%q=", e.name)
		valueKey(&b, e.value)
	}
	return b.String()
}

func sameValue(a, b any) bool { return reflect.DeepEqual(a, b) }

// kindOf names the kind of a setting's value for people; numbers are one kind.
func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "nothing"
	case string:
		return "text"
	case []any, []string:
		return "a list"
	case map[string]any:
		return "a mapping"
	}
	switch {
	case isBool(v):
		return "true or false"
	case isNumber(v):
		return "a number"
	}
	return "no plain value"
}

// check holds a switch against its service: unknown settings, and values of another kind
// than the default's, are problems.
func (p place) check(s *service) (ps problem.Problems) {
	tell := func(at problem.Pos, format string, args ...any) *problem.Problem {
		q := problem.At(p.file.file, p.file.data, at, format, args...)
		ps = append(ps, q)
		return q
	}
	for _, e := range p.sw.Set {
		def, ok := s.settings[e.Key]
		switch {
		case !ok:
			names := append(slices.Sorted(maps.Keys(s.settings)), enableWord)
			hint := problem.DidYouMean(e.Key, names)
			if hint == "" {
				hint = "; its service.yaml has " + orNone(slices.Sorted(maps.Keys(s.settings)))
			}
			tell(e.At, "service %s has no setting %q%s", s.name, e.Key, hint)
		case !fitsDefault(def, e.Value.V):
			tell(e.Value.At, "setting %s of service %s is %s by default; here it is %s", e.Key, s.name, kindOf(def), kindOf(e.Value.V))
		}
	}
	return ps
}

// fitsDefault tells whether v may take the place of def: a value of its kind, a number for text, or text
// that reads as a number for a number.
func fitsDefault(def, v any) bool {
	if def == nil || v == nil {
		return true // told as a problem where it stands
	}
	_, textDef := def.(string)
	_, text := v.(string)
	switch {
	case textDef && isNumber(v):
		return true
	case text && isNumber(def):
		_, reads := rational(v)
		return reads
	}
	return kindOf(def) == kindOf(v)
}

// asDefault is v as text where the default is text, so that a version of 1.10 is text as 1.10.1 is.
func asDefault(def, v any) any {
	if _, text := def.(string); text && isNumber(v) {
		return fmt.Sprint(v)
	}
	return v
}

// unknown says that no folder has this service's name. Switching off what is not there only
// warns: the line is what remains of a service that left.
func (p place) unknown(meant string) *problem.Problem {
	q := problem.At(p.file.file, p.file.data, p.at, "no service %q: there is no folder services/%s%s", p.name, p.name, meant)
	q.Warning = !p.sw.on()
	return q
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return fmt.Sprint(names)
}
