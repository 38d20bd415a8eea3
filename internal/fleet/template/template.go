// Package template parses and renders the templates of a config repo.
//
// Templates are bounded and pure. Bounded: what is parsed is scanned first, and each execution has a
// budget of iterations, calls and text. Pure: there is no clock, no chance, no environment and no file, so
// that one commit gives one bundle. A key's value goes through once: what it holds is never read as a
// template again.
package template

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"
	"unicode/utf8"

	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/tree"
)

// A Template is a parsed template of the repo.
type Template struct {
	File   string
	t      *template.Template
	Secret bool // it names keys, so its rendering is itself a key
	KeyAt  problem.Pos
	Keys   []string // that it names, sorted

	includes map[string]*template.Template // shared templates that it includes, by path
	publics  map[string]string             // what public reads, by path; nil when it is not named
}

// pureFuncs are known to the parser; each execution has its own, which count.
var pureFuncs = newExecution().funcs

func join(sep string, v any) (string, error) {
	switch v := v.(type) {
	case []string:
		return strings.Join(v, sep), nil
	case []any:
		ss := make([]string, len(v))
		for i := range v {
			ss[i] = fmt.Sprint(v[i])
		}
		return strings.Join(ss, sep), nil
	}
	return "", fmt.Errorf("join wants a list, not %T", v)
}

func toJSON(v any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", errors.New("no JSON for this value")
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

var (
	errEnvText    = errors.New("env: the value is not UTF-8, and systemd would drop it")
	errEnvBreak   = errors.New("env: the value has a line break, which an environment file can't hold; `trim` takes one off its end")
	errEnvControl = errors.New("env: the value has control characters")
)

var bareEnv = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,=-]+$`)

// EnvQuote writes s as the value of a line in an environment file, so that systemd and a
// POSIX shell read exactly s. What such a file can't hold is an error that does not repeat s.
func EnvQuote(s string) (string, error) {
	if bareEnv.MatchString(s) {
		return s, nil
	}
	if !utf8.ValidString(s) {
		return "", errEnvText
	}
	for _, c := range s {
		if c == '\n' || c == '\r' {
			return "", errEnvBreak
		}
		if c < ' ' && c != '\t' || c == 0x7f {
			return "", errEnvControl
		}
	}

	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", `$`, `\$`).Replace(s) + `"`, nil
}

// A Source is the text of a template, and where to report what is wrong with it.
type Source struct {
	Tree *tree.Tree
	File string // in the repo
	Text string
	Tell func(at problem.Pos, format string, args ...any)
	// reportOf is called with what is wrong with a shared template that this one includes.
	TellOf func(*problem.Problem)

	UsesShared, UsesPublic bool // what the template reads from outside its service
}

// Parse is the template; nil when it can't be parsed. What is wrong with it is reported.
func (s *Source) Parse() *Template {
	t, err := parseText(s.File, s.Text)
	if err != nil {
		at, msg := Explain(err)
		s.Tell(at, "%s", msg)
		return nil
	}

	out := &Template{File: s.File, t: t}
	w := &walker{tmpl: out, text: s.Text, report: s.Tell, src: s}
	w.walk(t)
	slices.Sort(out.Keys)
	out.Keys = slices.Compact(out.Keys)

	return out
}

// walk goes through all that t defines.
func (w *walker) walk(t *template.Template) {
	for _, one := range t.Templates() {
		if one.Tree == nil || one.Root == nil {
			continue
		}
		w.list(one.Root)
		one.Root.Nodes = append(slices.Insert(one.Root.Nodes, 0, wordNode(enterWord)), wordNode(leaveWord))
	}
}

func parseText(src, text string) (t *template.Template, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("template: %s:1: not readable as a template", src)
		}
	}()

	if err := scanTemplate(src, text); err != nil {
		return nil, err
	}
	return template.New(src).Option("missingkey=error").Funcs(pureFuncs).Parse(text)
}

// wordNode is the action {{ word }}.
func wordNode(word string) parse.Node {
	t, err := template.New("word").Funcs(pureFuncs).Parse("{{" + word + "}}")
	if err != nil {
		panic(err)
	}
	return t.Root.Nodes[0]
}

// A walker finds the keys that a template names, and makes its loops count.
type walker struct {
	tmpl   *Template
	text   string
	report func(problem.Pos, string, ...any)

	src *Source
}

func (w *walker) list(l *parse.ListNode) {
	if l == nil {
		return
	}
	for _, n := range l.Nodes {
		switch n := n.(type) {
		case *parse.ActionNode:
			w.pipe(n.Pipe)
		case *parse.IfNode:
			w.branch(&n.BranchNode)
		case *parse.WithNode:
			w.branch(&n.BranchNode)
		case *parse.RangeNode:
			w.branch(&n.BranchNode)
			n.List.Nodes = slices.Insert(n.List.Nodes, 0, wordNode(iterationWord))
		case *parse.TemplateNode:
			w.pipe(n.Pipe)
		}
	}
}

func (w *walker) branch(b *parse.BranchNode) {
	w.pipe(b.Pipe)
	w.list(b.List)
	w.list(b.ElseList)
}

