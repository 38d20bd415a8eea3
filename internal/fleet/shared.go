package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"

	"bellhop/internal/bundle"
)

// A template reads two things of the repo from outside its service: templates below shared/, by
// include, and the public halves that are committed beside secrets, by public. A service that does so
// is read again when they change.

// outside is what templates may read beside their own folder.
type outside struct {
	publics map[string]string // text of the .pub files below secrets, by path; nil before they are read
	shared  string            // names the content of shared; "" before it is looked at
	public  string            // names the content of publics
}

// outsideID names the state of what s reads from outside; "" when it reads nothing.
func (s *service) outsideID(t *tree) (string, error) {
	var id string
	if s.usesShared {
		if err := t.nameShared(); err != nil {
			return "", err
		}
		id += "shared " + t.outside.shared
	}
	if s.usesPublic {
		if err := t.readPublics(); err != nil {
			return "", err
		}
		id += "public " + t.outside.public
	}
	return id, nil
}

// current tells whether what s reads from outside is as it was when s was built.
func (s *service) current(t *tree) (bool, error) {
	id, err := s.outsideID(t)
	return id == s.outside, err
}

func (t *tree) nameShared() error {
	if t.outside.shared != "" {
		return nil
	}
	if h := t.dirHash("shared"); h != "" {
		t.outside.shared = h
		return nil
	}

	var b strings.Builder
	err := t.each("shared", func(o object) error {
		h, err := t.fileHash(o.path)
		fmt.Fprintf(&b, "%q %s\n", o.path, h)
		return err
	})
	t.outside.shared = bundle.DigestBytes([]byte(b.String()))
	return err
}

// maxPublic caps one public half; a key of any kind is far below it.
const maxPublic = 64 << 10

func (t *tree) readPublics() error {
	if t.outside.publics != nil {
		return nil
	}

	t.outside.publics = map[string]string{}
	err := t.each("secrets", func(o object) error {
		if !strings.HasSuffix(o.path, ".pub") {
			return nil
		}
		data, err := t.bytes(o.path)
		if err != nil {
			return err
		}
		if len(data) <= maxPublic {
			t.outside.publics[o.path] = strings.TrimRight(string(data), "\r\n")
		}
		return nil
	})

	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(t.outside.publics)) {
		fmt.Fprintf(&b, "%q %q\n", name, t.outside.publics[name])
	}
	t.outside.public = bundle.DigestBytes([]byte(b.String()))
	return err
}

// each calls f for every regular file below dir, which need not exist. Links are passed over.
func (t *tree) each(dir string, f func(object) error) error {
	os, err := t.list(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, o := range os {
		switch {
		case o.mode.IsDir() && strings.Count(o.path, "/") < maxFolderDepth:
			err = t.each(o.path, f)
		case o.mode.IsRegular():
			err = f(o)
		}
		if errors.Is(err, errTooLarge) {
			err = nil // what is too large is no template and no key
		}
		if err != nil {
			return err
		}
	}
	return nil
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
func (w *walker) parseShared(at pos, name string) {
	out := w.tmpl
	if _, known := out.includes[name]; known {
		return
	}
	if out.includes == nil {
		out.includes = map[string]*template.Template{}
	}
	out.includes[name] = nil // it may include itself

	data, err := w.tree.bytes(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		os, _ := w.tree.list(path.Dir(name))
		var names []string
		for _, o := range os {
			names = append(names, o.path)
		}
		w.tell(at, "include: no file %s%s", name, didYouMean(name, names))
		return
	case err != nil:
		w.tell(at, "include %s: %v", name, err)
		return
	case w.tree.linked(name):
		w.tell(at, "include %s: %s", name, badObject(object{mode: fs.ModeSymlink}, false))
		return
	}

	before := out.secret
	inner := &walker{tmpl: out, text: string(data), service: w.service, tree: w.tree, tell: func(at pos, format string, args ...any) {
		w.service.problems = append(w.service.problems, problemAt(name, data, at, format, args...))
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
