package yaml

import (
	"reflect"
	"strconv"
	"time"

	"github.com/goccy/go-yaml/ast"

	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/scalar"
)

// String is text, and where it is in the file.
type String struct {
	S  string
	At problem.Pos
}

// Number is a whole number, and where it is in the file.
type Number struct {
	N  int
	At problem.Pos
}

// Value is any YAML value: a scalar as scalarOf gives it, []any, or map[string]any.
type Value struct {
	V  any
	At problem.Pos
}

// Entries is a mapping that keeps its order, and where each key is in the file.
type Entries[T any] []Entry[T]

type Entry[T any] struct {
	Key   string
	At    problem.Pos
	Value T
}

func (es Entries[T]) Get(key string) (*Entry[T], bool) {
	for i := range es {
		if es[i].Key == key {
			return &es[i], true
		}
	}
	return nil, false
}

// List is one value or a list of them.
type List []String

func (l List) Strings() []string {
	var ss []string
	for _, s := range l {
		ss = append(ss, s.S)
	}
	return ss
}

func (s *String) Decode(d *Decoder, n ast.Node) {
	s.At = NodeAt(n)
	r, ok := d.Resolve(n)
	if !ok {
		return
	}
	switch r.Type() {
	case ast.StringType, ast.LiteralType, ast.IntegerType, ast.FloatType, ast.InfinityType, ast.NanType: // version: 1.0 is text as written
		s.S, _ = scalarText(r)
	default:
		d.Report(s.At, "want text, not %s", Describe(r))
	}
}

func (x *Number) Decode(d *Decoder, n ast.Node) {
	x.At = NodeAt(n)
	r, ok := d.Resolve(n)
	if !ok {
		return
	}
	if i, isInt := r.(*ast.IntegerNode); isInt {
		text := i.Token.Value
		if n, err := strconv.ParseInt(text, 10, 32); err == nil && strconv.FormatInt(n, 10) == text { // 010 is eight to some
			x.N = int(n)
			return
		}
	}

	d.Report(x.At, "want a whole number, not %s", Describe(r))
}

func (l *List) Decode(d *Decoder, n ast.Node) {
	r, ok := d.Resolve(n)
	if !ok {
		return
	}
	if r.Type() != ast.SequenceType {
		if r.Type() == ast.NullType {
			return
		}
		var s String
		s.Decode(d, n)
		*l = List{s}
		return
	}

	d.Each(r, func(item ast.Node) {
		var s String
		s.Decode(d, item)
		*l = append(*l, s)
	})
}

// Each calls f for each item of a list.
func (d *Decoder) Each(n ast.Node, f func(ast.Node)) {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		if n.Type() != ast.NullType {
			d.Report(NodeAt(n), "want a list, not %s", Describe(n))
		}
		return
	}

	for _, item := range s.Values {
		f(item)
	}
}

func (es *Entries[T]) Decode(d *Decoder, n ast.Node) {
	r, ok := d.Resolve(n)
	if !ok || r.Type() == ast.NullType {
		return
	}
	d.Pairs(r, func(key string, at problem.Pos, val ast.Node) {
		*es = append(*es, Entry[T]{Key: key, At: at})
		d.Decode(val, reflect.ValueOf(&(*es)[len(*es)-1].Value).Elem())
	})
}

func (v *Value) Decode(d *Decoder, n ast.Node) {
	v.At = NodeAt(n)
	v.V = d.any(n, 0)
}

// any is n as plain Go values.
func (d *Decoder) any(n ast.Node, depth int) any {
	if depth > 32 {
		d.Report(NodeAt(n), "nested too deep")
		return nil
	}

	r, tag, ok := d.resolveTag(n)
	if !ok {
		return nil
	}
	if isNull := r.Type() == ast.NullType || tag == "!!null"; isNull && tag != "!!str" && !d.Former {
		d.Report(NodeAt(n), `no value stands here: write "" for empty text, or leave the line out`)
		return nil
	}

	if d.Former {
		if v, ok := formerScalar(r); ok {
			return v
		}
	} else if v, ok := scalarOf(r, tag); ok {
		return v
	}

	switch x := r.(type) {
	case *ast.SequenceNode:
		vs := []any{}
		for _, item := range x.Values {
			vs = append(vs, d.any(item, depth+1))
		}
		return vs
	case ast.MapNode:
		m := map[string]any{}
		d.Pairs(r, func(key string, _ problem.Pos, val ast.Node) { m[key] = d.any(val, depth+1) })
		return m
	}

	d.Report(NodeAt(n), "want a value, not %s", Describe(r))
	return nil
}

// scalarOf is the value of a scalar node under a tag, which may be "". False means that n is none.
func scalarOf(n ast.Node, tag string) (any, bool) {
	text, ok := scalarText(n)
	if !ok {
		return nil, false
	}

	kind := n.Type()
	switch tag {
	case "!!str":
		return text, true
	case "!!int", "!!float":
		kind = ast.IntegerType
	case "!!bool":
		kind = ast.BoolType
	}

	switch kind {
	case ast.IntegerType, ast.FloatType, ast.InfinityType, ast.NanType:
		return scalar.Number(text), true
	case ast.BoolType:
		return scalar.Bool(text), true
	}

	return text, true
}

// Duration is a length of time, and where it is in the file. At is zero where there is none, and where
// what is there was reported as a problem.
type Duration struct {
	D  time.Duration
	At problem.Pos
}

func (x *Duration) Decode(d *Decoder, n ast.Node) {
	at := NodeAt(n)
	r, ok := d.Resolve(n)
	if !ok {
		return
	}
	text, scalar := scalarText(r)
	v, err := time.ParseDuration(text)
	switch {
	case !scalar || r.Type() == ast.NullType || r.Type() == ast.BoolType:
		d.Report(at, "want a duration, as in 30s, 5m or 1h30m, not %s", Describe(r))
	case err != nil:
		d.Report(at, "%q is no duration: want a number with its unit, as in 500ms, 30s, 5m or 1h30m", text)
	default:
		x.D, x.At = v, at
	}
}

// OneOrMore calls f for each item of a list, or for the one value that is there in place of a list.
func (d *Decoder) OneOrMore(n ast.Node, f func(ast.Node)) {
	r, ok := d.Resolve(n)
	if !ok || r.Type() == ast.NullType {
		return
	}
	if r.Type() == ast.SequenceType {
		d.Each(r, f)
		return
	}

	f(n)
}
