package scalar

import (
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// printf of templates takes a scalar for %s as for %d: 5000 is text and a number. A verb that fits no
// value is an error; fmt would write it into the file as %!d(string=abc).

// Format writes the number as its text, or under a verb of numbers as what it is worth.
func (n numeral) Format(s fmt.State, verb rune) {
	fmt.Fprintf(s, fmt.FormatString(s, verb), n.under(verb))
}

// under is what a verb is given in place of n.
func (n numeral) under(verb rune) any {
	if !strings.ContainsRune("bcdoOqxXUeEfFgG", verb) || verb == 'q' {
		return string(n)
	}

	r, ok := Rational(string(n))
	switch {
	case !ok:
		return string(n)
	case strings.ContainsRune("eEfFgG", verb):
		f, _ := r.Float64()
		return f
	case r.IsInt():
		return new(big.Int).Set(r.Num())
	}

	return string(n)
}

// A formatted scalar is written as text under %s and %q, and as what it is under every other verb.
type formatted struct{ v any }

// Format implements fmt.Formatter.
func (f formatted) Format(s fmt.State, verb rune) {
	v := f.v
	if verb == 's' || verb == 'q' {
		v = fmt.Sprint(v)
	}
	fmt.Fprintf(s, fmt.FormatString(s, verb), v)
}

var errFormat = errors.New("printf: the format does not fit its values")

// Printf is printf of templates, which plain does.
func Printf(plain func(string, ...any) (string, error)) func(string, ...any) (string, error) {
	return func(format string, args ...any) (string, error) {
		for i, a := range args {
			switch a.(type) {
			case int64, float64, bool:
				args[i] = formatted{a}
			}
		}

		out, err := plain(format, args...)
		if err == nil && misfits(format, args, out) {
			return "", errFormat
		}
		return out, err
	}
}

// misfits says whether fmt wrote into out that a verb does not fit its value.
func misfits(format string, args []any, out string) bool {
	const sign = "%!"
	if strings.Count(out, sign) <= strings.Count(format, sign) {
		return false
	}
	for _, a := range args {
		if s, ok := a.(string); ok && strings.Contains(s, sign) {
			return false // the sign is a value's own
		}
	}

	return true
}
