package fleet

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
	for _, name := range syntax.Placeholders(text) {
		if _, known := s.settings[name]; name == syntax.HostWord || known && syntax.IsPlaceholder(name) {
			continue
		}
		names := append(slices.Sorted(maps.Keys(s.settings)), syntax.HostWord)
		slices.Sort(names)
		s.tell(at, "%s: no setting %q%s; known here: %s", what, name, problem.DidYouMean(name, names), strings.Join(names, ", "))
		return false
	}
	if syntax.IsPattern(syntax.WithoutPlaceholders(text)) {
		s.tell(at, "%s: a brace without its partner", what)
		return false
	}
	return true
}

// matchSources lists the files of the tree that a pattern can mean, on whichever host.
func matchSources(t *tree.Tree, pattern string) ([]string, error) {
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

// lacking is the problem of a key whose file for this host is not in the repo; nil when it is there.
// Only a pattern's files are looked for: one that every host gets was missed while loading.
func (r *rendered) lacking(t *tree.Tree, k *keySpec) *problem.Problem {
	i := slices.IndexFunc(r.svc.keys, func(declared keySpec) bool { return declared.Name == k.Name })
	for n, file := range k.sources {
		if !syntax.IsPattern(r.svc.keys[i].sources[n]) {
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
				if !syntax.IsPattern(src) {
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
