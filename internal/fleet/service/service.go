// Package service reads one folder below services into a Service, and says what is wrong in it.
//
// A Service is what the folder brings to every host that switches it on: files, units, keys, a package,
// an account, probes. It is read once for all of them, and again only when the folder changed, or what
// its templates read from outside. What templates make of it on one host is for package render.
package service

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/template"
	"bellhop/internal/fleet/tree"
	"bellhop/internal/fleet/yaml"
)

// A Service is one folder, read and checked. It is immutable but for its renders.
type Service struct {
	Name        string
	fingerprint string
	treeHash    string // of the folder; "" when the tree knows none
	listing            // files and links below it that matter

	Source      *yaml.File // service.yaml
	Def         syntax.Service
	Settings    map[string]any
	Files       []File
	Units       []Unit
	Rules       map[string]*syntax.UnitRule
	Keys        []Key
	User        *bundle.User
	ExtraGroups []string
	Probes      []Probe
	Steps       []Step
	Package     *Package
	Compose     *Compose // nil: it is no compose service
	IsNix       bool     // the folder is a module of a NixOS configuration, and no service
	Problems    problem.Problems
	Blobs       map[string]*tree.Blob // by hash, to carry over
	Refs        []Ref                 // of unit files that are no templates
	Needs       []SystemdNeed         // of the same
	programs    []programRef          // of the same
	made        Names                 // what other services may name

	usesShared, usesPublic bool   // what its templates read from outside
	outside                string // outsideID when it was built
}

// A File is one file or link to install.
type File struct {
	Path     string // on the host
	Source   string // in the repo
	Target   string // of a link
	Mode     uint32
	User     string
	Group    string
	InStack  string // of a compose service: the name that compose files know it by; "" for one below files/
	Guess    bool   // the group was not named: it is the user's, wherever that one is made
	Blob     *tree.Blob
	Template *template.Template
}

// An Unit is one unit file, quadlet or drop-in.
type Unit struct {
	Name      string // the name it is for: its own, or that of its drop-in folder
	Path      string // on the host
	Source    string
	IsDropin  bool
	IsQuadlet bool
	Blob      *tree.Blob
	Template  *template.Template
}

// A Key is one key of a service.
type Key struct {
	bundle.Key // Digest and Service are empty
	At         problem.Pos
	Guess      bool   // as of a fileSpec
	Link       string // path:, a link to it
	Restart    []string
	Reload     []string
	File       *File    // a template that names keys: this is its rendering
	Sources    []string // age files that its value comes from
	Registries []string // of the logins in Sources, one each: this is docker's config.json with them
}

// LoginsName is the key that registries: of bellhop.yaml comes to.
const LoginsName = "registries"

// Logins is what registries: of bellhop.yaml brings to a host with containers: a service of no name, with one
// key. names are the registries, and sources the age files with their logins.
func Logins(main *yaml.File, at problem.Pos, names, sources []string) *Service {
	k := Key{At: at, File: &File{Source: main.Name}, Sources: sources, Registries: names}
	k.Key = bundle.Key{Name: LoginsName, Path: bundle.KeyDir + "/" + LoginsName, User: "root", Group: "root", Mode: 0o400, Source: main.Name}
	return &Service{Source: main, Keys: []Key{k}}
}

// A Package is where a package comes from, for each architecture.
type Package struct {
	bundle.Package
	url     string
	anyArch string
	sha     map[string]string     // by arch
	file    string                // in the repo, may name {arch}
	blobs   map[string]*tree.Blob // by path in the repo
	At      problem.Pos
}

// SameLogins says whether s and o, made by Logins, come to the same key.
func (s *Service) SameLogins(o *Service) bool {
	a, b := s.Keys[0], o.Keys[0]
	return slices.Equal(a.Registries, b.Registries) && slices.Equal(a.Sources, b.Sources)
}

func (s *Service) report(at problem.Pos, format string, args ...any) {
	s.Problems = append(s.Problems, problem.At(s.Source.Name, s.Source.Data, at, format, args...))
}

func (s *Service) reportFile(file, format string, args ...any) {
	s.Problems = append(s.Problems, &problem.Problem{File: file, Message: fmt.Sprintf(format, args...)})
}

func (s *reader) account(at problem.Pos, what, name string) bool {
	if !syntax.IsAccount(name) {
		s.report(at, "bad name %q for a %s: %s", name, what, syntax.AccountWords)
		return false
	}
	return true
}

var homeRule = regexp.MustCompile(`^(/[A-Za-z0-9_][A-Za-z0-9._+@-]*)+$`)

