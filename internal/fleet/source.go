package fleet

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/tree"
)

// The source of a key may be a pattern: secrets/wg/{host}.age names another age file for each host, and
// a setting in braces is replaced by the value that the host has. A host is sent the files of its own
// name and settings alone, and the lack of one concerns that host alone.

// hostWord is the name of the host in a source; a setting of the same name is not reached.
const hostWord = "host"

// braceName is a name that stands in braces in source:, url: and file:.
var braceName = regexp.MustCompile(`^[A-Za-z0-9_]+$`)

// isPattern tells whether a source differs from host to host.
func isPattern(source string) bool { return strings.ContainsAny(source, "{}") }

// checkSource tells what is wrong with the source of a key; true when it can be used.
func (s *service) checkSource(at problem.Pos, key, source string) bool {
	if path.Clean(source) != source || !strings.HasPrefix(source, "secrets/") || !strings.HasSuffix(source, ".age") {
		s.tell(at, "key %s: source %q: want an age file, as in secrets/%s.age", key, source, key)
		return false
	}
	return s.checkNames(at, fmt.Sprintf("key %s: source %q", key, source), source)
}

// checkNames tells what is wrong with the names in braces of a text, which what says; true when each
// is a setting or the host.
func (s *service) checkNames(at problem.Pos, what, text string) bool {
	for _, m := range placeholder.FindAllStringSubmatch(text, -1) {
		name := m[1]
		if _, known := s.settings[name]; name == hostWord || known && braceName.MatchString(name) {
			continue
		}
		names := append(slices.Sorted(maps.Keys(s.settings)), hostWord)
		slices.Sort(names)
		s.tell(at, "%s: no setting %q%s; known here: %s", what, name, problem.DidYouMean(name, names), strings.Join(names, ", "))
		return false
	}
	if isPattern(placeholder.ReplaceAllString(text, "")) {
		s.tell(at, "%s: a brace without its partner", what)
		return false
	}
	return true
}

// expandSource is the age file that source means on one host.
func expandSource(source, host string, settings map[string]any) (string, error) {
	return expandNames(source, host, settings, pathElement)
}

// expandNames is text with the host and settings in place of their names in braces; textOf is what a
// setting becomes.
func expandNames(text, host string, settings map[string]any, textOf func(v any) (string, error)) (string, error) {
	var errs []error
	out := placeholder.ReplaceAllStringFunc(text, func(m string) string {
		name := m[1 : len(m)-1]
		if name == hostWord {
			return host
		}
		text, err := textOf(settings[name])
		if err != nil {
			errs = append(errs, fmt.Errorf("setting %s %w", name, err))
		}
		return text
	})
	return out, errors.Join(errs...)
}

// pathElement is the text of a setting that becomes part of one element of a path.
func pathElement(v any) (string, error) {
	switch v.(type) {
	case []any, map[string]any, nil:
		return "", fmt.Errorf("is %s, and a source takes text", kindOf(v))
	}

	text := fmt.Sprint(v)
	control := strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f })
	leaves := strings.Contains(text, "/") || strings.Contains(text, "..")
	switch {
	case text == "":
		return "", errors.New("is empty, and a source takes the name of a file")
	case control, leaves, strings.HasPrefix(text, "."), !fs.ValidPath(text):
		return "", fmt.Errorf("is %q, which is no part of a file name: a source takes no slash, no .., no leading dot and no control character", text)
	}
	return text, nil
}

// matchSources lists the files of the tree that a pattern can mean, on whichever host.
func matchSources(t *tree.Tree, pattern string) ([]string, error) {
	found := []string{"."}
	parts := strings.Split(pattern, "/")
	for i, part := range parts {
		rule := regexp.MustCompile("^" + placeholderToAny(part) + "$")
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

// placeholderToAny is part as a regular expression, with anything in place of the braces.
func placeholderToAny(part string) string {
	var b strings.Builder
	at := 0
	for _, m := range placeholder.FindAllStringIndex(part, -1) {
		b.WriteString(regexp.QuoteMeta(part[at:m[0]]) + ".+")
		at = m[1]
	}
	return b.String() + regexp.QuoteMeta(part[at:])
}

// lacking is the problem of a key whose file for this host is not in the repo; nil when it is there.
// Only a pattern's files are looked for: one that every host gets was missed while loading.
func (r *rendered) lacking(t *tree.Tree, k *keySpec) *problem.Problem {
	i := slices.IndexFunc(r.svc.keys, func(declared keySpec) bool { return declared.Name == k.Name })
	for n, file := range k.sources {
		if !isPattern(r.svc.keys[i].sources[n]) {
			continue
		}
		if _, err := fs.Stat(t.FS, file); errors.Is(err, fs.ErrNotExist) {
			return missingFile(t, r.svc, *k, file)
		}
	}
	return nil
}

// A KeyFile is one age file that a key's value comes from.
type KeyFile struct {
	Service string
	Key     string   // its name below /run/keys
	Source  string   // as service.yaml has it: may hold {host} and settings
	File    string   // in the repo
	Hosts   []string // that are sent the key made from this file, sorted; nil when no host has the service on
}

// KeyFiles lists, for each key that a service declares and each key that is a rendered template, the
// files it comes from, with the hosts of each, by service, key and file. A file need not exist.
func (f *Fleet) KeyFiles() []KeyFile {
	if f.far != nil {
		return f.farKeyFiles()
	}
	type id struct{ service, key, source, file string }
	hosts := map[id][]string{}
	for name, s := range f.services {
		for _, k := range s.keys {
			for _, src := range k.sources {
				if !isPattern(src) {
					hosts[id{name, k.Name, src, src}] = nil
				}
			}
		}
	}
	for i, slot := range f.slots {
		for _, r := range slot.renders {
			for j, k := range r.keySpecs {
				for n, file := range k.sources {
					key := id{r.svc.name, k.Name, r.svc.keys[j].sources[n], file}
					hosts[key] = append(hosts[key], f.Hosts[i].Name)
				}
			}
		}
	}

	var out []KeyFile
	for k, hs := range hosts {
		slices.Sort(hs)
		out = append(out, KeyFile{Service: k.service, Key: k.key, Source: k.source, File: k.file, Hosts: slices.Compact(hs)})
	}
	slices.SortFunc(out, func(a, b KeyFile) int {
		return slices.Compare([]string{a.Service, a.Key, a.Source, a.File}, []string{b.Service, b.Key, b.Source, b.File})
	})
	return out
}
