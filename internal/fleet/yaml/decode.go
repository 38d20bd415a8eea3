// Package yaml decodes the YAML files of a config repo.
//
// A file is decoded from goccy's syntax tree by the struct tags of our own types, not by goccy's
// decoder: that one stops at the first thing it does not know, and forgets where a value was. Here every
// problem is reported, and checks that come later can still point at the line. A type that reads more
// than one form has a method Decode.
//
// The files are a stranger's: size, depth and repetition are bounded before the parser works on them.
package yaml

import (
	"bytes"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/tree"
)

// A Decoder decodes one file: its anchors so far, and how much it has read of what it may.
type Decoder struct {
	*File
	anchors map[string]ast.Node
	open    int // values being decoded, one in the other
	nodes   int
}

// Decode decodes t into v, a pointer to a struct. An empty file leaves v as it is.
func Decode(t *File, v any, b *tree.Budget) {
	b.At(t.Name)
	t.budget = b
	defer func() { t.budget = nil }()
	d := &Decoder{File: t}
	body, ok := d.parse()
	if t.Broken = !ok; !ok || body == nil || d.endless(body) {
		return
	}
	d.Decode(body, reflect.ValueOf(v).Elem())
}

// parse is the one document of the file.
func (d *Decoder) parse() (body ast.Node, ok bool) {
	defer func() {
		if r := recover(); r != nil { // the parser is foreign, and the file a stranger's
			d.Report(problem.Pos{Line: 1, Column: 1}, "not readable as YAML")
			body, ok = nil, false
		}
	}()

	if !d.isText() {
		return nil, false
	}

	d.Data = plainLines(d.Data)
	tokens, ok := d.tokens()
	if !ok {
		return nil, false
	}
	f, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.reportParser(err)
		return nil, false
	}

	return d.document(f)
}

// isText reports what keeps a file from being read as UTF-8 text of a size that is taken.
func (d *Decoder) isText() bool {
	top := problem.Pos{Line: 1, Column: 1}
	limit, nul := d.limit(), bytes.IndexByte(d.Data, 0)
	isUTF16 := bytes.HasPrefix(d.Data, []byte("\xff\xfe")) || bytes.HasPrefix(d.Data, []byte("\xfe\xff"))

	switch {
	case len(d.Data) > limit:
		d.Report(top, "larger than %d MiB", limit>>20)
	case isUTF16:
		d.Report(top, "the file is UTF-16; save it as UTF-8")
	case nul >= 0:
		d.Report(problem.Pos{Line: 1 + bytes.Count(d.Data[:nul], []byte("\n")), Column: 1}, "a NUL byte has no place in YAML")
	case bytes.HasPrefix(d.Data, []byte("\ufeff")): // the parser takes it as part of the first word
		d.Report(top, "the file begins with a byte order mark; save it without one")
	default:
		return true
	}

	return false
}

// reportParser reports an error of the parser at its place.
func (d *Decoder) reportParser(err error) {
	at, msg := problem.Pos{Line: 1, Column: 1}, err.Error()
	if ye, isYAML := err.(yaml.Error); isYAML {
		msg = ye.GetMessage()
		if tk := ye.GetToken(); tk != nil {
			at = tokenAt(tk)
		}
	}

	d.Report(at, "%s", plainly(msg, problem.LineOf(d.Data, at.Line)))
}

// document is the body of the only document.
func (d *Decoder) document(f *ast.File) (body ast.Node, ok bool) {
	for _, doc := range f.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if body != nil {
			d.Report(NodeAt(doc.Body), "a second document: one file holds one")
			return nil, false
		}

		body = doc.Body
	}
	return body, true
}

// bracketed is an address that YAML takes for a list with something behind it.
var bracketed = regexp.MustCompile(`\[[0-9A-Fa-f:.%]*:[0-9A-Za-z:.%]*\]:[0-9]+`)

// plainly says in other words what the parser finds wrong with a line, where many will stumble.
func plainly(msg, line string) string {
	switch {
	case strings.Contains(msg, "found character '\t'"):
		return "a tab: YAML is indented with spaces"
	case bracketed.MatchString(line):
		return fmt.Sprintf("%s: an address in brackets stands in quotes here: '%s'", msg, bracketed.FindString(line))
	}
	return msg
}

func tokenAt(tk *token.Token) problem.Pos {
	if tk == nil || tk.Position == nil {
		return problem.Pos{Line: 1, Column: 1}
	}
	return problem.Pos{Line: tk.Position.Line, Column: tk.Position.Column}
}

func NodeAt(n ast.Node) problem.Pos {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return NodeAt(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return NodeAt(n.Key)
	}
	return tokenAt(n.GetToken())
}

// Resolve looks through anchors, aliases and tags.
func (d *Decoder) Resolve(n ast.Node) (ast.Node, bool) {
	r, _, ok := d.resolveTag(n)
	return r, ok
}

// resolveTag is resolve, with the last tag before the value; "" when there is none.
func (d *Decoder) resolveTag(n ast.Node) (r ast.Node, tag string, ok bool) {
	for range 32 {
		if d.spent(n) {
			return nil, "", false
		}
		switch x := n.(type) {
		case *ast.AnchorNode:
			d.anchor(x)
			n = x.Value
		case *ast.AliasNode:
			to, ok := d.alias(x)
			if !ok {
				return nil, "", false
			}
			n = to

		case *ast.TagNode:
			switch x.Start.Value {
			case "!!str", "!!int", "!!bool", "!!float", "!!null", "!!map", "!!seq":
				n, tag = x.Value, x.Start.Value
			default:
				d.Report(NodeAt(x), "tag %s is not supported", x.Start.Value)
				return nil, "", false
			}

		default:
			return n, tag, n != nil
		}
	}

	d.Report(NodeAt(n), "anchors and aliases are nested too deep")
	return nil, "", false
}

