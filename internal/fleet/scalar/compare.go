package scalar

import (
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strconv"
	"strings"
)

// Templates compare scalars of the config, which keep their text, with what a template spells out: a
// number with a number by what they are worth, and a number with text by what the text reads as. The
// comparisons of text/template refuse to hold one kind against another.

// IsNumber says whether v is a number of the config or of a template.
func IsNumber(v any) bool {
	if _, ok := v.(numeral); ok {
		return true
	}
	switch reflect.ValueOf(v).Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		return true
	}

	return false
}

func isBool(v any) bool { return reflect.ValueOf(v).Kind() == reflect.Bool }

// maxNumeral bounds the text of a number that is compared as one.
const maxNumeral = 400

// Rational is the number that v is, or that its text reads as; false when it is none, or not finite.
func Rational(v any) (*big.Rat, bool) {
	text := strings.TrimSpace(fmt.Sprint(v))
	if len(text) > maxNumeral {
		return nil, false
	}

	plain := strings.ReplaceAll(text, "_", "")
	if i, ok := new(big.Int).SetString(plain, 0); ok { // 0077 is octal, as YAML 1.1 has it
		return new(big.Rat).SetInt(i), true
	}
	if f, err := strconv.ParseFloat(plain, 64); err != nil || f-f != 0 { // an exponent beyond a float64, an infinity
		return nil, false
	}
	return new(big.Rat).SetString(plain)
}

// compareValues orders two values of templates: numbers by what they are worth, text by its bytes, and
// a number with text by what the text reads as.
func compareValues(a, b any) (int, error) {
	as, aText := a.(string)
	bs, bText := b.(string)
	if aText && bText {
		return strings.Compare(as, bs), nil
	}
	aOrdered, bOrdered := aText || IsNumber(a), bText || IsNumber(b)
	if aOrdered && bOrdered {
		x, xok := Rational(a)
		y, yok := Rational(b)
		if xok && yok {
			return x.Cmp(y), nil
		}
	}

	return 0, fmt.Errorf("can't order %s and %s", KindOf(a), KindOf(b))
}

// Equal says whether two values of templates are the same. Scalars are when their texts are,
// numbers also when they are worth the same.
func Equal(a, b any) (bool, error) {
	switch {
	case IsScalar(a) && IsScalar(b):
		return equalScalars(a, b)
	case a == nil || b == nil:
		return a == b, nil
	case reflect.TypeOf(a) != reflect.TypeOf(b) || !reflect.TypeOf(a).Comparable():
		return false, fmt.Errorf("can't compare %s and %s", KindOf(a), KindOf(b))
	}
	return a == b, nil
}

func equalScalars(a, b any) (bool, error) {
	switch {
	case isBool(a) && isBool(b):
		return reflect.ValueOf(a).Bool() == reflect.ValueOf(b).Bool(), nil
	case IsNumber(a) && IsNumber(b):
		c, err := compareValues(a, b)
		return c == 0 && err == nil || fmt.Sprint(a) == fmt.Sprint(b), nil
	case isBool(a) && IsNumber(b), IsNumber(a) && isBool(b):
		return false, fmt.Errorf("can't compare %s and %s", KindOf(a), KindOf(b))
	}
	return fmt.Sprint(a) == fmt.Sprint(b), nil
}

func IsScalar(v any) bool {
	_, text := v.(string)
	return text || IsNumber(v) || isBool(v)
}

// EqualAny is eq of templates: whether a is one of bs.
func EqualAny(a any, bs ...any) (bool, error) {
	if len(bs) == 0 {
		return false, errors.New("missing argument for comparison")
	}
	for _, b := range bs {
		if same, err := Equal(a, b); same || err != nil {
			return same, err
		}
	}

	return false, nil
}

// Ordered is lt, le, gt or ge of templates.
func Ordered(fits func(c int) bool) func(a, b any) (bool, error) {
	return func(a, b any) (bool, error) {
		c, err := compareValues(a, b)
		return err == nil && fits(c), err
	}
}

// Text is the text of a scalar, for functions that work on text.
func Text(v any) (string, error) {
	if !IsScalar(v) {
		return "", fmt.Errorf("wants text, not %s", KindOf(v))
	}
	return fmt.Sprint(v), nil
}
