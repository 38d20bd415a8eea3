package syntax

import (
	"reflect"

	"github.com/goccy/go-yaml/ast"

	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/yaml"
)

// The types below are service.yaml as people write it; Schema describes the same types.

type Service struct {
	Description yaml.String              `yaml:"description" jsonschema_description:"for people"`
	User        User                     `yaml:"user" jsonschema_description:"the account that the service runs as"`
	Package     Package                  `yaml:"package" jsonschema_description:"a program, reached as /opt/bellhop/SERVICE"`
	Keys        Keys                     `yaml:"keys" jsonschema_description:"secrets that stand in /run/keys"`
	Settings    yaml.Entries[yaml.Value] `yaml:"settings" jsonschema_description:"defaults of what hosts may set"`
	Files       yaml.Entries[FileRule]   `yaml:"files" jsonschema_description:"owner and mode of installed files, by path"`
	Units       yaml.Entries[UnitRule]   `yaml:"units" jsonschema_description:"what differs from the rules, by unit"`
	Needs       yaml.List                `yaml:"needs" jsonschema_description:"commands that must be on the host"`

	Health Probes        `yaml:"health" former:"ignored" jsonschema_description:"what must answer once the service was started"`
	Settle yaml.Duration `yaml:"settle" former:"ignored" jsonschema_description:"how long a started unit must stay up; 5s by default, 0s turns it off"`
	Before Steps         `yaml:"before" former:"ignored" jsonschema_description:"commands on the host before anything of the service is touched"`

	Compose Compose `yaml:"compose" former:"ignored" jsonschema_description:"where a compose project stands, and which files it is made of"`

	Expected yaml.NotYet  `yaml:"expected" jsonschema:"-"`
	Isolate  yaml.NotHere `yaml:"isolate" jsonschema:"-" place:"at the top of bellhop.yaml"`
	Confirm  yaml.NotHere `yaml:"confirm" jsonschema:"-" place:"at the top of bellhop.yaml"`
}

// Compose says how the folder is a compose project; one with compose.yaml needs no word of it.
type Compose struct {
	Dir     yaml.String `yaml:"dir" jsonschema_description:"the project directory on the host; /opt/stacks/SERVICE by default"`
	Project yaml.String `yaml:"project" jsonschema_description:"the project's name, where it is not the service's"`
	Files   yaml.List   `yaml:"files" jsonschema_description:"compose files, in order; compose.yaml by default"`
	Env     yaml.List   `yaml:"env" jsonschema_description:"files of this folder, or one age file, that variables get their values from"`

	At problem.Pos `yaml:"-"`
}

// Decode reads the mapping, and notes where it is.
func (c *Compose) Decode(d *yaml.Decoder, n ast.Node) {
	r, ok := d.Resolve(n)
	if !ok || r.Type() == ast.NullType {
		return
	}
	c.At = yaml.NodeAt(n)
	d.DecodeStruct(r, reflect.ValueOf(c).Elem())
}

// User is a name, or a mapping.
type User struct {
	Name        yaml.String `yaml:"name"`
	Group       yaml.String `yaml:"group"`
	Home        yaml.String `yaml:"home"`
	UID         yaml.String `yaml:"uid" jsonschema_description:"a fixed number, as NFS needs it"`
	GID         yaml.String `yaml:"gid" jsonschema_description:"of the group"`
	ExtraGroups yaml.List   `yaml:"extra_groups"`
	Linger      *bool       `yaml:"linger" former:"ignored" jsonschema_description:"the quadlets of the service are units of the user's own systemd, which runs without a login"`
}

// Package is the path of a blob in the service's folder, or a mapping.
type Package struct {
	Version yaml.String `yaml:"version"`
	URL     yaml.String `yaml:"url"`
	SHA256  PerArch     `yaml:"sha256"`
	File    yaml.String `yaml:"file"`
	Kind    yaml.String `yaml:"kind"`
	Strip   yaml.Number `yaml:"strip"`
	Name    yaml.String `yaml:"name"`

	At problem.Pos `yaml:"-"` // of the whole; zero when there is no package
}

// PerArch is one text for every architecture, or one for each.
type PerArch struct {
	Any yaml.String
	By  yaml.Entries[yaml.String]
}

// Keys is a list of names, or a mapping of name to what differs from the defaults.
type Keys yaml.Entries[Key]

type Key struct {
	Source      yaml.String `yaml:"source"`
	User        yaml.String `yaml:"user"`
	Group       yaml.String `yaml:"group"`
	Permissions yaml.String `yaml:"permissions"`
	Path        yaml.String `yaml:"path"`
	Persist     yaml.String `yaml:"persist" jsonschema_description:"sealed: the key survives a reboot without the deployer"`
	Restart     yaml.List   `yaml:"restart"`
	Reload      yaml.List   `yaml:"reload"`
}

type FileRule struct {
	User  yaml.String `yaml:"user"`
	Group yaml.String `yaml:"group"`
	Mode  yaml.String `yaml:"mode"`
}

type UnitRule struct {
	OnChange  yaml.String `yaml:"on_change" jsonschema_description:"restart, reload or none"`
	Watch     yaml.List   `yaml:"watch"`
	Instances yaml.List   `yaml:"instances"`
	Enable    *bool       `yaml:"enable"`
}

func (u *User) Decode(d *yaml.Decoder, n ast.Node) {
	r, ok := d.Resolve(n)
	if !ok {
		return
	}
	if _, isMap := r.(ast.MapNode); isMap {
		d.DecodeStruct(r, reflect.ValueOf(u).Elem())
		if u.Name.S == "" && u.Name.At.Line == 0 {
			d.Report(yaml.NodeAt(n), "user has no name")
		}
		return
	}

	if r.Type() != ast.NullType {
		u.Name.Decode(d, n)
	}
}

func (p *Package) Decode(d *yaml.Decoder, n ast.Node) {
	r, ok := d.Resolve(n)
	if !ok || r.Type() == ast.NullType {
		return
	}
	p.At = yaml.NodeAt(n)
	if _, isMap := r.(ast.MapNode); isMap {
		d.DecodeStruct(r, reflect.ValueOf(p).Elem())
		return
	}

	p.File.Decode(d, n)
}

func (p *PerArch) Decode(d *yaml.Decoder, n ast.Node) {
	r, ok := d.Resolve(n)
	if !ok {
		return
	}
	if _, isMap := r.(ast.MapNode); isMap {
		p.By.Decode(d, r)
		return
	}

	p.Any.Decode(d, n)
}

func (k *Keys) Decode(d *yaml.Decoder, n ast.Node) {
	r, ok := d.Resolve(n)
	if !ok || r.Type() == ast.NullType {
		return
	}
	if _, isMap := r.(ast.MapNode); isMap {
		(*yaml.Entries[Key])(k).Decode(d, r)
		return
	}

	seen := map[string]bool{}
	d.Each(r, func(item ast.Node) {
		var s yaml.String
		s.Decode(d, item)
		if seen[s.S] {
			d.Report(s.At, "key %q stands here a second time", s.S)
			return
		}

		seen[s.S] = true
		*k = append(*k, yaml.Entry[Key]{Key: s.S, At: s.At})
	})
}
