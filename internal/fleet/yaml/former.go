package yaml

import "github.com/goccy/go-yaml/ast"

// What the first release read in another way. A host that it deployed to holds what it made of a
// commit, and its keys are opened from that commit until the next one is deployed: so the commit must
// come to the same digest.

// formerScalar is a scalar as Go values that have lost how they were written; null is nil.
func formerScalar(n ast.Node) (any, bool) {
	switch x := n.(type) {
	case *ast.StringNode:
		return x.Value, true
	case *ast.LiteralNode:
		return x.Value.Value, true
	case *ast.IntegerNode:
		return formerInteger(x.Value), true
	case *ast.FloatNode:
		return x.Value, true
	case *ast.BoolNode:
		return x.Value, true
	case *ast.NullNode:
		return nil, true
	}
	return nil, false
}

func formerInteger(v any) any {
	switch v := v.(type) {
	case uint64:
		if v <= 1<<63-1 {
			return int64(v)
		}
		return float64(v)
	case int:
		return int64(v)
	}
	return v
}
