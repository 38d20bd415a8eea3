package fleet

import (
	"reflect"

	"github.com/goccy/go-yaml/ast"

	"bellhop/internal/fleet/problem"
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

	Health probesFile `yaml:"health" former:"ignored" jsonschema_description:"what must answer once the service was started"`
	Settle duration   `yaml:"settle" former:"ignored" jsonschema_description:"how long a started unit must stay up; 5s by default, 0s turns it off"`
	Before stepsFile  `yaml:"before" former:"ignored" jsonschema_description:"commands on the host before anything of the service is touched"`

	Compose  notYet  `yaml:"compose" jsonschema:"-"`
	Expected notYet  `yaml:"expected" jsonschema:"-"`
	Isolate  notHere `yaml:"isolate" jsonschema:"-" place:"at the top of bellhop.yaml"`
	Confirm  notHere `yaml:"confirm" jsonschema:"-" place:"at the top of bellhop.yaml"`
}

// userFile is a name, or a mapping.
type userFile struct {
	Name        str  `yaml:"name"`
	Group       str  `yaml:"group"`
	Home        str  `yaml:"home"`
	UID         str  `yaml:"uid" jsonschema_description:"a fixed number, as NFS needs it"`
	GID         str  `yaml:"gid" jsonschema_description:"of the group"`
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

	at problem.Pos // of the whole; zero when there is no package
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
