package bundle

import (
	"fmt"
	"strings"

	"bellhop/internal/nameshape"
)

// SystemService is the service that a NixOS system counts as, in results and in services[].
const SystemService = "nixos"

// What switch-to-configuration does with a System. ActionSwitch is that of an empty Action.
const (
	ActionSwitch = "switch" // make it the default of boot, and go over to it now
	ActionBoot   = "boot"   // make it the default of boot
	ActionTest   = "test"   // go over to it now; the next boot brings back what was there before
)

// A System is the NixOS system of a host. Its closure is on the host before a manifest that names it
// is offered.
type System struct {
	Path   string `json:"path"`             // the store path of the toplevel: /nix/store/HASH-NAME
	Action string `json:"action,omitempty"` // ActionSwitch where it is empty
}

// SystemStateOf is what a host says of its NixOS system, and of Nix.
type SystemStateOf[T text] struct {
	Nix     bool `json:"nix,omitempty"`     // nix-store can be started
	Current T    `json:"current,omitempty"` // store path of /run/current-system; "" when there is none
	Profile T    `json:"profile,omitempty"` // store path of the system profile; "" when there is none
	Booted  T    `json:"booted,omitempty"`  // store path of /run/booted-system; "" when there is none
	// Number is the generation of the system profile: 42 of system-42-link; 0: there is none.
	Number int64 `json:"number,omitempty"`
}

// A SystemState is what a helper writes of its host's system.
type SystemState = SystemStateOf[string]

const storeHash = 32 // letters and digits of the hash in a store path

var (
	hashShape = nameshape.Of("0-9a-df-np-sv-z", storeHash)
	nameShape = nameshape.New("A-Za-z0-9+_?=-", "A-Za-z0-9+._?=-", 211)
)

// IsStorePath says that p is the path of an object in the Nix store: /nix/store/HASH-NAME. What lies below one is not.
func IsStorePath(p string) bool {
	base, inStore := strings.CutPrefix(p, "/nix/store/")
	hash, name, named := strings.Cut(base, "-")
	if !inStore || !named {
		return false
	}
	return len(hash) == storeHash && hashShape.MatchString(hash) && nameShape.MatchString(name)
}

// Verb is the word for switch-to-configuration: switch, boot or test.
func (s *System) Verb() string {
	if s.Action == "" {
		return ActionSwitch
	}
	return s.Action
}

// Bad says why s can't be the system of a host; "" when it can.
func (s *System) Bad() string {
	if !IsStorePath(s.Path) {
		return fmt.Sprintf("%q is no path in the Nix store", s.Path)
	}
	switch s.Verb() {
	case ActionSwitch, ActionBoot, ActionTest:
		return ""
	}

	return fmt.Sprintf("action %q: want %s, %s or %s", s.Action, ActionSwitch, ActionBoot, ActionTest)
}

// systemResource names the system as Change.Resource has it.
const systemResource = KindSystem + ":" + SystemService

// systems is the system of m as a list, for what works on lists.
func (m *Manifest) systems() []System {
	if m.System == nil {
		return nil
	}
	return []System{*m.System}
}
