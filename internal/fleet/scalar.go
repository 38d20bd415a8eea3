package fleet

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// Scalars of settings: and vars: keep the text that was written. A number or a boolean that Go writes
// in the same way is a plain int64, float64 or bool, so that templates calculate with nothing and
// compare as they always did. What Go would write in another way, as 0077, 1.10 or 0x1F, is a numeral
// or a spelled boolean: it prints as written, and compares as the number that it is.

// A numeral is a number that Go would write in another way than the config does.
type numeral string

// MarshalJSON writes the number as it was written where JSON has such a number, else as text.
func (n numeral) MarshalJSON() ([]byte, error) {
	if json.Valid([]byte(n)) {
		return []byte(n), nil
	}
	return json.Marshal(string(n))
}

// Booleans that are not written true or false.
type (
	titleBool bool // True, False
	upperBool bool // TRUE, FALSE
)

func (b titleBool) String() string {
	if b {
		return "True"
	}
	return "False"
}

func (b upperBool) String() string { return strings.ToUpper(strconv.FormatBool(bool(b))) }

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
		return numberOf(text), true
	case ast.BoolType:
		return boolOf(text), true
	}
	return text, true
}

// numberOf is a number that prints as text; what is longer than any number is text.
func numberOf(text string) any {
	if len(text) > maxNumeral {
		return text
	}
	if i, err := strconv.ParseInt(text, 10, 64); err == nil && strconv.FormatInt(i, 10) == text {
		return i
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil && fmt.Sprint(f) == text && strings.Contains(text, ".") {
		return f
	}
	return numeral(text)
}

// boolOf is a boolean that prints as text; a text that is no boolean stays one.
func boolOf(text string) any {
	switch text {
	case "true", "false":
		return text == "true"
	case "True", "False":
		return titleBool(text == "True")
	case "TRUE", "FALSE":
		return upperBool(text == "TRUE")
	}
	return text
}

// valueKey is equal for equal values, and only for them.
func valueKey(b *strings.Builder, v any) {
	switch v := v.(type) {
	case []any:
		fmt.Fprintf(b, "[%d ", len(v))
		for _, item := range v {
			valueKey(b, item)
		}
	case map[string]any:
		fmt.Fprintf(b, "{%d ", len(v))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			fmt.Fprintf(b, "%q:", k)
			valueKey(b, v[k])
		}
	default:
		fmt.Fprintf(b, "%T %q ", v, fmt.Sprint(v))
	}
}
