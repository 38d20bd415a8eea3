package inventory

import (
	"context"
	"io/fs"
	"path"
	"strings"

	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/tree"
	"bellhop/internal/fleet/yaml"
)

// ReadReaders reads readers: and verify: of bellhop.yaml, and nothing else of a tree.
func ReadReaders(ctx context.Context, fsys fs.FS) (Readers, error) {
	b := tree.NewBudget(ctx, nil)
	data, err := tree.ReadFile(fsys, "bellhop.yaml")
	if err != nil {
		return Readers{}, err
	}
	t := &yaml.File{Name: "bellhop.yaml", Data: data}
	f := &syntax.Fleet{}
	yaml.Decode(t, f, b)
	if len(t.Problems) > 0 {
		return Readers{}, t.Problems.Sort()
	}
	r, ps := readersOf(t, f)
	return r, ps.Sort().Err()
}

func (m *maker) readReaders() {
	var problems problem.Problems
	m.Readers, problems = readersOf(m.main, m.file)
	m.Problems = append(m.Problems, problems...)
}

// readersOf parts names, groups and rules of readers:, and follows groups to recipients.
func readersOf(t *yaml.File, f *syntax.Fleet) (Readers, problem.Problems) {
	var problems problem.Problems
	report := func(at problem.Pos, format string, args ...any) {
		problems = append(problems, problem.At(t.Name, t.Data, at, format, args...))
	}
	hints := problem.Hints{}
	r := Readers{Names: map[string][]string{}, Allow: f.Verify.Allow.Strings()}
	g := newReaderGroups(f.Readers)
	var names []string
	for _, e := range f.Readers {
		if !isRule(e.Key) {
			names = append(names, e.Key)
		}
	}

	for _, e := range f.Readers {
		for _, s := range e.Value {
			switch {
			case recipient(s.S) || s.S != e.Key && g.isName(s.S):
			case strings.HasPrefix(s.S, "AGE-SECRET-KEY-"):
				// the value itself must not be repeated in a message
				p := &problem.Problem{File: t.Name, Line: s.At.Line, Column: s.At.Column, Message: "readers: " + e.Key + " is a private key: it is in git now, replace it; its public half belongs here"}
				problems = append(problems, p)

			default:
				report(s.At, "readers: %q is no age recipient, no SSH key and no other reader%s", s.S, hints.DidYouMean(s.S, names))
			}
		}

		if len(e.Value) == 0 {
			report(e.At, "readers: %s has nobody", e.Key)
		}
		if !isRule(e.Key) {
			if !syntax.IsName(e.Key) {
				report(e.At, "bad name %q for a reader: %s", e.Key, syntax.NameWords)
			}
			r.Names[e.Key] = g.expand(e.Key)
			continue
		}

		if _, err := path.Match(e.Key, ""); err != nil {
			report(e.At, "readers: bad pattern %q", e.Key)
		}
		r.Rules = append(r.Rules, Rule{Pattern: e.Key, Readers: e.Value.Strings(), File: t.Name, Line: e.At.Line})
	}

	if g.spent() {
		report(problem.Pos{Line: 1, Column: 1}, "readers: the groups name each other too often to follow")
	}
	return r, problems
}

// recipient says whether s looks like something that age encrypts to; secrets checks it whole.
func recipient(s string) bool {
	return strings.HasPrefix(s, "age1") || strings.HasPrefix(s, "ssh-ed25519 ") || strings.HasPrefix(s, "ssh-rsa ")
}
