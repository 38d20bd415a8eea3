package service

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/tree"
)

// The source of a key may be a pattern: secrets/wg/{host}.age names another age file for each host, and
// a setting in braces is replaced by the value that the host has. A host is sent the files of its own
// name and settings alone, and the lack of one concerns that host alone.

// checkSource reports what is wrong with the source of a key; true when it can be used.
func (s *reader) checkSource(at problem.Pos, key, source string) bool {
	if path.Clean(source) != source || !strings.HasPrefix(source, "secrets/") || !strings.HasSuffix(source, ".age") {
		s.report(at, "key %s: source %q: want an age file, as in secrets/%s.age", key, source, key)
		return false
	}
	return s.checkNames(at, fmt.Sprintf("key %s: source %q", key, source), source)
}

// checkNames reports what is wrong with the names in braces of a text, which what describes; true when each
// is a setting or the host.
func (s *reader) checkNames(at problem.Pos, what, text string) bool {
	for _, name := range syntax.Placeholders(text) {
		if _, known := s.Settings[name]; name == syntax.HostWord || known && syntax.IsPlaceholder(name) {
			continue
		}
		names := append(slices.Sorted(maps.Keys(s.Settings)), syntax.HostWord)
		slices.Sort(names)
		s.report(at, "%s: no setting %q%s; known here: %s", what, name, problem.DidYouMean(name, names), strings.Join(names, ", "))
		return false
	}

	if syntax.IsPattern(syntax.WithoutPlaceholders(text)) {
		s.report(at, "%s: a brace without its partner", what)
		return false
	}

	return true
}

// MissingFile says that the age file src of a key is not in the tree.
func MissingFile(t *tree.Tree, s *Service, k Key, src string) *problem.Problem {
	var names []string
	if !t.Hints.Spent() { // each costs a look at the folder
		os, _ := t.List(path.Dir(src))
		for _, o := range os {
			names = append(names, o.Path)
		}
	}

	meant := t.Hints.DidYouMean(src, names)
	file, data, at := s.Source.Name, s.Source.Data, k.At
	if k.File != nil && k.File.Template != nil {
		file, data, at = k.File.Source, k.File.Blob.Data, k.File.Template.KeyAt
	}
	return problem.At(file, data, at, "key %s: no file %s%s; `bellhop secret set` makes it", k.Name, src, meant)
}

// MatchSources lists the files of the tree that a pattern can mean, on whichever host.
func MatchSources(t *tree.Tree, pattern string) ([]string, error) {
	found := []string{"."}
	parts := strings.Split(pattern, "/")
	for i, part := range parts {
		rule := syntax.MatchPart(part)
		last := i == len(parts)-1
		var next []string

		for _, dir := range found {
			os, err := t.List(dir)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			for _, o := range os {
				if rule.MatchString(o.Name()) && o.Mode.IsDir() == !last {
					next = append(next, o.Path)
				}
			}
		}

		found = next
	}

	return found, nil
}
