package systemd

// How the twin reads unit files: as systemd does, as far as bellhop's rules depend on it.
//
//  1. A unit's file is the first of its name in the search path; an instance falls back to
//     its template. A link to /dev/null, or an empty file, masks. A link to another name is
//     an alias.
//  2. Drop-ins of NAME.d/ in every folder of the path are added by file name; in one folder
//     before another of the path the same file name hides the later.
//  3. NAME.wants/ and NAME.requires/ add dependencies.

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
)

const (
	adminDir     = "/etc/systemd/system"
	runtimeDir   = "/run/systemd/system"
	generatorDir = "/run/systemd/generator"
)

var searchPath = []string{adminDir, runtimeDir, generatorDir, "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"}

// A Def is what a unit's files say.
type Def struct {
	name     string
	Load     string              // loaded, not-found, masked, bad-setting
	fragment string              // as the host sees it
	values   map[string][]string // "Unit.Requires"; an empty assignment empties
}

func (d *Def) Last(key string) string {
	if vs := d.values[key]; len(vs) > 0 {
		return vs[len(vs)-1]
	}
	return ""
}

// List splits all assignments of a key into words.
func (d *Def) List(key string) (words []string) {
	for _, v := range d.values[key] {
		words = append(words, strings.Fields(v)...)
	}
	return words
}

// runsNothing says that a service has nothing to run, which systemd refuses.
func (d *Def) runsNothing() bool {
	hasProgram := len(d.values["Service.ExecStart"])+len(d.values["Service.ExecStop"]) > 0
	isAction := d.kind() == "oneshot" && len(d.values["Unit.SuccessAction"]) > 0
	return d.service() && !hasProgram && !isAction
}

// isActivator says that a unit of this name starts another one.
func isActivator(name string) bool {
	return slices.Contains([]string{".socket", ".timer", ".path"}, filepath.Ext(name))
}

func (d *Def) service() bool { return strings.HasSuffix(d.name, ".service") }

func (d *Def) kind() string {
	if t := d.Last("Service.Type"); t != "" {
		return t
	}
	if d.service() && len(d.values["Service.ExecStart"]) == 0 {
		return "oneshot"
	}
	return "simple"
}

func (d *Def) remains() bool { return yes(d.Last("Service.RemainAfterExit")) }

func (d *Def) restarts() bool {
	return slices.Contains([]string{"always", "on-failure", "on-abnormal", "on-abort"}, d.Last("Service.Restart"))
}

func yes(v string) bool {
	return slices.Contains([]string{"1", "yes", "y", "true", "t", "on"}, strings.ToLower(v))
}

// Canonical follows aliases: multi-user.target.wants aside, a link in the search path whose
// target has another name.
func (m *Systemd) Canonical(name string) string {
	for range 8 {
		_, p := m.find(name)
		if p == "" {
			return name
		}

		target, err := os.Readlink(m.Path(p))
		if err != nil || filepath.Base(target) == name || target == "/dev/null" {
			return name
		}

		base := filepath.Base(target)
		if template(base) == base && template(name) == base {
			return name // an instance's link to its template
		}

		name = base
	}
	return name
}

// template is foo@.service for foo@a.service, and "" for what is no instance.
func template(name string) string {
	at := strings.Index(name, "@")
	if at < 0 {
		return ""
	}
	return name[:at+1] + filepath.Ext(name)
}

func instance(name string) string {
	if at := strings.Index(name, "@"); at >= 0 {
		return strings.TrimSuffix(name[at+1:], filepath.Ext(name))
	}
	return ""
}

// find gives the folder and path of a unit's own file.
func (m *Systemd) find(name string) (dir, path string) {
	names := []string{name}
	if t := template(name); t != "" && t != name {
		names = append(names, t)
	}
	for _, n := range names {
		for _, d := range searchPath {
			if _, err := os.Lstat(m.Path(d + "/" + n)); err == nil {
				return d, d + "/" + n
			}
		}
	}

	return "", ""
}

