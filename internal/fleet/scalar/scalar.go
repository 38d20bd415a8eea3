// Package scalar has the numbers, booleans and texts of settings: and vars:, as templates see them.
//
// A scalar keeps the text that was written. A number or a boolean that Go writes in the same way is a
// plain int64, float64 or bool, so that templates compare as they always did. What Go would write in
// another way, as 0077, 1.10 or 0x1F, is a numeral or a spelled boolean: it prints as written, and
// compares as the number that it is.
package scalar

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

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

// Number is a number that prints as text; what is longer than any number is text.
func Number(text string) any {
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

// Bool is a boolean that prints as text; a text that is no boolean stays one.
func Bool(text string) any {
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

// WriteKey is equal for equal values, and only for them.
func WriteKey(b *strings.Builder, v any) {
	switch v := v.(type) {
	case []any:
		fmt.Fprintf(b, "[%d ", len(v))
		for _, item := range v {
			WriteKey(b, item)
		}

	case map[string]any:
		fmt.Fprintf(b, "{%d ", len(v))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			fmt.Fprintf(b, "%q:", k)
			WriteKey(b, v[k])
		}

	default:
		fmt.Fprintf(b, "%T %q ", v, fmt.Sprint(v))
	}
}

// KindOf names the kind of a setting's value for people; numbers are one kind.
func KindOf(v any) string {
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
	case IsNumber(v):
		return "a number"
	}

	return "no plain value"
}
