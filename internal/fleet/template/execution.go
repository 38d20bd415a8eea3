package template

import (
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"text/template"

	"bellhop/internal/fleet/tree"
)

// One execution of a template is bounded in three ways. Iterations: every iteration of a loop and every call of
// a template counts. Depth: templates that call each other. Text: every function that reads or makes
// text draws its bytes from one budget before it allocates; the output alone says nothing, since what
// a variable holds is never written.

const (
	maxOutput     = 1 << 20
	maxIterations = 1_000_000
	maxCalls      = 500 // templates that are open, one called by the other
	maxText       = 16 << 20
)

var (
	errOutput     = errors.New("the output is larger than 1 MiB")
	errIterations = errors.New("loops turn more than a million times")
	errCalls      = fmt.Errorf("templates call each other more than %d deep", maxCalls)
	errText       = fmt.Errorf("functions make more than %d MiB of text", maxText>>20)
)

// The words that bellhop puts into a parsed template. One that names them itself only uses up its own
// iterations.
const (
	iterationWord = "bellhopIteration" // at every iteration of a loop
	enterWord     = "bellhopEnter"     // at the begin of every template
	leaveWord     = "bellhopLeave"     // at its end
)

// work is what one execution has used.
type work struct {
	iterations, calls, text int
	budget                  *tree.Budget // of the whole load; nil: none
}

func (w *work) iteration() (string, error) {
	if w.iterations++; w.iterations > maxIterations {
		return "", errIterations
	}
	return "", w.budget.Iteration()
}

func (w *work) enter() (string, error) {
	if w.calls++; w.calls > maxCalls {
		return "", errCalls
	}
	return w.iteration()
}

func (w *work) leave() string { w.calls--; return "" }

// draw takes n bytes of text from the budget.
func (w *work) draw(n int) error {
	if n < 0 || n > maxText-w.text {
		return errText
	}
	w.text += n
	return nil
}

// An execution is one run of a template, with functions that count. The functions are dear to make,
// so that executions are used again.
type execution struct {
	work
	values func(name string) (string, error) // of keys
	funcs  template.FuncMap
	tmpl   *Template                     // that is executed
	clones map[string]*template.Template // of what it includes, with funcs
}

var executions = sync.Pool{New: func() any { return newExecution() }}

func newExecution() *execution {
	x := &execution{}
	fs := x.counting()
	fs["key"] = func(name string) (string, error) {
		if x.values == nil {
			return "", errors.New("no keys here")
		}
		return x.values(name)
	}

	fs["include"], fs["public"] = x.includeFile, x.publicHalf
	x.funcs = scalarFuncs(fs)
	return x
}

// left says whether n bytes could still be drawn.
func (w *work) left(n int) error {
	if n < 0 || n > maxText-w.text {
		return errText
	}
	return nil
}

// counting are functions that draw from w, those of text/template that make text among them.
func (w *work) counting() template.FuncMap {
	return template.FuncMap{
		iterationWord: w.iteration, enterWord: w.enter, leaveWord: w.leave,

		"env":   func(s string) (string, error) { return w.quote(s) },
		"trim":  func(s string) (string, error) { return strings.TrimSpace(s), w.draw(len(s)) },
		"lower": func(s string) (string, error) { return made(w, s, 3, strings.ToLower) },
		"upper": func(s string) (string, error) { return made(w, s, 3, strings.ToUpper) },
		"base64": func(s string) (string, error) {
			return made(w, s, 2, func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) })
		},
		"default": func(def, v any) any {
			if v == nil || v == "" {
				return def
			}
			return v
		},
		"split": w.split, "join": w.join, "replace": w.replace, "indent": w.indent, "json": w.json,

		"printf":   w.printf,
		"print":    func(args ...any) (string, error) { return w.print(args, 10, fmt.Sprint) },
		"println":  func(args ...any) (string, error) { return w.print(args, 10, fmt.Sprintln) },
		"html":     func(args ...any) (string, error) { return w.print(args, 10, template.HTMLEscaper) },
		"js":       func(args ...any) (string, error) { return w.print(args, 12, template.JSEscaper) },
		"urlquery": func(args ...any) (string, error) { return w.print(args, 10, template.URLQueryEscaper) },
	}
}

// made is f of s, which makes at most times as many bytes.
func made(w *work, s string, times int, f func(string) string) (string, error) {
	if err := w.left(times * len(s)); err != nil {
		return "", err
	}
	out := f(s)
	return out, w.draw(len(s) + len(out))
}

func (w *work) quote(s string) (string, error) {
	if err := w.draw(2 * len(s)); err != nil {
		return "", err
	}
	return EnvQuote(s)
}

func (w *work) split(sep, s string) ([]string, error) {
	const header = 16 // bytes of a string beside its text
	parts := len(s) + 1
	if sep != "" {
		parts = strings.Count(s, sep) + 1
	}
	if err := w.draw(len(s) + header*parts); err != nil {
		return nil, err
	}
	return strings.Split(s, sep), nil
}

func (w *work) join(sep string, v any) (string, error) {
	n, err := w.size(v)
	if err != nil {
		return "", err
	}
	if items := listLen(v); items > 1 {
		if len(sep) > maxText/items {
			return "", errText
		}
		n += len(sep) * items
	}

	if err := w.draw(n); err != nil {
		return "", err
	}
	return join(sep, v)
}

