package yaml

import (
	"io"
	"slices"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/scanner"
	"github.com/goccy/go-yaml/token"

	"bellhop/internal/fleet/problem"
)

// The parser keeps a path for each node and calls itself for each level, so that deep nesting
// costs memory by its square. Depth is therefore counted on the tokens, as they come from the
// scanner, before the parser sees any: a file of brackets alone ends at the 65th.

const (
	maxDepth = 64     // lists and mappings in each other
	maxKeys  = 25_000 // names in one mapping: for each one the parser goes over all before it
)

// tokens scans the file.
func (d *Decoder) tokens() (token.Tokens, bool) {
	var s scanner.Scanner
	var out token.Tokens
	var n nesting

	s.Init(string(d.Data))
	for {
		part, err := s.Scan()
		if err == io.EOF {
			return out, true
		}
		for _, tk := range part {
			n.add(tk)
			if n.depth() > maxDepth {
				d.Report(tokenAt(tk), "nested too deep: more than %d lists and mappings in each other", maxDepth)
				return nil, false
			}

			if n.keys > maxKeys {
				d.Report(tokenAt(tk), "more than %s names in one mapping", problem.Thousands(maxKeys))
				return nil, false
			}
		}

		out.Add(part...)
		if len(out) > maxTokens {
			d.Report(tokenAt(out[len(out)-1]), "more than %s words and signs of YAML: spread it over files", problem.Thousands(maxTokens))
			return nil, false
		}
	}
}

// A block is a list or a mapping of the block style.
type block struct {
	column int // where its entries begin
	keys   int
}

// nesting follows how deep the tokens are nested.
type nesting struct {
	flow   int // open brackets and braces
	block  []block
	keys   int // of the mapping that the last key is in
	before *token.Token
	marks  int // anchors and tags in a row
}

func (n *nesting) add(tk *token.Token) {
	switch tk.Type {
	case token.SequenceStartType, token.MappingStartType:
		n.flow++
	case token.SequenceEndType, token.MappingEndType:
		n.flow = max(0, n.flow-1)
	case token.SequenceEntryType, token.MappingKeyType:
		n.entry(tk)
	case token.MappingValueType:
		if n.before != nil { // the key
			n.entry(n.before)
		}

	case token.DocumentHeaderType, token.DocumentEndType:
		n.block = n.block[:0]
	}

	switch tk.Type {
	case token.AnchorType, token.TagType:
		n.marks++
	case token.StringType: // an anchor's name follows it
		if n.before == nil || n.before.Type != token.AnchorType {
			n.marks = 0
		}

	default:
		n.marks = 0
	}

	n.before = tk
}

// entry notes an entry of a block, which ends the blocks that are indented further.
func (n *nesting) entry(tk *token.Token) {
	if n.flow > 0 {
		return
	}
	col := tokenAt(tk).Column
	for len(n.block) > 0 && n.block[len(n.block)-1].column > col {
		n.block = n.block[:len(n.block)-1]
	}
	if len(n.block) == 0 || n.block[len(n.block)-1].column < col {
		n.block = append(n.block, block{column: col})
	}
	top := &n.block[len(n.block)-1]
	if tk.Type != token.SequenceEntryType {
		top.keys++
	}
	n.keys = top.keys
}

func (n *nesting) depth() int { return n.flow + len(n.block) + n.marks }

// endless reports an alias that is inside its own anchor.
func (d *Decoder) endless(body ast.Node) bool {
	v := aliasVisitor{report: func(x *ast.AliasNode) {
		d.Report(NodeAt(x), "alias *%s stands within its own anchor", x.Value.GetToken().Value)
	}}
	before := len(d.Problems)
	ast.Walk(v, body)
	return len(d.Problems) > before
}

// An aliasVisitor knows the anchors that the nodes below it are in.
type aliasVisitor struct {
	open   []string
	report func(*ast.AliasNode)
}

// Visit looks at one node.
func (v aliasVisitor) Visit(n ast.Node) ast.Visitor {
	switch n := n.(type) {
	case *ast.AnchorNode:
		v.open = append(slices.Clip(v.open), n.Name.GetToken().Value)
	case *ast.AliasNode:
		if slices.Contains(v.open, n.Value.GetToken().Value) {
			v.report(n)
		}
	}
	return v
}
