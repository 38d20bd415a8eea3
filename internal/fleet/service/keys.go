package service

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/yaml"
)

// keyUser is who reads keys when service.yaml does not say.
func (s *Service) keyUser() string {
	if s.User != nil {
		return s.User.Name
	}
	return "root"
}

func (s *reader) readKeys() {
	for i := range s.Def.Keys {
		s.readKey(&s.Def.Keys[i])
	}
	for i := range s.Files {
		if f := &s.Files[i]; f.Template != nil && f.Template.Secret {
			s.templateKey(f)
		}
	}

	slices.SortStableFunc(s.Keys, func(a, b Key) int { return strings.Compare(a.Name, b.Name) })
}

func (s *reader) readKey(e *yaml.Entry[syntax.Key]) {
	if !syntax.IsName(e.Key) {
		s.report(e.At, "bad name %q for a key: %s", e.Key, syntax.NameWords)
		return
	}

	if e.Key == "files" {
		s.report(e.At, "a key can't be called files: rendered templates stand there")
		return
	}

	f := e.Value
	k := Key{At: e.At, Restart: f.Restart.Strings(), Reload: f.Reload.Strings(), Link: f.Path.S}
	k.Name, k.Path = e.Key, bundle.KeyDir+"/"+e.Key
	k.Source = cmp.Or(f.Source.S, syntax.KeyPlace(e.Key))
	at := cmp.Or(f.Source.At, e.At)
	if !s.checkSource(at, e.Key, k.Source) {
		k.Source = ""
	}
	k.User = cmp.Or(f.User.S, s.keyUser())
	k.Group = cmp.Or(f.Group.S, s.groupOf(k.User))
	s.account(cmp.Or(f.User.At, e.At), "user", k.User)
	s.account(cmp.Or(f.Group.At, e.At), "group", k.Group)
	k.Guess = f.Group.S == ""
	k.Mode = s.permissions(f.Permissions, 0o400)
	if k.Mode&0o007 != 0 {
		p := problem.At(s.Source.Name, s.Source.Data, f.Permissions.At, "key %s: %04o lets everybody on the host in", e.Key, k.Mode)
		p.Warning = true
		s.Problems = append(s.Problems, p)
	}

	s.readKeyPlaces(&k, e)
	s.Keys = append(s.Keys, k)
}

// readKeyPlaces reads where a key is beside /run/keys: a sealed copy, a link, its source.
func (s *reader) readKeyPlaces(k *Key, e *yaml.Entry[syntax.Key]) {
	f := e.Value
	switch f.Persist.S {
	case "":
	case "sealed":
		k.Seal = true
	default:
		s.report(f.Persist.At, "key %s: persist %q: want sealed, or leave it out", e.Key, f.Persist.S)
	}

	if k.Link != "" {
		if bad := syntax.BadPath(k.Link); bad != "" {
			s.report(f.Path.At, "key %s: path %q: %s", e.Key, k.Link, bad)
			k.Link = ""
		}
	}

	if k.Source != "" {
		k.Sources = []string{k.Source}
	}
}

var shellSafe = regexp.MustCompile(`^[A-Za-z0-9/._+@-]+$`)
var plainKeyPath = regexp.MustCompile(`^[A-Za-z0-9._/]{1,57}$`)

// templateKey makes the rendering of a template that names keys a key of its own.
func (s *reader) templateKey(f *File) {
	k := Key{File: f, Link: f.Path}
	k.Name = "files" + strings.ReplaceAll(f.Path, "/", "-")
	if !plainKeyPath.MatchString(f.Path) {
		short := regexp.MustCompile(`[^A-Za-z0-9._-]`).ReplaceAllString(k.Name, "_")
		k.Name = short[:min(len(short), 55)] + "-" + bundle.DigestBytes([]byte(f.Path))[:8]
	}

	k.Path = bundle.KeyFileDir + f.Path
	k.User, k.Group, k.Mode, k.Source, k.Guess = f.User, f.Group, f.Mode, f.Source, f.Guess
	if !shellSafe.MatchString(f.Path) {
		s.reportFile(f.Source, "a template that names a key: its path may hold letters, digits and . _ + @ - only, since units spell it out")
	}
	for _, name := range f.Template.Keys {
		k.Sources = append(k.Sources, s.KeySource(name))
	}
	s.Keys = append(s.Keys, k)
}

// KeySource is the source of a key that a template names: declared in keys:, or beside it.
func (s *Service) KeySource(name string) string {
	if e, ok := (yaml.Entries[syntax.Key])(s.Def.Keys).Get(name); ok && e.Value.Source.S != "" {
		return e.Value.Source.S
	}
	return syntax.KeyPlace(name)
}