func listLen(v any) int {
	switch v := v.(type) {
	case []string:
		return len(v)
	case []any:
		return len(v)
	}
	return 0
}

func (w *work) replace(old, new, s string) (string, error) {
	if old == "" {
		return s, nil // strings.ReplaceAll would put new between all letters
	}
	if err := w.draw(len(s)); err != nil {
		return "", err
	}
	n := strings.Count(s, old)
	if n > 0 && len(new) > maxText/n {
		return "", errText
	}
	if err := w.draw(len(s) + n*len(new)); err != nil {
		return "", err
	}
	return strings.ReplaceAll(s, old, new), nil
}

func (w *work) indent(n int, s string) (string, error) {
	if n < 0 || n > 80 {
		return "", fmt.Errorf("indent by %d", n)
	}
	if err := w.draw(len(s) + n*strings.Count(s, "\n")); err != nil {
		return "", err
	}
	return strings.ReplaceAll(s, "\n", "\n"+strings.Repeat(" ", n)), nil
}

func (w *work) json(v any) (string, error) {
	n := sizeOf(reflect.ValueOf(v), maxText-w.text, 0, true)
	if err := w.left(6 * n); err != nil { // \u001f for one byte
		return "", err
	}
	s, err := toJSON(v)
	if err != nil {
		return "", err
	}
	return s, w.draw(n + len(s))
}

// print is f of args, which makes at most times as many bytes as they have.
func (w *work) print(args []any, times int, f func(...any) string) (string, error) {
	n, err := w.size(args)
	if err != nil {
		return "", err
	}
	if err := w.left(times * n); err != nil {
		return "", err
	}
	s := f(args...)
	return s, w.draw(n + len(s))
}

func (w *work) printf(format string, args ...any) (string, error) {
	widest, verbs, err := formatBound(format)
	if err != nil {
		return "", err
	}
	n, err := w.size(args)
	if err != nil {
		return "", err
	}
	if err := w.left(len(format) + widest); err != nil {
		return "", err
	}
	if verbs > 0 && n > maxText/10/verbs { // an argument may be named by several verbs
		return "", errText
	}
	if err := w.left(len(format) + widest + 10*n*verbs); err != nil {
		return "", err
	}
	s := fmt.Sprintf(format, args...)
	return s, w.draw(len(format) + n + len(s))
}

// maxWidth is the largest width that fmt takes; above it fmt writes an error.
const maxWidth = 1_000_000

// formatBound is what the widths and precisions of a format can add at most, and how many verbs
// it has. A * may be any width.
func formatBound(format string) (widest, verbs int, err error) {
	for {
		i := strings.IndexByte(format, '%')
		if i < 0 {
			return widest, verbs, nil
		}
		format = format[i+1:]
		verbs++

		end := strings.IndexFunc(format, func(r rune) bool { return !strings.ContainsRune("+-# 0123456789.*[]", r) })
		if end < 0 {
			end = len(format)
		}
		widest += widthOf(format[:end])
		if strings.HasPrefix(format[end:], "p") {
			return 0, 0, errors.New("printf: %p prints what differs from run to run")
		}
		if widest > maxText {
			return widest, verbs, errText
		}
		format = strings.TrimPrefix(format[end:], "%") // %% is one verb
	}
}

// widthOf adds the numbers between % and its verb.
func widthOf(flags string) (sum int) {
	n := 0
	for _, c := range flags + " " {
		switch {
		case c >= '0' && c <= '9':
			n = min(10*n+int(c-'0'), maxWidth)
			continue
		case c == '*':
			sum += maxWidth
		}

		sum += n
		n = 0
	}

	return sum
}

var formatter = reflect.TypeFor[fmt.Formatter]()

// size is how many bytes v has as text, about: what it holds, with a few for each value. It looks no
// further than the budget reaches, and what it looks at is drawn.
func (w *work) size(v any) (int, error) {
	left := maxText - w.text
	n := sizeOf(reflect.ValueOf(v), left, 0, false)
	if n > left {
		return 0, errText
	}
	return n, nil
}

// sizeOf adds up v and stops above limit. Values of the config are trees, at most 32 deep. What
// prints as a name alone counts as one, unless fields is set.
func sizeOf(v reflect.Value, limit, depth int, fields bool) int {
	const each, name = 8, 64
	if depth > 100 {
		return limit + 1
	}
	if v.IsValid() && !fields && v.Type().Implements(formatter) {
		return name
	}
	n := each
	add := func(v reflect.Value) { n += sizeOf(v, limit-n, depth+1, fields) }
	switch v.Kind() {
	case reflect.String:
		n += v.Len()
	case reflect.Interface, reflect.Pointer:
		if !v.IsNil() {
			add(v.Elem())
		}

	case reflect.Slice, reflect.Array:
		for i := 0; i < v.Len() && n <= limit; i++ {
			add(v.Index(i))
		}

	case reflect.Map:
		for it := v.MapRange(); n <= limit && it.Next(); {
			add(it.Key())
			add(it.Value())
		}

	case reflect.Struct:
		for i := 0; i < v.NumField() && n <= limit; i++ {
			if f := v.Type().Field(i); f.IsExported() {
				n += len(f.Name)
				add(v.Field(i))
			}
		}

	default:
		n += 24 // the longest number
	}

	return n
}
