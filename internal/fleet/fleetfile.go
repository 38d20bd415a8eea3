package fleet

import "bellhop/internal/fleet/problem"

// The types below are bellhop.yaml and hosts/*.yaml as people write them; Schema describes
// the same types. Their words are explained in docs/repo.md.

type fleetFile struct {
	Network  str                `yaml:"network" jsonschema:"required" jsonschema_description:"name of the fleet"`
	Readers  entries[list]      `yaml:"readers" jsonschema_description:"who can open the secrets: name to recipient, group to names, or path pattern to readers"`
	Verify   verifyFile         `yaml:"verify" jsonschema_description:"exceptions for secret verify"`
	Deployer str                `yaml:"deployer" jsonschema_description:"the deployer's own SSH public key"`
	All      groupFile          `yaml:"all" jsonschema_description:"every host; a group's line wins over it, a host's own over both"`
	Groups   entries[groupFile] `yaml:"groups" jsonschema_description:"by tag"`
	Hosts    entries[hostFile]  `yaml:"hosts" jsonschema_description:"by name"`
	Rollout  rolloutFile        `yaml:"rollout" jsonschema_description:"how many hosts at once"`

	Confirm duration `yaml:"confirm" former:"ignored" jsonschema_description:"how long a host waits to be reached anew before it goes back; 30s by default, 0s turns it off"`
	Isolate *bool    `yaml:"isolate" jsonschema_description:"false: a service that fails holds back the other services of its host"`

	Look       notYet `yaml:"look" jsonschema:"-"`
	Notify     notYet `yaml:"notify" jsonschema:"-"`
	Trust      notYet `yaml:"trust" jsonschema:"-"`
	Registries notYet `yaml:"registries" jsonschema:"-"`

	Health notHere `yaml:"health" jsonschema:"-" place:"in the service's service.yaml"`
	Settle notHere `yaml:"settle" jsonschema:"-" place:"in the service's service.yaml"`
	Before notHere `yaml:"before" jsonschema:"-" place:"in the service's service.yaml"`
}

type verifyFile struct {
	Allow list `yaml:"allow"`
}

type groupFile struct {
	User     str                 `yaml:"user"`
	Arch     str                 `yaml:"arch"`
	Jump     str                 `yaml:"jump"`
	Vars     entries[value]      `yaml:"vars" jsonschema_description:"values for templates"`
	Services entries[switchFile] `yaml:"services"`
}

type hostFile struct {
	Address  list                `yaml:"address" jsonschema:"required" jsonschema_description:"IP, '[v6]:port' in quotes, name or name:port; or a list tried in order"`
	HostKey  list                `yaml:"host_key" jsonschema:"required" jsonschema_description:"the pinned SSH host key, or a list of keys"`
	Arch     str                 `yaml:"arch"`
	User     str                 `yaml:"user"`
	Jump     str                 `yaml:"jump"`
	Tags     list                `yaml:"tags" jsonschema_description:"groups that the host belongs to"`
	Vars     entries[value]      `yaml:"vars" jsonschema_description:"values for templates"`
	Services entries[switchFile] `yaml:"services"`

	NixOS notYet `yaml:"nixos" jsonschema:"-"`
	After notYet `yaml:"after" jsonschema:"-"`
}

type rolloutFile struct {
	Parallel number `yaml:"parallel" jsonschema_description:"how many hosts at once; 10 by default"`

	Waves       notYet `yaml:"waves" jsonschema:"-"`
	MaxFailures notYet `yaml:"max_failures" jsonschema:"-"`
}

// A switchFile is what stands behind a service's name: true, false, or settings beside enable.
type switchFile struct {
	Enable *bool
	At     problem.Pos
	Set    entries[value]
}
