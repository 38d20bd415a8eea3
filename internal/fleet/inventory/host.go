package inventory

import "bellhop/internal/rollout"

// A Host is one machine of the fleet, with what all, its groups and its own lines say.
type Host struct {
	Name      string
	Addresses []string       // "ip:port" or "name:port", tried in order
	HostKeys  []string       // "type base64", as in authorized_keys; any of them is right
	Arch      string         // as Go names it; "" when the config does not say
	User      string         // who logs in; another than root runs the helper under sudo -n
	Jump      string         // name of the host to go through; ""
	Tags      []string       // sorted
	After     []string       // hosts that a run pushes before this one
	Sometimes bool           // it is away at times, which is no failure
	Services  []string       // switched on, sorted
	NixOS     *NixOS         `json:",omitempty"` // the system that it runs; nil: it is no NixOS host
	Vars      map[string]any `json:"-"`          // of all, its groups and itself: the values that templates get
	// Settings are the settings of each service that is on, defaults included.
	Settings map[string]map[string]any `json:"-"`
}

// NixOS is the NixOS system of a host.
type NixOS struct {
	Attr string `json:",omitempty"` // its name in nixosConfigurations of the flake, or the attributes that lead to it in File
	File string `json:",omitempty"` // a Nix file of the repo; "": its flake
	// OnHost says that the host builds it, and, where the deployer has no Nix, evaluates it too.
	OnHost bool `json:",omitempty"`
}

// A Rollout says how a run goes over the hosts.
type Rollout struct {
	Waves       []rollout.Step // none: all hosts at once
	Parallel    int            // hosts at once
	MaxFailures int            // hosts that may fail before the next wave is not begun
}

// Readers says who can open which secret.
type Readers struct {
	Names map[string][]string // name or group, to recipients as age writes them
	Rules []Rule              // in the order of the file
	Allow []string            // verify.allow: paths where a private key is meant to be
}

// A Rule gives the secrets whose path matches Pattern to Readers.
type Rule struct {
	Pattern string   // as path.Match; "secrets/web/*"
	Readers []string // names or groups of Readers.Names, or recipients
	File    string
	Line    int
}