// Def is what a unit is taken for: as it was read when it came up or at the last
// daemon-reload while it has a state, as it stands on disk otherwise.
func (m *Systemd) Def(name string) *Def {
	name = m.Canonical(name)
	if u := m.units[name]; u != nil && u.def != nil {
		return u.def
	}
	return m.parse(name)
}

func (m *Systemd) parse(name string) *Def {
	d := &Def{name: name, Load: "loaded", values: map[string][]string{}}
	_, path := m.find(name)
	dropins := m.dropins(name)
	switch {
	case path == "" && builtin[name] != nil:
		for k, v := range builtin[name] {
			d.values[k] = append(d.values[k], v...)
		}
	case path == "":
		d.Load = "not-found"
		if len(m.linked(name, ".wants"))+len(m.linked(name, ".requires")) > 0 && strings.HasSuffix(name, ".target") {
			d.Load = "loaded"
		}
	default:
		d.fragment = path
		if target, err := os.Readlink(m.Path(path)); err == nil && target == "/dev/null" {
			d.Load = "masked"
			return d
		}
		text, err := m.readLinked(path)
		if err != nil {
			d.Load = "not-found"
			return d
		}
		if len(text) == 0 {
			d.Load = "masked"
			return d
		}
		d.add(text)
	}

	for _, p := range dropins {
		text, _ := m.readLinked(p)
		d.add(text)
	}

	d.values["Unit.Wants"] = append(d.values["Unit.Wants"], m.linked(name, ".wants")...)
	d.values["Unit.Requires"] = append(d.values["Unit.Requires"], m.linked(name, ".requires")...)
	if d.Load == "loaded" && d.runsNothing() {
		d.Load = "bad-setting"
	}

	return d
}

// readLinked reads a file below the root, whose links mean the host's paths.
func (m *Systemd) readLinked(path string) (string, error) {
	for range 8 {
		target, err := os.Readlink(m.Path(path))
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	p, err := os.ReadFile(m.Path(path))
	return string(p), err
}

func (m *Systemd) dropins(name string) []string {
	found := map[string]string{}
	names := []string{name}
	if t := template(name); t != "" {
		names = append(names, t)
	}

	for _, n := range names {
		for _, dir := range searchPath {
			es, _ := os.ReadDir(m.Path(dir + "/" + n + ".d"))
			for _, e := range es {
				if strings.HasSuffix(e.Name(), ".conf") && found[e.Name()] == "" {
					found[e.Name()] = dir + "/" + n + ".d/" + e.Name()
				}
			}
		}
	}

	var keys []string
	for k := range found {
		keys = append(keys, k)
	}

	sort.Strings(keys)
	for i, k := range keys {
		keys[i] = found[k]
	}

	return keys
}

// linked lists the units that links below NAME.wants or NAME.requires name.
func (m *Systemd) linked(name, suffix string) (units []string) {
	for _, dir := range searchPath {
		es, _ := os.ReadDir(m.Path(dir + "/" + name + suffix))
		for _, e := range es {
			units = append(units, e.Name())
		}
	}
	return units
}

// add reads one file's assignments into d.
func (d *Def) add(text string) {
	text = strings.ReplaceAll(text, "\\\n", " ")
	section := ""
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}

		if line[0] == '[' {
			section = strings.Trim(line, "[]")
			continue
		}

		k, v, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}

		key := section + "." + strings.TrimSpace(k)
		v = d.expand(strings.TrimSpace(v))
		if v == "" {
			d.values[key] = nil
			continue
		}

		d.values[key] = append(d.values[key], v)
	}
}

func (d *Def) expand(v string) string {
	if !strings.Contains(v, "%") {
		return v
	}
	prefix, _, _ := strings.Cut(strings.TrimSuffix(d.name, filepath.Ext(d.name)), "@")
	i := instance(d.name)
	return strings.NewReplacer("%%", "%", "%i", i, "%I", i, "%n", d.name, "%N", strings.TrimSuffix(d.name, filepath.Ext(d.name)), "%p", prefix).Replace(v)
}

