package fleet

import (
	"cmp"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"bellhop/internal/bundle"

	"github.com/goccy/go-yaml/ast"
)

// The types below are service.yaml as people write it; Schema describes the same types.

type serviceFile struct {
	Description str               `yaml:"description" jsonschema_description:"for people"`
	User        userFile          `yaml:"user" jsonschema_description:"the account that the service runs as"`
	Package     packageFile       `yaml:"package" jsonschema_description:"a program, reached as /opt/bellhop/SERVICE"`
	Keys        keysFile          `yaml:"keys" jsonschema_description:"secrets that stand in /run/keys"`
	Settings    entries[value]    `yaml:"settings" jsonschema_description:"defaults of what hosts may set"`
	Files       entries[fileRule] `yaml:"files" jsonschema_description:"owner and mode of installed files, by path"`
	Units       entries[unitRule] `yaml:"units" jsonschema_description:"what differs from the rules, by unit"`
	Needs       list              `yaml:"needs" jsonschema_description:"commands that must be on the host"`
	Health      list              `yaml:"health" jsonschema_description:"URLs that must answer; {setting} is filled in"`
}

// userFile is a name, or a mapping.
type userFile struct {
	Name        str  `yaml:"name"`
	Group       str  `yaml:"group"`
	Home        str  `yaml:"home"`
	ExtraGroups list `yaml:"extra_groups"`
}

// packageFile is the path of a blob in the service's folder, or a mapping.
type packageFile struct {
	Version str     `yaml:"version"`
	URL     str     `yaml:"url"`
	SHA256  perArch `yaml:"sha256"`
	File    str     `yaml:"file"`
	Kind    str     `yaml:"kind"`
	Strip   number  `yaml:"strip"`
	Name    str     `yaml:"name"`

	at pos // of the whole; zero when there is no package
}

// perArch is one text for every architecture, or one for each.
type perArch struct {
	Any str
	By  entries[str]
}

// keysFile is a list of names, or a mapping of name to what differs from the defaults.
type keysFile entries[keyFile]

type keyFile struct {
	Source      str  `yaml:"source"`
	User        str  `yaml:"user"`
	Group       str  `yaml:"group"`
	Permissions str  `yaml:"permissions"`
	Path        str  `yaml:"path"`
	Persist     str  `yaml:"persist" jsonschema_description:"sealed: the key survives a reboot without the deployer"`
	Restart     list `yaml:"restart"`
	Reload      list `yaml:"reload"`
}

type fileRule struct {
	User  str `yaml:"user"`
	Group str `yaml:"group"`
	Mode  str `yaml:"mode"`
}

type unitRule struct {
	OnChange  str   `yaml:"on_change" jsonschema_description:"restart, reload or none"`
	Watch     list  `yaml:"watch"`
	Instances list  `yaml:"instances"`
	Enable    *bool `yaml:"enable"`
}

func (u *userFile) decode(d *decoder, n ast.Node) {
	r, ok := d.resolve(n)
	if !ok {
		return
	}
	if _, isMap := r.(ast.MapNode); isMap {
		d.decodeStruct(r, reflect.ValueOf(u).Elem())
		if u.Name.S == "" && u.Name.At.Line == 0 {
			d.problem(nodeAt(n), "user has no name")
		}
		return
	}
	if r.Type() != ast.NullType {
		u.Name.decode(d, n)
	}
}

func (p *packageFile) decode(d *decoder, n ast.Node) {
	r, ok := d.resolve(n)
	if !ok || r.Type() == ast.NullType {
		return
	}
	p.at = nodeAt(n)
	if _, isMap := r.(ast.MapNode); isMap {
		d.decodeStruct(r, reflect.ValueOf(p).Elem())
		return
	}
	p.File.decode(d, n)
}

