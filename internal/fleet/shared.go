package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"text/template"
	"text/template/parse"

	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/tree"
)

// A template reads two things of the repo from outside its service: templates below shared/, by
// include, and the public halves that are committed beside secrets, by public. A service that does so
// is read again when they change.

// outsideID names the state of what s reads from outside; "" when it reads nothing.
func (s *service) outsideID(t *tree.Tree) (string, error) {
	var id string
	if s.usesShared {
		shared, err := t.SharedID()
		if err != nil {
			return "", err
		}
		id += "shared " + shared
	}
	if s.usesPublic {
		public, err := t.PublicsID()
		if err != nil {
			return "", err
		}
		id += "public " + public
	}
	return id, nil
}

// current tells whether what s reads from outside is as it was when s was built.
func (s *service) current(t *tree.Tree) (bool, error) {
	id, err := s.outsideID(t)
	return id == s.outside, err
}

// include notes {{ include "shared/x.tmpl" . }}, and parses the file. Its path must be written out, so
// that the keys which it names are known before any secret is opened.
func (w *walker) include(c *parse.CommandNode, i int) {
	at := w.place(c)
	name, ok := writtenOut(c, i)
	switch {
	case !ok:
		w.tell(at, `want the path of a template written out, as in {{ include "shared/x.tmpl" . }}`)
	case !strings.HasPrefix(name, "shared/") || !fs.ValidPath(name):
		w.tell(at, "include %q: want a file below shared/", name)
	default:
		w.service.usesShared = true
		w.parseShared(at, name)
	}
}

// writtenOut is the first argument of the command whose function stands at i, if it is a text.
func writtenOut(c *parse.CommandNode, i int) (string, bool) {
	if i != 0 || len(c.Args) < 2 {
		return "", false
	}
	s, ok := c.Args[1].(*parse.StringNode)
	if !ok {
		return "", false
	}
	return s.Text, true
}

// parseShared reads one shared template into the template that includes it.
func (w *walker) parseShared(at problem.Pos, name string) {
	out := w.tmpl
	if _, known := out.includes[name]; known {
		return
	}
	if out.includes == nil {
		out.includes = map[string]*template.Template{}
	}
	out.includes[name] = nil // it may include itself

	data, err := w.tree.Bytes(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		os, _ := w.tree.List(path.Dir(name))
		var names []string
		for _, o := range os {
			names = append(names, o.Path)
		}
		w.tell(at, "include: no file %s%s", name, problem.DidYouMean(name, names))
		return
	case err != nil:
		w.tell(at, "include %s: %v", name, err)
		return
	case w.tree.Linked(name):
		w.tell(at, "include %s: %s", name, tree.LinkTrouble)
		return
	}

	before := out.secret
	inner := &walker{tmpl: out, text: string(data), service: w.service, tree: w.tree, tell: func(at problem.Pos, format string, args ...any) {
		w.service.problems = append(w.service.problems, problem.At(name, data, at, format, args...))
	}}
	t, err := parseTemplate(name, inner.text)
	if err != nil {
		at, msg := templateError(err)
		inner.tell(at, "%s", msg)
		return
	}
	inner.walk(t)
	out.includes[name] = t
	if out.secret && !before {
		out.keyAt = at // where the file itself brings a key in
	}
}

// includeFile is include of an execution: the output of a shared template with dot.
func (x *execution) includeFile(name string, dot any) (string, error) {
	t := x.clones[name]
	if t == nil {
		parsed := x.tmpl.includes[name]
		if parsed == nil {
			return "", fmt.Errorf("no template %s", name)
		}
		var err error
		if t, err = parsed.Clone(); err != nil {
			return "", err
		}
		t.Funcs(x.funcs)
		if x.clones == nil {
			x.clones = map[string]*template.Template{}
		}
		x.clones[name] = t
	}

	out := &drawn{work: &x.work}
	if err := t.Execute(out, dot); err != nil {
		clear(out.Bytes())
		return "", err
	}
	return out.String(), nil
}

// drawn is a buffer whose bytes come out of the budget of text.
type drawn struct {
	bytes.Buffer
	work *work
}

func (d *drawn) Write(p []byte) (int, error) {
	if err := d.work.draw(len(p)); err != nil {
		return 0, err
	}
	return d.Buffer.Write(p)
}

// publicHalf is public of an execution: the text of the .pub file at name, or beside the secret of that
// name, without the line end.
func (x *execution) publicHalf(name string) (string, error) {
	file := name
	if base, ok := strings.CutSuffix(name, ".age"); ok {
		file = base + ".pub"
	}
	text, ok := x.tmpl.publics[file]
	if !ok {
		return "", fmt.Errorf("no file %s; `bellhop secret generate` writes the public half beside a secret", file)
	}
	return text, x.draw(len(text))
}
