package fleet

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

// A service is one folder, read and checked. It is immutable but for its renders.
type service struct {
	name        string
	fingerprint string
	treeHash    string // of the folder; "" when the tree knows none
	listing            // files and links below it that matter

	text        *yaml.File // service.yaml
	def         syntax.Service
	settings    map[string]any
	files       []fileSpec
	units       []unitSpec
	rules       map[string]*syntax.UnitRule
	keys        []keySpec
	user        *bundle.User
	extraGroups []string
	probes      []probeSpec
	steps       []stepSpec
	pkg         *packageSpec
	problems    problem.Problems
	blobs       map[string]*tree.Blob // by hash, to carry over
	refs        []unitRef             // of unit files that are no templates
	needs       []SystemdNeed         // of the same
	programs    []programRef          // of the same
	made        nameBook              // what other services may name

	renders map[renderKey]*rendered

	usesShared, usesPublic bool   // what its templates read from outside
	outside                string // outsideID when it was built
}

// A fileSpec is one file or link to install.
type fileSpec struct {
	path   string // on the host
	src    string // in the repo
	target string // of a link
	mode   uint32
	user   string
	group  string
	guess  bool // the group was not named: it is the user's, wherever that one is made
	blob   *tree.Blob
	tmpl   *template.Template
}

// A unitSpec is one unit file, quadlet or drop-in.
type unitSpec struct {
	unit    string // the name it is for: its own, or that of its drop-in folder
	path    string // on the host
	src     string
	dropin  bool
	quadlet bool
	blob    *tree.Blob
	tmpl    *template.Template
}

// A keySpec is one key of a service.
type keySpec struct {
	bundle.Key // Digest and Service are empty
	at         problem.Pos
	guess      bool   // as of a fileSpec
	link       string // path:, a link to it
	restart    []string
	reload     []string
	tmpl       *fileSpec // a template that names keys: this is its rendering
	sources    []string  // age files that its value comes from
}

// A packageSpec is where a package comes from, for each architecture.
type packageSpec struct {
	bundle.Package
	url     string
	anyArch string
	sha     map[string]string     // by arch
	file    string                // in the repo, may name {arch}
	blobs   map[string]*tree.Blob // by path in the repo
	at      problem.Pos
}

func (s *service) tell(at problem.Pos, format string, args ...any) {
	s.problems = append(s.problems, problem.At(s.text.Name, s.text.Data, at, format, args...))
}

func (s *service) tellFile(file, format string, args ...any) {
	s.problems = append(s.problems, &problem.Problem{File: file, Message: fmt.Sprintf(format, args...)})
}

func (s *service) account(at problem.Pos, what, name string) bool {
	if !syntax.IsAccount(name) {
		s.tell(at, "bad name %q for a %s: %s", name, what, syntax.AccountWords)
		return false
	}
	return true
}

var homeRule = regexp.MustCompile(`^(/[A-Za-z0-9_][A-Za-z0-9._+@-]*)+$`)

// systemPlaces are no homes: a home is given to its user.
var systemPlaces = []string{"/bin", "/boot", "/etc", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt", "/root", "/run", "/sbin", "/srv", "/tmp", "/usr", "/var", "/nix",
	"/var/lib", "/var/log", "/var/cache", "/var/tmp", "/var/spool", "/usr/bin", "/usr/lib", "/usr/local", "/usr/share", "/etc/systemd", "/etc/ssh"}

