// Package syntax has the files of a config repo as people write them, and the rules for the names,
// paths and addresses in them.
//
// The types are decoded by package yaml, and Schema describes the same types. docs/repo.md explains
// their words. What the files mean together is for other packages.
package syntax

import (
	"reflect"
	"time"

	"github.com/goccy/go-yaml/ast"

	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/yaml"
)

// The types below are bellhop.yaml and hosts/*.yaml as people write them; Schema describes
// the same types. Their words are explained in docs/repo.md.

type Fleet struct {
	Network  yaml.String             `yaml:"network" jsonschema:"required" jsonschema_description:"name of the fleet"`
	Readers  yaml.Entries[yaml.List] `yaml:"readers" jsonschema_description:"who can open the secrets: name to recipient, group to names, or path pattern to readers"`
	Verify   Verify                  `yaml:"verify" jsonschema_description:"exceptions for secret verify"`
	Deployer yaml.String             `yaml:"deployer" jsonschema_description:"the deployer's own SSH public key"`
	All      Group                   `yaml:"all" jsonschema_description:"every host; a group's line wins over it, a host's own over both"`
	Groups   yaml.Entries[Group]     `yaml:"groups" jsonschema_description:"by tag"`
	Hosts    yaml.Entries[Host]      `yaml:"hosts" jsonschema_description:"by name"`
	Rollout  Rollout                 `yaml:"rollout" jsonschema_description:"how a run goes over the hosts"`

	Confirm yaml.Duration `yaml:"confirm" former:"ignored" jsonschema_description:"how long a host waits to be reached anew before it goes back; 30s by default, 0s turns it off"`
	Look    yaml.Duration `yaml:"look" former:"ignored" jsonschema_description:"how often the deployer looks at each host, without changing it; 10m by default, 0s turns it off"`
	Isolate *bool         `yaml:"isolate" jsonschema_description:"false: a service that fails holds back the other services of its host"`

	Images yaml.String `yaml:"images" former:"ignored" jsonschema:"enum=pinned" jsonschema_description:"pinned: an image of a compose service without a digest is refused"`

	Notify yaml.Entries[Notify] `yaml:"notify" former:"ignored" jsonschema_description:"whom messages are sent to, by name"`

	Registries yaml.Entries[yaml.String] `yaml:"registries" former:"ignored" jsonschema_description:"age file with the login (USER:PASSWORD) of each registry that images are pulled from, by its name, as in ghcr.io"`

	Trust yaml.NotYet `yaml:"trust" jsonschema:"-"`

	Health yaml.NotHere `yaml:"health" jsonschema:"-" place:"in the service's service.yaml"`
	Settle yaml.NotHere `yaml:"settle" jsonschema:"-" place:"in the service's service.yaml"`
	Before yaml.NotHere `yaml:"before" jsonschema:"-" place:"in the service's service.yaml"`
}

type Verify struct {
	Allow yaml.List `yaml:"allow"`
}

type Group struct {
	User     yaml.String              `yaml:"user"`
	Arch     yaml.String              `yaml:"arch"`
	Jump     yaml.String              `yaml:"jump"`
	Vars     yaml.Entries[yaml.Value] `yaml:"vars" jsonschema_description:"values for templates"`
	Services yaml.Entries[Switch]     `yaml:"services"`
}

