package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/template"
	"text/template/parse"
	"unicode/utf8"

	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/tree"
)

// Templates are bounded and pure. Bounded: see work, and what is parsed is scanned first. Pure: there is no
// clock, no chance, no environment, no file, so that one tree gives one bundle. A key's value
// goes through once: what it holds is never read as template again.

// A tmpl is a parsed template of the repo.
type tmpl struct {
	src    string
	t      *template.Template
	secret bool // it names keys, so its rendering is itself a key
	keyAt  problem.Pos
	keys   []string // that it names, sorted

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

// template parses the template at src; what is wrong with it is told.
func (s *service) template(tr *tree.Tree, src string, b *tree.Blob) *tmpl {
	tell := func(at problem.Pos, format string, args ...any) {
		s.problems = append(s.problems, problem.At(src, b.Data, at, format, args...))
	}
	t, err := parseTemplate(src, string(b.Data))
	if err != nil {
		at, msg := templateError(err)
		tell(at, "%s", msg)
		return nil
	}
	out := &tmpl{src: src, t: t}
	w := &walker{tmpl: out, text: string(b.Data), tell: tell, service: s, tree: tr}
	w.walk(t)
	slices.Sort(out.keys)
	out.keys = slices.Compact(out.keys)
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

func parseTemplate(src, text string) (t *template.Template, err error) {
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
	tmpl *tmpl
	text string
	tell func(problem.Pos, string, ...any)

	service *service
	tree    *tree.Tree
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
			n.List.Nodes = slices.Insert(n.List.Nodes, 0, wordNode(turnsWord))
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

// place is where a command stands in the text.
func (w *walker) place(c *parse.CommandNode) problem.Pos {
	off := min(int(c.Position()), len(w.text))
	return problem.Pos{Line: 1 + strings.Count(w.text[:off], "\n"), Column: off - strings.LastIndexByte(w.text[:off], '\n')}
}

// public lets the template read the public halves of secrets.
func (w *walker) public(c *parse.CommandNode) {
	w.service.usesPublic = true
	publics, err := w.tree.PublicHalves()
	if err != nil {
		w.tell(w.place(c), "public: %v", err)
	}
	w.tmpl.publics = publics
}

// key notes {{ key "name" }}; the name must be written out, so that it is known before any
// secret is opened.
func (w *walker) key(c *parse.CommandNode, i int) {
	at := w.place(c)
	if !w.tmpl.secret {
		w.tmpl.secret, w.tmpl.keyAt = true, at
	}
	if i == 0 && len(c.Args) == 2 {
		if name, ok := c.Args[1].(*parse.StringNode); ok {
			if !syntax.IsName(name.Text) {
				w.tell(at, "bad name %q for a key: %s", name.Text, syntax.NameWords)
				return
			}
			w.tmpl.keys = append(w.tmpl.keys, name.Text)
			return
		}
	}
	w.tell(at, `want the name of a key written out, as in {{ key "db" }}`)
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
var ownWords = regexp.MustCompile(`at <bellhop(?:Turn|Enter)>: error calling bellhop(?:Turn|Enter): `)

// templateError parts text/template's error into a place and a message.
func templateError(err error) (problem.Pos, string) {
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
	case fmt.Sprintf("%T", (*templateData)(nil)):
		return fmt.Sprintf("there is no .%s; known are .Settings, .Vars, .Host and .Fleet", field)
	case fmt.Sprintf("%T", (*hostView)(nil)):
		return "a host has no field " + field
	case fmt.Sprintf("%T", (*fleetView)(nil)):
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

// execute renders the template. values gives a key's value.
func (t *tmpl) execute(data *templateData, values func(name string) (string, error)) ([]byte, error) {
	c, err := t.t.Clone()
	if err != nil {
		return nil, err
	}
	x := executions.Get().(*execution)
	defer executions.Put(x)
	x.work, x.values, x.tmpl = work{budget: data.budget}, values, t
	defer func() { x.work, x.values, x.tmpl, x.clones = work{}, nil, nil, nil }()
	c.Funcs(x.funcs)

	var out capped
	if err := c.Execute(&out, data); err != nil {
		clear(out.Bytes())
		return nil, err
	}
	if err := data.budget.Output(out.Len()); err != nil {
		clear(out.Bytes())
		return nil, err
	}
	return out.Bytes(), nil
}

// templateData is the dot of a template. Host and Fleet are methods, so that their use is
// seen: only a template that looked at the host is rendered again for each.
type templateData struct {
	Settings map[string]any

	host      *hostView
	fleet     *fleetView
	usedHost  bool
	usedFleet bool
	budget    *tree.Budget // that executions draw from; nil: none
}

// Host is the host that the file is for.
func (d *templateData) Host() *hostView { d.usedHost = true; return d.host }

// Vars are the variables of the host.
func (d *templateData) Vars() map[string]any { return d.Host().Vars }

// Fleet is all hosts.
func (d *templateData) Fleet() *fleetView { d.usedFleet = true; return d.fleet }

// Format keeps every verb of printf from the fields, which hold addresses of memory.
func (d *templateData) Format(f fmt.State, _ rune) { io.WriteString(f, d.String()) }

// String does the same where a template prints the value itself: text/template looks through the
// pointer, and keeps it only for a Stringer.
func (d *templateData) String() string { return "bellhop" }

// A hostView is what a template may know of a host.
type hostView struct {
	Name      string
	Address   string // the first one, without a port
	Addresses []string
	Tags      []string
	Services  []string
	Vars      map[string]any
	Settings  map[string]map[string]any

	arch string
}

// Arch is the host's architecture as the config has it: a template sees nothing that was
// learned on a host, or one tree would give two bundles.
func (h *hostView) Arch() (string, error) {
	if h.arch == "" {
		return "", fmt.Errorf("host %s has no arch: in the config, and templates know no other", h.Name)
	}
	return h.arch, nil
}

// Has tells whether the host has a tag.
func (h *hostView) Has(tag string) bool { return slices.Contains(h.Tags, tag) }

// Runs tells whether a service is switched on.
func (h *hostView) Runs(service string) bool { return slices.Contains(h.Services, service) }

// Format prints the name, whatever the verb.
func (h *hostView) Format(f fmt.State, _ rune) { io.WriteString(f, h.Name) }

// String is the name, for a template that prints the host itself.
func (h *hostView) String() string { return h.Name }

// A fleetView is what a template may know of all hosts.
type fleetView struct {
	Network string
	Hosts   []*hostView // by name

	lists sync.Map // see chosen
}

// Host finds a host by name.
func (f *fleetView) Host(name string) (*hostView, error) {
	i, ok := slices.BinarySearchFunc(f.Hosts, name, func(h *hostView, name string) int { return strings.Compare(h.Name, name) })
	if !ok {
		return nil, fmt.Errorf("no host %q", name)
	}
	return f.Hosts[i], nil
}

// Tagged lists the hosts that have a tag.
func (f *fleetView) Tagged(tag string) []*hostView {
	return f.chosen("tag "+tag, func(h *hostView) bool { return h.Has(tag) })
}

// Running lists the hosts that have a service switched on.
func (f *fleetView) Running(service string) []*hostView {
	return f.chosen("service "+service, func(h *hostView) bool { return h.Runs(service) })
}

// chosen lists the hosts that fit, once for each key: a template may ask for each host anew.
func (f *fleetView) chosen(key string, fits func(*hostView) bool) []*hostView {
	if known, ok := f.lists.Load(key); ok {
		return known.([]*hostView)
	}
	var out []*hostView
	for _, h := range f.Hosts {
		if fits(h) {
			out = append(out, h)
		}
	}
	f.lists.Store(key, slices.Clip(out))
	return out
}

// Format prints the network, whatever the verb.
func (f *fleetView) Format(s fmt.State, _ rune) { io.WriteString(s, f.Network) }

// String is the network, for a template that prints the fleet itself.
func (f *fleetView) String() string { return f.Network }

func viewOf(h *Host) *hostView {
	v := &hostView{Name: h.Name, arch: h.Arch, Tags: h.Tags, Services: h.Services, Settings: h.Settings, Vars: h.Vars}
	for _, a := range h.Addresses {
		if host, _, err := net.SplitHostPort(a); err == nil {
			v.Addresses = append(v.Addresses, host)
		}
	}
	if len(v.Addresses) > 0 {
		v.Address = v.Addresses[0]
	}
	return v
}