// spent counts a node, and says whether there were too many. That is reported once, and ends the
// decoding of everything that is left.
func (d *Decoder) spent(n ast.Node) bool {
	d.nodes++
	switch {
	case d.nodes > maxNodes:
	case d.nodes == maxNodes:
		d.Report(NodeAt(n), "aliases make this file too large")
	case !d.budget.Node():
		d.Report(NodeAt(n), "the YAML files of this commit have too many values in all")
		d.nodes = maxNodes
	}

	return d.nodes >= maxNodes
}

func (d *Decoder) anchor(x *ast.AnchorNode) {
	if d.anchors == nil {
		d.anchors = map[string]ast.Node{}
	}
	name := x.Name.GetToken().Value
	if d.anchors[name] == nil {
		d.anchors[name] = x.Value
	}
}

// alias is the node that *NAME refers to.
func (d *Decoder) alias(x *ast.AliasNode) (ast.Node, bool) {
	name := x.Value.GetToken().Value
	to, ok := d.anchors[name]
	if !ok {
		d.Report(NodeAt(x), "alias *%s has no anchor before it", name)
	}
	return to, ok
}

// Decode puts n into v by v's type.
func (d *Decoder) Decode(n ast.Node, v reflect.Value) {
	if d.open > 64 {
		d.Report(NodeAt(n), "nested too deep")
		return
	}

	d.open++
	defer func() { d.open-- }()
	if c, ok := v.Addr().Interface().(interface{ Decode(*Decoder, ast.Node) }); ok {
		c.Decode(d, n)
		return
	}

	r, ok := d.Resolve(n)
	if !ok {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if r.Type() == ast.NullType {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		d.Decode(r, v.Elem())

	case reflect.Struct:
		d.DecodeStruct(r, v)
	case reflect.Bool:
		if b, ok := r.(*ast.BoolNode); ok {
			v.SetBool(b.Value)
			return
		}
		d.Report(NodeAt(n), "want true or false, not %s", Describe(r))

	default:
		panic("yaml: no way to decode " + v.Type().String())
	}
}

// DecodeStruct fills the fields that have a yaml tag; a key without a field is a problem.
func (d *Decoder) DecodeStruct(n ast.Node, v reflect.Value) {
	if n.Type() == ast.NullType {
		return
	}
	fields := fieldsOf(v.Type())
	seen := make([]bool, len(fields))
	d.Pairs(n, func(key string, at problem.Pos, val ast.Node) {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == key })
		if i < 0 {
			names := fieldNames(fields)
			hint := problem.DidYouMean(key, names)
			if hint == "" {
				hint = "; known here: " + strings.Join(names, ", ")
			}
			d.Report(at, "unknown field %q%s", key, hint)
			return
		}

		if seen[i] {
			return // Pairs has reported it
		}
		seen[i] = true
		if d.takes(fields[i], at) {
			d.Decode(val, v.Field(fields[i].index))
		}
	})
}

// takes says whether a field is decoded, and reports one that is not to be there.
func (d *Decoder) takes(f field, at problem.Pos) bool {
	switch {
	case f.former && d.Former:
	case f.place != "":
		d.Report(at, "%s is written %s, not here", f.name, f.place)
	case f.notYet:
		d.Report(at, "%s is not supported yet: this bellhop would do nothing with it", f.name)
	default:
		return true
	}
	return false
}

// Pairs calls f for each key of a mapping; a key that comes twice is a problem.
func (d *Decoder) Pairs(n ast.Node, f func(key string, at problem.Pos, val ast.Node)) {
	m, ok := n.(ast.MapNode)
	if !ok {
		d.Report(NodeAt(n), "want a mapping (name: value), not %s", Describe(n))
		return
	}

	var first map[string]problem.Pos
	for it := m.MapRange(); it.Next(); {
		kn := it.Key()
		at := NodeAt(kn)
		if kn.IsMergeKey() {
			d.Report(at, "<< is not supported: write it out, or use groups")
			continue
		}

		key, ok := scalarText(kn)
		if !ok {
			if ak, isAnchor := kn.(*ast.AnchorNode); isAnchor {
				key, ok = scalarText(ak.Value)
			}
		}

		if !ok {
			d.Report(at, "want a plain name as key")
			continue
		}

		if was, dup := first[key]; dup {
			d.Report(at, "%q stands here a second time; first in line %d", key, was.Line)
			continue
		}

		if first == nil {
			first = make(map[string]problem.Pos, 8)
		}
		first[key] = at
		f(key, at, it.Value())
	}
}

// scalarText is the text of a scalar as it was written, and whether n is one.
func scalarText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode:
		return n.Token.Value, true
	case *ast.FloatNode:
		return n.Token.Value, true
	case *ast.BoolNode:
		return n.Token.Value, true
	case *ast.MappingKeyNode:
		return scalarText(n.Value)
	case *ast.InfinityNode, *ast.NanNode, *ast.NullNode:
		return n.GetToken().Value, true
	}
	return "", false
}

func Describe(n ast.Node) string {
	switch n.Type() {
	case ast.NullType:
		return "nothing"
	case ast.BoolType:
		return n.GetToken().Value
	case ast.IntegerType, ast.FloatType, ast.InfinityType, ast.NanType:
		return "the number " + n.GetToken().Value
	case ast.StringType, ast.LiteralType:
		return "text"
	case ast.SequenceType:
		return "a list"
	case ast.MappingType, ast.MappingValueType:
		return "a mapping"
	}
	return "this"
}
