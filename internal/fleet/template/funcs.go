package template

import (
	"fmt"
	"reflect"
	"text/template"

	"bellhop/internal/fleet/scalar"
)

// scalarFuncs is fs with functions that take the scalars of the config: what works on text takes a
// number and a boolean too, as the text that was written, printf says when a verb does not fit, and
// the comparisons hold a number against text.
func scalarFuncs(fs template.FuncMap) template.FuncMap {
	out := template.FuncMap{
		"eq": scalar.EqualAny,
		"ne": func(a, b any) (bool, error) { same, err := scalar.Equal(a, b); return !same, err },
		"lt": scalar.Ordered(func(c int) bool { return c < 0 }),
		"le": scalar.Ordered(func(c int) bool { return c <= 0 }),
		"gt": scalar.Ordered(func(c int) bool { return c > 0 }),
		"ge": scalar.Ordered(func(c int) bool { return c >= 0 }),
	}

	for name, f := range fs {
		out[name] = takesScalars(f)
	}

	plain := func(format string, args ...any) (string, error) { return fmt.Sprintf(format, args...), nil }
	if f, ok := fs["printf"].(func(string, ...any) (string, error)); ok {
		plain = f
	}
	out["printf"] = scalar.Printf(plain)
	return out
}

// takesScalars is f with any in place of each parameter that is a string.
func takesScalars(f any) any {
	t := reflect.TypeOf(f)
	var text []int
	ins := make([]reflect.Type, t.NumIn())
	for i := range ins {
		ins[i] = t.In(i)
		if ins[i] == reflect.TypeFor[string]() {
			ins[i] = reflect.TypeFor[any]()
			text = append(text, i)
		}
	}

	if len(text) == 0 || t.IsVariadic() {
		return f
	}

	outs := []reflect.Type{t.Out(0), reflect.TypeFor[error]()}
	none := reflect.Zero(reflect.TypeFor[error]())
	return reflect.MakeFunc(reflect.FuncOf(ins, outs, false), func(args []reflect.Value) []reflect.Value {
		for _, i := range text {
			s, err := scalar.Text(args[i].Interface())
			if err != nil {
				return []reflect.Value{reflect.Zero(t.Out(0)), reflect.ValueOf(&err).Elem()}
			}
			args[i] = reflect.ValueOf(s)
		}
		return append(reflect.ValueOf(f).Call(args), none)[:2]
	}).Interface()
}