// systemPlaces are no homes: a home is given to its user.
var systemPlaces = []string{"/bin", "/boot", "/etc", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt", "/root", "/run", "/sbin", "/srv", "/tmp", "/usr", "/var", "/nix",
	"/var/lib", "/var/log", "/var/cache", "/var/tmp", "/var/spool", "/usr/bin", "/usr/lib", "/usr/local", "/usr/share", "/etc/systemd", "/etc/ssh"}

func (s *reader) readUser() {
	u := s.Def.User
	if u.Name.S == "" {
		if u.Name.At.Line > 0 {
			s.report(u.Name.At, "user has no name")
		}
		for _, g := range u.ExtraGroups {
			s.report(g.At, "extra_groups need a user")
		}
		return
	}

	if !s.account(u.Name.At, "user", u.Name.S) {
		return
	}
	s.User = &bundle.User{Name: u.Name.S, Group: cmp.Or(u.Group.S, u.Name.S), Home: "/", Service: s.Name}
	if u.Name.S == "root" {
		s.report(u.Name.At, "root needs no account: leave user out")
	}
	if u.Group.S != "" {
		s.account(u.Group.At, "group", u.Group.S)
	}
	if h := u.Home.S; h != "" {
		s.User.Home = h
		switch {
		case !homeRule.MatchString(h) || path.Clean(h) != h:
			s.report(u.Home.At, "home %q: want a clean absolute path of plain letters, digits and . _ + @ -", h)
		case slices.Contains(systemPlaces, h) || syntax.BadPath(h) != "":
			s.report(u.Home.At, "home %q is a place of the system: it would be given to %s", h, u.Name.S)
		}
	}

	s.User.UID, s.User.GID = s.id("uid", u.UID), s.id("gid", u.GID)
	s.readLinger()
	for _, g := range u.ExtraGroups {
		if s.account(g.At, "group", g.S) && !slices.Contains(s.ExtraGroups, g.S) {
			s.ExtraGroups = append(s.ExtraGroups, g.S)
		}
	}
}

func (s *reader) readSettings() {
	s.Settings = make(map[string]any, len(s.Def.Settings))
	for _, e := range s.Def.Settings {
		if e.Key == syntax.EnableWord {
			s.report(e.At, "a setting can't be called enable: that word switches the service")
			continue
		}
		s.Settings[e.Key] = e.Value.V
	}
}

// permissions reads a mode as people write it.
func (s *reader) permissions(v yaml.String, def uint32) uint32 {
	if v.S == "" {
		return def
	}
	m, err := strconv.ParseUint(v.S, 8, 32)
	switch {
	case err != nil || len(v.S) < 3 || len(v.S) > 4:
		s.report(v.At, "mode %q: want three or four octal digits, as in \"0640\"", v.S)
		return def
	case m > 0o777:
		s.report(v.At, "mode %q: no setuid, setgid or sticky bit", v.S)
		return def
	}

	return uint32(m)
}

// groupOf is the group that a user's things get when none is named.
func (s *Service) groupOf(user string) string {
	if s.User != nil && s.User.Name == user {
		return s.User.Group
	}
	return user
}

func (s *reader) readFiles() {
	for _, e := range s.Def.Files {
		i := slices.IndexFunc(s.Files, func(f File) bool { return f.Path == e.Key })
		if i < 0 {
			paths := make([]string, len(s.Files))
			for i, f := range s.Files {
				paths[i] = f.Path
			}
			s.report(e.At, "files: no file %s below files/%s", e.Key, problem.DidYouMean(e.Key, paths))
			continue
		}

		f, r := &s.Files[i], e.Value
		if f.Target != "" {
			s.report(e.At, "files: %s is a link, which has no owner or mode", e.Key)
			continue
		}

		secret := f.Template != nil && f.Template.Secret
		if r.User.S != "" && s.account(r.User.At, "user", r.User.S) {
			f.User, f.Group, f.Guess = r.User.S, s.groupOf(r.User.S), r.Group.S == ""
		} else if secret {
			f.User, f.Group = s.keyUser(), s.groupOf(s.keyUser())
		}

		if r.Group.S != "" && s.account(r.Group.At, "group", r.Group.S) {
			f.Group = r.Group.S
		}
		def := f.Mode
		if secret {
			def = 0o400
		}
		f.Mode = s.permissions(r.Mode, def)
	}
	for i := range s.Files {
		f := &s.Files[i]
		if _, named := s.Def.Files.Get(f.Path); !named && f.Template != nil && f.Template.Secret {
			f.User, f.Group, f.Mode = s.keyUser(), s.groupOf(s.keyUser()), 0o400
		}
	}
}

func (s *reader) readNeeds() {
	for _, n := range s.Def.Needs {
		if !syntax.IsCommand(n.S) {
			s.report(n.At, "needs: %q is no name of a command", n.S)
		}
	}
}
