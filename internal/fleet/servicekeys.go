package fleet

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
func (s *service) keyUser() string {
	if s.user != nil {
		return s.user.Name
	}
	return "root"
}

func (s *service) readKeys() {
	for i := range s.def.Keys {
		s.readKey(&s.def.Keys[i])
	}
	for i := range s.files {
		if f := &s.files[i]; f.tmpl != nil && f.tmpl.Secret {
			s.templateKey(f)
		}
	}
	slices.SortStableFunc(s.keys, func(a, b keySpec) int { return strings.Compare(a.Name, b.Name) })
}

func (s *service) readKey(e *yaml.Entry[syntax.Key]) {
	if !syntax.IsName(e.Key) {
		s.tell(e.At, "bad name %q for a key: %s", e.Key, syntax.NameWords)
		return
	}
	if e.Key == "files" {
		s.tell(e.At, "a key can't be called files: rendered templates stand there")
		return
	}
	f := e.Value
	k := keySpec{at: e.At, restart: f.Restart.Strings(), reload: f.Reload.Strings(), link: f.Path.S}
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
	k.guess = f.Group.S == ""
	k.Mode = s.permissions(f.Permissions, 0o400)
	if k.Mode&0o007 != 0 {
		p := problem.At(s.text.Name, s.text.Data, f.Permissions.At, "key %s: %04o lets everybody on the host in", e.Key, k.Mode)
		p.Warning = true
		s.problems = append(s.problems, p)
	}
	switch f.Persist.S {
	case "":
	case "sealed":
		k.Seal = true
	default:
		s.tell(f.Persist.At, "key %s: persist %q: want sealed, or leave it out", e.Key, f.Persist.S)
	}
	if k.link != "" {
		if bad := syntax.BadPath(k.link); bad != "" {
			s.tell(f.Path.At, "key %s: path %q: %s", e.Key, k.link, bad)
			k.link = ""
		}
	}
	if k.Source != "" {
		k.sources = []string{k.Source}
	}
	s.keys = append(s.keys, k)
}

var shellSafe = regexp.MustCompile(`^[A-Za-z0-9/._+@-]+$`)
var plainKeyPath = regexp.MustCompile(`^[A-Za-z0-9._/]{1,57}$`)

// templateKey makes the rendering of a template that names keys a key of its own.
func (s *service) templateKey(f *fileSpec) {
	k := keySpec{tmpl: f, link: f.path}
	k.Name = "files" + strings.ReplaceAll(f.path, "/", "-")
	if !plainKeyPath.MatchString(f.path) {
		short := regexp.MustCompile(`[^A-Za-z0-9._-]`).ReplaceAllString(k.Name, "_")
		k.Name = short[:min(len(short), 55)] + "-" + bundle.DigestBytes([]byte(f.path))[:8]
	}
	k.Path = bundle.KeyFileDir + f.path
	k.User, k.Group, k.Mode, k.Source, k.guess = f.user, f.group, f.mode, f.src, f.guess
	if !shellSafe.MatchString(f.path) {
		s.tellFile(f.src, "a template that names a key: its path may hold letters, digits and . _ + @ - only, since units spell it out")
	}
	for _, name := range f.tmpl.Keys {
		k.sources = append(k.sources, s.keySource(name))
	}
	s.keys = append(s.keys, k)
}

// keySource is the source of a key that a template names: declared in keys:, or beside it.
func (s *service) keySource(name string) string {
	if e, ok := (yaml.Entries[syntax.Key])(s.def.Keys).Get(name); ok && e.Value.Source.S != "" {
		return e.Value.Source.S
	}
	return syntax.KeyPlace(name)
}