func (w *walker) pipe(p *parse.PipeNode) {
	if p == nil {
		return
	}
	for _, c := range p.Cmds {
		for i, a := range c.Args {
			switch a := a.(type) {
			case *parse.IdentifierNode:
				switch a.Ident {
				case "key":
					w.key(c, i)
				case "include":
					w.include(c, i)
				case "public":
					w.public(c)
				}

			case *parse.PipeNode:
				w.pipe(a)
			case *parse.ChainNode:
				if inner, ok := a.Node.(*parse.PipeNode); ok {
					w.pipe(inner)
				}
			}
		}
	}
}

// place is where a command is in the text.
func (w *walker) place(c *parse.CommandNode) problem.Pos {
	off := min(int(c.Position()), len(w.text))
	return problem.Pos{Line: 1 + strings.Count(w.text[:off], "\n"), Column: off - strings.LastIndexByte(w.text[:off], '\n')}
}

// public lets the template read the public halves of secrets.
func (w *walker) public(c *parse.CommandNode) {
	w.src.UsesPublic = true
	publics, err := w.src.Tree.PublicHalves()
	if err != nil {
		w.report(w.place(c), "public: %v", err)
	}
	w.tmpl.publics = publics
}

// key notes {{ key "name" }}; the name must be written out, so that it is known before any
// secret is opened.
func (w *walker) key(c *parse.CommandNode, i int) {
	at := w.place(c)
	if !w.tmpl.Secret {
		w.tmpl.Secret, w.tmpl.KeyAt = true, at
	}
	if i == 0 && len(c.Args) == 2 {
		if name, ok := c.Args[1].(*parse.StringNode); ok {
			if !syntax.IsName(name.Text) {
				w.report(at, "bad name %q for a key: %s", name.Text, syntax.NameWords)
				return
			}

			w.tmpl.Keys = append(w.tmpl.Keys, name.Text)
			return
		}
	}

	w.report(at, `want the name of a key written out, as in {{ key "db" }}`)
}

var templatePlace = regexp.MustCompile(`^template: (.*?):(\d+)(?::(\d+))?: `)

// shortened leaves out the middle of a message that names each of many templates in each other.
func shortened(msg string) string {
	const head, tail = 300, 300
	if len(msg) <= head+tail {
		return msg
	}
	return strings.ToValidUTF8(msg[:head], "") + " … " + strings.ToValidUTF8(msg[len(msg)-tail:], "")
}

// ownWords is what text/template says of the functions that count, which nobody wrote.
var ownWords = regexp.MustCompile(`at <bellhop(?:Iteration|Enter)>: error calling bellhop(?:Iteration|Enter): `)

// Explain parts text/template's error into a place and a message.
func Explain(err error) (problem.Pos, string) {
	msg := err.Error()
	m := templatePlace.FindStringSubmatch(msg)
	if m == nil {
		return problem.Pos{Line: 1, Column: 1}, strings.TrimPrefix(msg, "template: ")
	}
	line, _ := strconv.Atoi(m[2])
	col, _ := strconv.Atoi(m[3])
	msg = ownWords.ReplaceAllString(msg[len(m[0]):], "")
	return problem.Pos{Line: line, Column: col + 1}, shortened(noField.ReplaceAllStringFunc(msg, missingField))
}

// noField is how text/template says that a value has no such field: by Go's name of its type.
var noField = regexp.MustCompile(`can't evaluate field (\S+) in type (.+)$`)

// missingField says the same of what a template sees by the word for it.
func missingField(said string) string {
	m := noField.FindStringSubmatch(said)
	field, of := m[1], m[2]
	switch of {
	case fmt.Sprintf("%T", (*dot)(nil)):
		return fmt.Sprintf("there is no .%s; known are .Settings, .Vars, .Host and .Fleet", field)
	case fmt.Sprintf("%T", (*HostView)(nil)):
		return "a host has no field " + field
	case fmt.Sprintf("%T", (*FleetView)(nil)):
		return "the fleet has no field " + field
	}

	return fmt.Sprintf("no field %s: the value before it is neither a mapping nor a host", field)
}

// A capped buffer refuses to grow past maxOutput.
type capped struct{ bytes.Buffer }

func (c *capped) Write(p []byte) (int, error) {
	if c.Len()+len(p) > maxOutput {
		return 0, errOutput
	}
	return c.Buffer.Write(p)
}

// Execute renders the template. values gives a key's value.
func (t *Template) Execute(in *Scope, values func(name string) (string, error)) ([]byte, error) {
	c, err := t.t.Clone()
	if err != nil {
		return nil, err
	}
	x := executions.Get().(*execution)
	defer executions.Put(x)
	x.work, x.values, x.tmpl = work{budget: in.Budget}, values, t
	defer func() { x.work, x.values, x.tmpl, x.clones = work{}, nil, nil, nil }()
	c.Funcs(x.funcs)

	var out capped
	if err := c.Execute(&out, &dot{Settings: in.Settings, scope: in}); err != nil {
		clear(out.Bytes())
		return nil, err
	}

	if err := in.Budget.Output(out.Len()); err != nil {
		clear(out.Bytes())
		return nil, err
	}

	return out.Bytes(), nil
}

// KnownReason is the reason of an error that is our own, and so holds no value.
func KnownReason(err error) string {
	for _, e := range []error{errOutput, errIterations, errCalls, errText, errEnvBreak, errEnvText, errEnvControl} {
		if errors.Is(err, e) {
			return ": " + e.Error()
		}
	}
	return ""
}