func (p *perArch) decode(d *decoder, n ast.Node) {
	r, ok := d.resolve(n)
	if !ok {
		return
	}
	if _, isMap := r.(ast.MapNode); isMap {
		p.By.decode(d, r)
		return
	}
	p.Any.decode(d, n)
}

func (k *keysFile) decode(d *decoder, n ast.Node) {
	r, ok := d.resolve(n)
	if !ok || r.Type() == ast.NullType {
		return
	}
	if _, isMap := r.(ast.MapNode); isMap {
		(*entries[keyFile])(k).decode(d, r)
		return
	}
	seen := map[string]bool{}
	d.each(r, func(item ast.Node) {
		var s str
		s.decode(d, item)
		if seen[s.S] {
			d.problem(s.At, "key %q stands here a second time", s.S)
			return
		}
		seen[s.S] = true
		*k = append(*k, entry[keyFile]{Key: s.S, At: s.At})
	})
}

// A service is one folder, read and checked. It is immutable but for its renders.
type service struct {
	name        string
	fingerprint string
	treeHash    string   // of the folder; "" when the tree knows none
	objects     []object // files and links below it that matter
	dirs        map[string]string
	text        *text // service.yaml
	def         serviceFile
	settings    map[string]any
	files       []fileSpec
	units       []unitSpec
	rules       map[string]*unitRule
	keys        []keySpec
	user        *bundle.User
	extraGroups []string
	pkg         *packageSpec
	problems    Problems
	blobs       map[string]*blob // by hash, to carry over

	renders map[renderKey]*rendered
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
	blob   *blob
	tmpl   *tmpl
}

// A unitSpec is one unit file, quadlet or drop-in.
type unitSpec struct {
	unit    string // the name it is for: its own, or that of its drop-in folder
	path    string // on the host
	src     string
	dropin  bool
	quadlet bool
	blob    *blob
	tmpl    *tmpl
}

// A keySpec is one key of a service.
type keySpec struct {
	bundle.Key // Digest and Service are empty
	at         pos
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
	sha     map[string]string // by arch
	file    string            // in the repo, may name {arch}
	blobs   map[string]*blob  // by path in the repo
	at      pos
}

func (s *service) tell(at pos, format string, args ...any) {
	s.problems = append(s.problems, problemAt(s.text.file, s.text.data, at, format, args...))
}

func (s *service) tellFile(file, format string, args ...any) {
	s.problems = append(s.problems, &Problem{File: file, Message: fmt.Sprintf(format, args...)})
}

func ignored(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "README") || strings.HasPrefix(name, "LICENSE") || strings.HasSuffix(name, ".md")
}

// readService reads the folder services/name. earlier are the same folder in earlier trees;
// when nothing that matters differs from one of them, that one is the answer.
func (l *Loader) readService(t *tree, name string, earlier []*serviceState) (*service, error) {
	dir := "services/" + name
	s := &service{name: name, treeHash: t.dirHash(dir), dirs: map[string]string{}, blobs: map[string]*blob{}, renders: map[renderKey]*rendered{}}
	var old *service // whose listings serve
	for _, e := range earlier {
		if s.treeHash != "" && e.treeHash == s.treeHash {
			return e.service, nil
		}
		old = cmp.Or(old, e.service)
	}
	s.text = &text{file: dir + "/service.yaml"}
	if err := s.walk(t, dir, true, old); err != nil {
		return nil, err
	}
	s.fingerprint = fingerprint(s.objects, s.problems)
	for _, e := range earlier {
		if e.fingerprint == s.fingerprint {
			// A README changed. Remember the new hash, so that the next load need not look.
			// No other goroutine reads it: loads hold the loader's lock.
			e.treeHash, e.dirs = s.treeHash, s.dirs
			return e.service, nil
		}
	}
	if err := s.build(t, l); err != nil {
		return nil, err
	}
	return s, nil
}