func (s *service) readUser() {
	u := s.def.User
	if u.Name.S == "" {
		if u.Name.At.Line > 0 {
			s.tell(u.Name.At, "user has no name")
		}
		for _, g := range u.ExtraGroups {
			s.tell(g.At, "extra_groups need a user")
		}
		return
	}
	if !s.account(u.Name.At, "user", u.Name.S) {
		return
	}
	s.user = &bundle.User{Name: u.Name.S, Group: cmp.Or(u.Group.S, u.Name.S), Home: "/", Service: s.name}
	if u.Name.S == "root" {
		s.tell(u.Name.At, "root needs no account: leave user out")
	}
	if u.Group.S != "" {
		s.account(u.Group.At, "group", u.Group.S)
	}
	if h := u.Home.S; h != "" {
		s.user.Home = h
		switch {
		case !homeRule.MatchString(h) || path.Clean(h) != h:
			s.tell(u.Home.At, "home %q: want a clean absolute path of plain letters, digits and . _ + @ -", h)
		case slices.Contains(systemPlaces, h) || syntax.BadPath(h) != "":
			s.tell(u.Home.At, "home %q is a place of the system: it would be given to %s", h, u.Name.S)
		}
	}
	s.user.UID, s.user.GID = s.id("uid", u.UID), s.id("gid", u.GID)
	for _, g := range u.ExtraGroups {
		if s.account(g.At, "group", g.S) && !slices.Contains(s.extraGroups, g.S) {
			s.extraGroups = append(s.extraGroups, g.S)
		}
	}
}

func (s *service) readSettings() {
	s.settings = make(map[string]any, len(s.def.Settings))
	for _, e := range s.def.Settings {
		if e.Key == syntax.EnableWord {
			s.tell(e.At, "a setting can't be called enable: that word switches the service")
			continue
		}
		s.settings[e.Key] = e.Value.V
	}
}

// permissions reads a mode as people write it.
func (s *service) permissions(v yaml.String, def uint32) uint32 {
	if v.S == "" {
		return def
	}
	m, err := strconv.ParseUint(v.S, 8, 32)
	switch {
	case err != nil || len(v.S) < 3 || len(v.S) > 4:
		s.tell(v.At, "mode %q: want three or four octal digits, as in \"0640\"", v.S)
		return def
	case m > 0o777:
		s.tell(v.At, "mode %q: no setuid, setgid or sticky bit", v.S)
		return def
	}
	return uint32(m)
}

// groupOf is the group that a user's things get when none is named.
func (s *service) groupOf(user string) string {
	if s.user != nil && s.user.Name == user {
		return s.user.Group
	}
	return user
}

func (s *service) readFiles() {
	for _, e := range s.def.Files {
		i := slices.IndexFunc(s.files, func(f fileSpec) bool { return f.path == e.Key })
		if i < 0 {
			paths := make([]string, len(s.files))
			for i, f := range s.files {
				paths[i] = f.path
			}
			s.tell(e.At, "files: no file %s below files/%s", e.Key, problem.DidYouMean(e.Key, paths))
			continue
		}
		f, r := &s.files[i], e.Value
		if f.target != "" {
			s.tell(e.At, "files: %s is a link, which has no owner or mode", e.Key)
			continue
		}
		secret := f.tmpl != nil && f.tmpl.Secret
		if r.User.S != "" && s.account(r.User.At, "user", r.User.S) {
			f.user, f.group, f.guess = r.User.S, s.groupOf(r.User.S), r.Group.S == ""
		} else if secret {
			f.user, f.group = s.keyUser(), s.groupOf(s.keyUser())
		}
		if r.Group.S != "" && s.account(r.Group.At, "group", r.Group.S) {
			f.group = r.Group.S
		}
		def := f.mode
		if secret {
			def = 0o400
		}
		f.mode = s.permissions(r.Mode, def)
	}
	for i := range s.files {
		f := &s.files[i]
		if _, named := s.def.Files.Get(f.path); !named && f.tmpl != nil && f.tmpl.Secret {
			f.user, f.group, f.mode = s.keyUser(), s.groupOf(s.keyUser()), 0o400
		}
	}
}

func (s *service) readNeeds() {
	for _, n := range s.def.Needs {
		if !syntax.IsCommand(n.S) {
			s.tell(n.At, "needs: %q is no name of a command", n.S)
		}
	}
}
