package template

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

// include notes {{ include "shared/x.tmpl" . }}, and parses the file. Its path must be written out, so
// that the keys which it names are known before any secret is opened.
func (w *walker) include(c *parse.CommandNode, i int) {
	at := w.place(c)
	name, ok := writtenOut(c, i)
	switch {
	case !ok:
		w.report(at, `want the path of a template written out, as in {{ include "shared/x.tmpl" . }}`)
	case !strings.HasPrefix(name, "shared/") || !fs.ValidPath(name):
		w.report(at, "include %q: want a file below shared/", name)
	default:
		w.src.UsesShared = true
		w.parseShared(at, name)
	}
}

// writtenOut is the first argument of the command whose function is at i, if it is a text.
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

	data, err := w.src.Tree.Bytes(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		os, _ := w.src.Tree.List(path.Dir(name))
		var names []string
		for _, o := range os {
			names = append(names, o.Path)
		}
		w.report(at, "include: no file %s%s", name, problem.DidYouMean(name, names))
		return

	case err != nil:
		w.report(at, "include %s: %v", name, err)
		return
	case w.src.Tree.Linked(name):
		w.report(at, "include %s: %s", name, tree.LinkTrouble)
		return
	}

	before := out.Secret
	inner := &walker{tmpl: out, text: string(data), src: w.src}
	inner.report = func(at problem.Pos, format string, args ...any) {
		w.src.TellOf(problem.At(name, data, at, format, args...))
	}
	t, err := parseText(name, inner.text)
	if err != nil {
		at, msg := Explain(err)
		inner.report(at, "%s", msg)
		return
	}

	inner.walk(t)
	out.includes[name] = t
	if out.Secret && !before {
		out.KeyAt = at // where the file itself brings a key in
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