// builtin are the targets that every host has.
var builtin = map[string]map[string][]string{
	"sysinit.target":        {},
	"basic.target":          {"Unit.Requires": {"sysinit.target"}, "Unit.After": {"sysinit.target"}, "Unit.Wants": {"sockets.target timers.target paths.target"}},
	"sockets.target":        {"Unit.After": {"sysinit.target"}},
	"timers.target":         {"Unit.After": {"sysinit.target"}},
	"paths.target":          {"Unit.After": {"sysinit.target"}},
	"multi-user.target":     {"Unit.Requires": {"basic.target"}, "Unit.After": {"basic.target"}},
	"graphical.target":      {"Unit.Requires": {"multi-user.target"}, "Unit.After": {"multi-user.target"}},
	"local-fs.target":       {},
	"network.target":        {},
	"network-pre.target":    {},
	"network-online.target": {},
	"nss-lookup.target":     {},
	"time-sync.target":      {},
	"remote-fs.target":      {},
	"shutdown.target":       {},
	"umount.target":         {},
}

// Triggers is the unit that an activator starts.
func (m *Systemd) Triggers(activator string) string {
	d := m.Def(activator)
	for _, k := range []string{"Socket.Service", "Timer.Unit", "Path.Unit"} {
		if v := d.Last(k); v != "" {
			return v
		}
	}
	return strings.TrimSuffix(activator, filepath.Ext(activator)) + ".service"
}

// triggeredBy lists the activators of a unit that are enabled or active.
func (m *Systemd) triggeredBy(name string) (by []string) {
	for _, dir := range searchPath {
		for _, e := range m.unitDir(dir) {
			if !isActivator(e.Name()) || slices.Contains(by, e.Name()) {
				continue
			}
			on := m.unit(e.Name()).active == "active" || m.FileState(e.Name()) == "enabled"
			if on && m.Triggers(e.Name()) == name {
				by = append(by, e.Name())
			}
		}
	}
	return by
}

// unitDir lists a folder of units. While hundreds of units are asked for at once, each folder
// is listed once.
func (m *Systemd) unitDir(dir string) []fs.DirEntry {
	if es, ok := m.listed[dir]; ok {
		return es
	}
	es, _ := os.ReadDir(m.Path(dir))
	if m.listed != nil {
		m.listed[dir] = es
	}
	return es
}

// ConditionsHold judges Condition lines; assertsHold Assert lines.
func (m *Systemd) ConditionsHold(d *Def) bool { return m.judge(d, "Unit.Condition") }
func (m *Systemd) assertsHold(d *Def) bool    { return m.judge(d, "Unit.Assert") }

func (m *Systemd) judge(d *Def, prefix string) bool {
	tests := map[string]func(string) bool{
		"PathExists":        func(p string) bool { _, err := os.Stat(m.Path(p)); return err == nil },
		"PathExistsGlob":    func(p string) bool { f, _ := filepath.Glob(m.Path(p)); return len(f) > 0 },
		"PathIsDirectory":   func(p string) bool { fi, err := os.Stat(m.Path(p)); return err == nil && fi.IsDir() },
		"FileNotEmpty":      func(p string) bool { fi, err := os.Stat(m.Path(p)); return err == nil && fi.Size() > 0 },
		"DirectoryNotEmpty": func(p string) bool { es, _ := os.ReadDir(m.Path(p)); return len(es) > 0 },
	}
	either, anyOf := false, false
	for kind, test := range tests {
		for _, v := range d.values[prefix+kind] {
			v, trigger := strings.CutPrefix(v, "|")
			v, not := strings.CutPrefix(v, "!")
			ok := test(v) != not
			if trigger {
				anyOf, either = true, either || ok
			} else if !ok {
				return false
			}
		}
	}

	return !anyOf || either
}

var containerImage = regexp.MustCompile(`(?m)^(Image|Rootfs)=.`)
