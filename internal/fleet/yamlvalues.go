package fleet

import (
	"reflect"
	"strconv"

	"github.com/goccy/go-yaml/ast"

	"bellhop/internal/fleet/problem"
)

// str is text that remembers where it stood.
type str struct {
	S  string
	At problem.Pos
}

// number is a whole number that remembers where it stood.
type number struct {
	N  int
	At problem.Pos
}

// value is any YAML value: a scalar as scalarOf gives it, []any, or map[string]any.
type value struct {
	V  any
	At problem.Pos
}

// entries is a mapping that keeps its order, and where each key stood.
type entries[T any] []entry[T]

type entry[T any] struct {
	Key   string
	At    problem.Pos
	Value T
}

func (es entries[T]) get(key string) (*entry[T], bool) {
	for i := range es {
		if es[i].Key == key {
			return &es[i], true
		}
	}
	return nil, false
}

// list is one value or a list of them.
type list []str

func (l list) strings() []string {
	var ss []string
	for _, s := range l {
		ss = append(ss, s.S)
	}
	return ss
}

func (s *str) decode(d *decoder, n ast.Node) {
	s.At = nodeAt(n)
	r, ok := d.resolve(n)
	if !ok {
		return
	}
	switch r.Type() {
	case ast.StringType, ast.LiteralType, ast.IntegerType, ast.FloatType, ast.InfinityType, ast.NanType: // version: 1.0 is text as written
		s.S, _ = scalarText(r)
	default:
		d.problem(s.At, "want text, not %s", describe(r))
	}
}

func (x *number) decode(d *decoder, n ast.Node) {
	x.At = nodeAt(n)
	r, ok := d.resolve(n)
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
	d.problem(x.At, "want a whole number, not %s", describe(r))
}

func (l *list) decode(d *decoder, n ast.Node) {
	r, ok := d.resolve(n)
	if !ok {
		return
	}
	if r.Type() != ast.SequenceType {
		if r.Type() == ast.NullType {
			return
		}
		var s str
		s.decode(d, n)
		*l = list{s}
		return
	}
	d.each(r, func(item ast.Node) {
		var s str
		s.decode(d, item)
		*l = append(*l, s)
	})
}

// each calls f for each item of a list.
func (d *decoder) each(n ast.Node, f func(ast.Node)) {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		if n.Type() != ast.NullType {
			d.problem(nodeAt(n), "want a list, not %s", describe(n))
		}
		return
	}
	for _, item := range s.Values {
		f(item)
	}
}

func (es *entries[T]) decode(d *decoder, n ast.Node) {
	r, ok := d.resolve(n)
	if !ok || r.Type() == ast.NullType {
		return
	}
	d.pairs(r, func(key string, at problem.Pos, val ast.Node) {
		*es = append(*es, entry[T]{Key: key, At: at})
		d.decode(val, reflect.ValueOf(&(*es)[len(*es)-1].Value).Elem())
	})
}

func (v *value) decode(d *decoder, n ast.Node) {
	v.At = nodeAt(n)
	v.V = d.any(n, 0)
}

// any is n as plain Go values.
func (d *decoder) any(n ast.Node, depth int) any {
	if depth > 32 {
		d.problem(nodeAt(n), "nested too deep")
		return nil
	}
	r, tag, ok := d.resolveTag(n)
	if !ok {
		return nil
	}
	if isNull := r.Type() == ast.NullType || tag == "!!null"; isNull && tag != "!!str" && !d.former {
		d.problem(nodeAt(n), `no value stands here: write "" for empty text, or leave the line out`)
		return nil
	}
	if d.former {
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
		d.pairs(r, func(key string, _ problem.Pos, val ast.Node) { m[key] = d.any(val, depth+1) })
		return m
	}
	d.problem(nodeAt(n), "want a value, not %s", describe(r))
	return nil
}