// walk lists the folder; below a folder whose hash old knows, old's listing is taken.
func (s *service) walk(t *tree, dir string, top bool, old *service) error {
	h := t.dirHash(dir)
	s.dirs[dir] = h
	if !top && old != nil && h != "" && old.dirs[dir] == h && len(old.problems) == 0 {
		for _, o := range old.objects {
			if strings.HasPrefix(o.path, dir+"/") {
				s.objects = append(s.objects, o)
			}
		}
		for d, h := range old.dirs {
			if strings.HasPrefix(d, dir+"/") {
				s.dirs[d] = h
			}
		}
		return nil
	}
	os, err := t.list(dir)
	if err != nil {
		return err
	}
	if top {
		os = slices.DeleteFunc(os, func(o object) bool {
			return !o.mode.IsDir() && ignored(o.name()) || o.mode.IsDir() && strings.HasPrefix(o.name(), ".")
		})
	}
	twins(os, func(a, b object) { s.tellFile(b.path, "differs from %s only by case", a.name()) })
	inFiles := strings.HasPrefix(dir+"/", "services/"+s.name+"/files/")
	for _, o := range os {
		if bad := badObject(o, inFiles); bad != "" {
			s.tellFile(o.path, "%s", bad)
			continue
		}
		switch {
		case o.mode.IsDir():
			err = s.walk(t, o.path, false, old)
		case o.mode&fs.ModeSymlink != 0:
			o.hash, err = t.link(o.path)
			s.objects = append(s.objects, o)
		default:
			o.hash, err = t.fileHash(o.path)
			if err == errTooLarge {
				s.tellFile(o.path, "%v", err)
				err = nil
				continue
			}
			s.objects = append(s.objects, o)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fingerprint covers everything that a service is made from.
func fingerprint(os []object, ps Problems) string {
	var b strings.Builder
	for _, o := range os {
		fmt.Fprintf(&b, "%q %o %q\n", o.path, uint32(o.mode&(fs.ModeType|0o111)), o.hash)
	}
	for _, p := range ps {
		b.WriteString(p.Error())
	}
	return bundle.DigestBytes([]byte(b.String()))
}

// build parses what was listed.
func (s *service) build(t *tree, l *Loader) error {
	dir := "services/" + s.name + "/"
	if !nameRule.MatchString(s.name) {
		s.tellFile(dir, "bad name %q for a service: %s", s.name, nameWords)
	}
	for _, o := range s.objects {
		if o.path == s.text.file {
			b, err := s.load(t, l, o, true)
			if err != nil || b == nil {
				return err
			}
			s.text.data = b.data
			decodeYAML(s.text, &s.def)
			s.problems = append(s.problems, s.text.problems...)
		}
	}
	s.readUser()
	s.readPackage()
	for _, o := range s.objects {
		if err := s.take(t, l, o, strings.TrimPrefix(o.path, dir)); err != nil {
			return err
		}
	}
	s.readSettings()
	s.readFiles()
	s.readKeys()
	s.readUnits()
	s.readNeeds()
	s.checkPackage()
	s.claims()
	return nil
}

// load is the blob of o, from the loader's memory if it is there. It is nil when it was told
// as a problem.
func (s *service) load(t *tree, l *Loader, o object, keep bool) (*blob, error) {
	b := l.cache.blobs[o.hash]
	if b == nil || keep && b.data == nil && b.size > 0 {
		data, err := t.bytes(o.path)
		if err == errTooLarge {
			s.tellFile(o.path, "%v", err)
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		b = newBlob(data, keep)
		l.cache.blobs[o.hash] = b
	}
	s.blobs[o.hash] = b
	if b.lfs {
		s.tellFile(o.path, "a git-lfs pointer, not the file itself: bellhop does not fetch from LFS; use a package")
		return nil, nil
	}
	return b, nil
}

// take puts one file of the folder where it belongs. rel is its path below the folder.
func (s *service) take(t *tree, l *Loader, o object, rel string) error {
	top, rest, nested := strings.Cut(rel, "/")
	switch {
	case rel == "service.yaml":
		return nil
	case !nested && top == "service.yml":
		s.tellFile(o.path, "this file is called service.yaml")
		return nil
	case nested && top == "files":
		return s.takeFile(t, l, o, rest)
	case s.pkg != nil && s.pkg.file != "" && s.matchesPackage(o.path):
		b, err := s.load(t, l, o, false)
		if b != nil {
			s.pkg.blobs[o.path] = b
		}
		return err
	case !nested:
		name := strings.TrimSuffix(top, ".tmpl")
		if isUnit(name) || isQuadlet(name) {
			return s.takeUnit(t, l, o, name, "")
		}
	case strings.HasSuffix(top, ".d") && !strings.Contains(rest, "/"):
		unit := strings.TrimSuffix(top, ".d")
		if isUnit(unit) || isQuadlet(unit) {
			return s.takeUnit(t, l, o, unit, strings.TrimSuffix(rest, ".tmpl"))
		}
	}
	hint := "here stand service.yaml, unit files, UNIT.d/, files/, and what package: names"
	if !nested {
		if _, kind := splitUnit(strings.TrimSuffix(top, ".tmpl")); kind != "" {
			if c := near(kind, append(slices.Clone(unitKinds), quadletKinds...)); c != "" {
				hint = fmt.Sprintf("did you mean .%s?", c)
			}
		}
	}
	s.tellFile(o.path, "bellhop does not know what to do with this; %s", hint)
	return nil
}

// places that are bellhop's, or that nobody installs files to.
var closedPlaces = []string{"/proc", "/sys", "/dev", bundle.KeyDir, bundle.StateDir, bundle.PackageDir, "/usr/local/libexec/bellhop"}

// badPath says why path can't be installed to; "" when it can.
func badPath(p string) string {
	if !path.IsAbs(p) || path.Clean(p) != p || p == "/" {
		return "want a clean absolute path"
	}
	if !utf8.ValidString(p) {
		return "a path that is not UTF-8"
	}
	for _, c := range p {
		if c < ' ' || c == 0x7f {
			return "control characters in a path"
		}
	}
	for _, c := range closedPlaces {
		if below(p, c) {
			return "below " + c + " is no place for this"
		}
	}
	for _, c := range []string{bundle.UnitDir, "/usr/lib/systemd/system", "/lib/systemd/system", "/run/systemd/system", bundle.QuadletDir} {
		if below(p, c) {
			return "a unit or drop-in stands at the top of the service's folder, not below files/"
		}
	}
	return ""
}

func below(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

func (s *service) takeFile(t *tree, l *Loader, o object, rest string) error {
	f := fileSpec{path: "/" + rest, src: o.path, user: "root", group: "root", mode: 0o644}
	if o.mode&fs.ModeSymlink != 0 {
		f.target = o.hash
		if bad := badPath(f.path); bad != "" {
			s.tellFile(o.path, "%s", bad)
		} else if f.target == "" || strings.ContainsAny(f.target, "\x00\n") {
			s.tellFile(o.path, "a link to nowhere")
		}
		s.files = append(s.files, f)
		return nil
	}
	isTmpl := strings.HasSuffix(rest, ".tmpl")
	f.path = strings.TrimSuffix(f.path, ".tmpl")
	if bad := badPath(f.path); bad != "" {
		s.tellFile(o.path, "%s", bad)
	}
	if o.mode&0o111 != 0 {
		f.mode = 0o755
	}
	b, err := s.load(t, l, o, isTmpl)
	if err != nil || b == nil {
		return err
	}
	f.blob = b
	if isTmpl {
		f.tmpl = s.template(o.path, b)
	}
	s.files = append(s.files, f)
	return nil
}

// gateName is the drop-in that bellhop itself writes for a unit.
const gateName = "50-bellhop.conf"

func (s *service) takeUnit(t *tree, l *Loader, o object, unit, dropin string) error {
	if bad := checkUnitName(unit); bad != "" {
		s.tellFile(o.path, "bad name for a unit: %s", bad)
		return nil
	}
	u := unitSpec{unit: unit, src: o.path, quadlet: isQuadlet(unit)}
	where := bundle.UnitDir
	if u.quadlet {
		where = bundle.QuadletDir
	}
	u.path = where + "/" + unit
	if dropin != "" {
		u.dropin = true
		u.path = where + "/" + unit + ".d/" + dropin
		switch {
		case !strings.HasSuffix(dropin, ".conf") || dropin == ".conf":
			s.tellFile(o.path, "systemd reads only *.conf here")
		case dropin == gateName:
			s.tellFile(o.path, "%s is the drop-in that bellhop writes; take another name", gateName)
		}
	}
	b, err := s.load(t, l, o, true)
	if err != nil || b == nil {
		return err
	}
	u.blob = b
	if b.cr > 0 {
		s.problems = append(s.problems, problemAt(o.path, b.data, pos{b.cr, 1}, "a carriage return: systemd would take it as part of the value; save it with Unix line ends"))
	}
	if strings.HasSuffix(o.path, ".tmpl") {
		u.tmpl = s.template(o.path, b)
		if u.tmpl != nil && u.tmpl.secret {
			s.problems = append(s.problems, problemAt(o.path, b.data, u.tmpl.keyAt, "a unit file is readable by all, so it can't name a key: use EnvironmentFile=%s/NAME", bundle.KeyDir))
		}
	} else {
		var probe unitText
		for _, stray := range probe.parse(b.data) {
			p := problemAt(o.path, b.data, pos{stray.line, 1}, "%v", stray)
			p.Warning = true
			s.problems = append(s.problems, p)
		}
	}
	s.units = append(s.units, u)
	return nil
}

func (s *service) account(at pos, what, name string) bool {
	if !accountRule.MatchString(name) {
		s.tell(at, "bad name %q for a %s: %s", name, what, accountWords)
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
		case slices.Contains(systemPlaces, h) || badPath(h) != "":
			s.tell(u.Home.At, "home %q is a place of the system: it would be given to %s", h, u.Name.S)
		}
	}
	for _, g := range u.ExtraGroups {
		if s.account(g.At, "group", g.S) && !slices.Contains(s.extraGroups, g.S) {
			s.extraGroups = append(s.extraGroups, g.S)
		}
	}
}

func (s *service) readSettings() {
	s.settings = make(map[string]any, len(s.def.Settings))
	for _, e := range s.def.Settings {
		if e.Key == enableWord {
			s.tell(e.At, "a setting can't be called enable: that word switches the service")
			continue
		}
		s.settings[e.Key] = e.Value.V
	}
}

// permissions reads a mode as people write it.
func (s *service) permissions(v str, def uint32) uint32 {
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
			s.tell(e.At, "files: no file %s below files/%s", e.Key, didYouMean(e.Key, paths))
			continue
		}
		f, r := &s.files[i], e.Value
		if f.target != "" {
			s.tell(e.At, "files: %s is a link, which has no owner or mode", e.Key)
			continue
		}
		secret := f.tmpl != nil && f.tmpl.secret
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
		if _, named := s.def.Files.get(f.path); !named && f.tmpl != nil && f.tmpl.secret {
			f.user, f.group, f.mode = s.keyUser(), s.groupOf(s.keyUser()), 0o400
		}
	}
}

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
		if f := &s.files[i]; f.tmpl != nil && f.tmpl.secret {
			s.templateKey(f)
		}
	}
	slices.SortStableFunc(s.keys, func(a, b keySpec) int { return strings.Compare(a.Name, b.Name) })
}