type Host struct {
	Address  yaml.List                `yaml:"address" jsonschema:"required" jsonschema_description:"IP, '[v6]:port' in quotes, name or name:port; or a list tried in order"`
	HostKey  yaml.List                `yaml:"host_key" jsonschema:"required" jsonschema_description:"the pinned SSH host key, or a list of keys"`
	Arch     yaml.String              `yaml:"arch"`
	User     yaml.String              `yaml:"user"`
	Jump     yaml.String              `yaml:"jump"`
	Tags     yaml.List                `yaml:"tags" jsonschema_description:"groups that the host belongs to"`
	Vars     yaml.Entries[yaml.Value] `yaml:"vars" jsonschema_description:"values for templates"`
	Services yaml.Entries[Switch]     `yaml:"services"`

	After    yaml.List   `yaml:"after" former:"ignored" jsonschema_description:"hosts that a run pushes before this one"`
	Expected yaml.String `yaml:"expected" jsonschema:"enum=always,enum=sometimes" jsonschema_description:"sometimes: that the host is away is no failure"`

	NixOS NixOS `yaml:"nixos" former:"ignored" jsonschema_description:"the NixOS system of the host: .#NAME of the repo's flake, or a Nix file of the repo"`
}

type Rollout struct {
	Waves       Waves       `yaml:"waves" former:"ignored" jsonschema_description:"which hosts come first: numbers, shares of those that are left, or tags; 1 by default, [] for all at once"`
	Parallel    yaml.Number `yaml:"parallel" jsonschema_description:"how many hosts at once; 10 by default"`
	MaxFailures yaml.Number `yaml:"max_failures" former:"ignored" jsonschema_description:"how many hosts may fail before the next wave is not begun; 0 by default"`
}

// Waves is one step of a rollout or a list of them. At is zero where none is written.
type Waves struct {
	Steps yaml.List
	At    problem.Pos
}

// Decode reads the steps as text; an empty list is not the same as none.
func (w *Waves) Decode(d *yaml.Decoder, n ast.Node) {
	r, ok := d.Resolve(n)
	if !ok || r.Type() == ast.NullType {
		return
	}
	w.At = yaml.NodeAt(n)
	w.Steps.Decode(d, n)
}

// A Switch is the value of a service's name: true, false, or settings beside enable.
type Switch struct {
	Enable *bool
	At     problem.Pos
	Set    yaml.Entries[yaml.Value]
}

// Decode reads true, false, nothing (on), or settings beside enable.
func (s *Switch) Decode(d *yaml.Decoder, n ast.Node) {
	s.At = yaml.NodeAt(n)
	r, ok := d.Resolve(n)
	if !ok {
		return
	}
	switch x := r.(type) {
	case *ast.BoolNode:
		s.Enable = &x.Value
	case *ast.NullNode:
	case ast.MapNode:
		d.Pairs(r, func(key string, at problem.Pos, val ast.Node) {
			if key == EnableWord {
				on := true
				d.Decode(val, reflect.ValueOf(&on).Elem())
				s.Enable = &on
				return
			}

			e := yaml.Entry[yaml.Value]{Key: key, At: at}
			e.Value.Decode(d, val)
			s.Set = append(s.Set, e)
		})

	default:
		d.Report(s.At, "want true, false or settings, not %s", yaml.Describe(r))
	}
}

// EnableWord is the one setting that no service may have: it is written beside the others.
const EnableWord = "enable"

func (s *Switch) On() bool { return s.Enable == nil || *s.Enable }

// DefaultConfirm is confirm: where bellhop.yaml does not say.
const DefaultConfirm = 30 * time.Second

var confirmSpan = Span{time.Second, 10 * time.Minute, true}

// ConfirmTime is for how long a host waits to be confirmed, and what is wrong with how it is written.
func (f *Fleet) ConfirmTime() (time.Duration, string) {
	if f.Confirm.At.Line == 0 {
		return DefaultConfirm, ""
	}
	return f.Confirm.D, confirmSpan.Trouble("confirm", f.Confirm)
}

// DefaultLook is look: where bellhop.yaml does not say.
const DefaultLook = 10 * time.Minute

var lookSpan = Span{10 * time.Second, 24 * time.Hour, true}

// LookTime is how often each host is looked at, and what is wrong with how it is written.
func (f *Fleet) LookTime() (time.Duration, string) {
	if f.Look.At.Line == 0 {
		return DefaultLook, ""
	}
	return f.Look.D, lookSpan.Trouble("look", f.Look)
}