// keyPlace is where the value of a key name comes from when nothing else is said.
func keyPlace(name string) string { return "secrets/" + name + ".age" }

func (s *service) readKey(e *entry[keyFile]) {
	if !nameRule.MatchString(e.Key) {
		s.tell(e.At, "bad name %q for a key: %s", e.Key, nameWords)
		return
	}
	if e.Key == "files" {
		s.tell(e.At, "a key can't be called files: rendered templates stand there")
		return
	}
	f := e.Value
	k := keySpec{at: e.At, restart: f.Restart.strings(), reload: f.Reload.strings(), link: f.Path.S}
	k.Name, k.Path = e.Key, bundle.KeyDir+"/"+e.Key
	k.Source = cmp.Or(f.Source.S, keyPlace(e.Key))
	at := cmp.Or(f.Source.At, e.At)
	if path.Clean(k.Source) != k.Source || !strings.HasPrefix(k.Source, "secrets/") || !strings.HasSuffix(k.Source, ".age") {
		s.tell(at, "key %s: source %q: want an age file, as in secrets/%s.age", e.Key, k.Source, e.Key)
		k.Source = ""
	}
	k.User = cmp.Or(f.User.S, s.keyUser())
	k.Group = cmp.Or(f.Group.S, s.groupOf(k.User))
	s.account(cmp.Or(f.User.At, e.At), "user", k.User)
	s.account(cmp.Or(f.Group.At, e.At), "group", k.Group)
	k.guess = f.Group.S == ""
	k.Mode = s.permissions(f.Permissions, 0o400)
	if k.Mode&0o007 != 0 {
		p := problemAt(s.text.file, s.text.data, f.Permissions.At, "key %s: %04o lets everybody on the host in", e.Key, k.Mode)
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
		if bad := badPath(k.link); bad != "" {
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
	for _, name := range f.tmpl.keys {
		k.sources = append(k.sources, s.keySource(name))
	}
	s.keys = append(s.keys, k)
}

// keySource is the age file of a key that a template names: declared in keys:, or beside it.
func (s *service) keySource(name string) string {
	if e, ok := (entries[keyFile])(s.def.Keys).get(name); ok && e.Value.Source.S != "" {
		return e.Value.Source.S
	}
	return keyPlace(name)
}

// has tells whether a unit of that name is in the folder; instances count through their template.
func (s *service) has(unit string) bool {
	for _, u := range s.units {
		if u.dropin {
			continue
		}
		name := u.unit
		if u.quadlet {
			var q unitText
			q.parse(u.blob.data)
			name = generated(u.unit, &q)
		}
		if name == unit || u.unit == unit || templateOf(unit) == name {
			return true
		}
	}
	return false
}

func (s *service) unitNames() []string {
	var names []string
	for _, u := range s.units {
		names = append(names, u.unit)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (s *service) readUnits() {
	s.rules = map[string]*unitRule{}
	for i := range s.def.Units {
		e := &s.def.Units[i]
		r := &e.Value
		if !isUnit(e.Key) && !isQuadlet(e.Key) || checkUnitName(e.Key) != "" {
			s.tell(e.At, "units: %q is no name of a unit%s", e.Key, didYouMean(e.Key, s.unitNames()))
			continue
		}
		mine := s.has(e.Key)
		if !mine {
			dropins := slices.ContainsFunc(s.units, func(u unitSpec) bool { return u.dropin && u.unit == e.Key })
			if c := near(e.Key, s.unitNames()); c != "" && !dropins {
				s.tell(e.At, "units: no %s in this folder; did you mean %q?", e.Key, c)
				continue
			}
		}
		switch r.OnChange.S {
		case "", bundle.Restart, bundle.Reload, bundle.None:
		default:
			s.tell(r.OnChange.At, "on_change %q: want restart, reload or none%s", r.OnChange.S, didYouMean(r.OnChange.S, []string{bundle.Restart, bundle.Reload, bundle.None}))
		}
		if len(r.Instances) > 0 && !isTemplate(e.Key) {
			s.tell(e.At, "units: %s has no instances: only NAME@.KIND has", e.Key)
		}
		seen := map[string]bool{}
		for _, in := range r.Instances {
			if !instanceRule.MatchString(in.S) || checkUnitName(instance(e.Key, in.S)) != "" {
				s.tell(in.At, "bad name %q for an instance: want letters, digits and : _ . - \\", in.S)
			}
			if seen[in.S] {
				s.tell(in.At, "instance %s stands here twice", in.S)
			}
			seen[in.S] = true
		}
		for _, w := range r.Watch {
			if !s.watchable(w) {
				s.tell(w.At, "watch: %q is no file, link, key or package of this service", w.S)
			}
		}
		s.rules[e.Key] = r
	}
	for _, k := range s.keys {
		s.checkKeyUnits(k)
	}
}

// watchable tells whether a path of watch: fits anything.
func (s *service) watchable(w str) bool {
	one := list{w}
	return path.IsAbs(w.S) && (slices.ContainsFunc(s.files, func(f fileSpec) bool { return watches(one, f.path) }) ||
		slices.ContainsFunc(s.units, func(u unitSpec) bool { return watches(one, u.path) }) ||
		slices.ContainsFunc(s.keys, func(k keySpec) bool { return watches(one, k.Path) || k.link != "" && watches(one, k.link) }) ||
		s.pkg != nil && watches(one, bundle.PackageDir+"/"+s.name))
}

// checkKeyUnits holds the units that a key restarts or reloads against the folder.
func (s *service) checkKeyUnits(k keySpec) {
	for _, u := range slices.Concat(k.restart, k.reload) {
		if !isUnit(u) || checkUnitName(u) != "" || isTemplate(u) {
			s.tell(k.at, "key %s: %q is no unit to restart or reload%s", k.Name, u, didYouMean(u, s.unitNames()))
		} else if c := near(u, s.unitNames()); !s.has(u) && c != "" {
			s.tell(k.at, "key %s: no %s in this folder; did you mean %q?", k.Name, u, c)
		}
		if r := s.rules[u]; s.has(u) && slices.Contains(k.reload, u) && (r == nil || r.OnChange.S != bundle.Reload) {
			p := problemAt(s.text.file, s.text.data, k.at, "key %s: %s restarts on every other change, and so it does when this key changes; say on_change: reload for it under units:", k.Name, u)
			p.Warning = true
			s.problems = append(s.problems, p)
		}
		if slices.Contains(k.restart, u) && slices.Contains(k.reload, u) {
			s.tell(k.at, "key %s: %s stands under restart and under reload", k.Name, u)
		}
	}
}

var commandRule = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._+-]*$`)
var placeholder = regexp.MustCompile(`\{([^{}]*)\}`)

func (s *service) readNeeds() {
	for _, n := range s.def.Needs {
		if !commandRule.MatchString(n.S) {
			s.tell(n.At, "needs: %q is no name of a command", n.S)
		}
	}
	for _, h := range s.def.Health {
		for _, m := range placeholder.FindAllStringSubmatch(h.S, -1) {
			if _, ok := s.settings[m[1]]; !ok {
				s.tell(h.At, "health: no setting %q%s", m[1], didYouMean(m[1], sortedKeys(s.settings)))
			}
		}
		u, err := url.Parse(placeholder.ReplaceAllString(h.S, "1"))
		if err != nil || !slices.Contains([]string{"http", "https", "tcp"}, u.Scheme) || u.Host == "" {
			s.tell(h.At, "health: %q: want http://…, https://… or tcp://host:port", h.S)
		}
	}
}

// probes are the health checks with the host's settings filled in.
func (s *service) probes(settings map[string]any) []Probe {
	var out []Probe
	for _, h := range s.def.Health {
		out = append(out, Probe{s.name, placeholder.ReplaceAllStringFunc(h.S, func(m string) string {
			return fmt.Sprint(settings[m[1:len(m)-1]])
		})})
	}
	return out
}
