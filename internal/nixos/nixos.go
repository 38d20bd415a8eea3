// Package nixos evaluates, builds and copies the NixOS systems of a config repo.
//
// A source is what Nix sees of a commit: a tree in a private directory, written without git. An
// evaluation turns it into systems, one for each host: a derivation, the store path that it builds, and
// the keys that deployment.keys names. A closure is a store path with all that it refers to.
//
// Its promises: one Nix process evaluates all hosts, and none is started while the tree that Nix sees
// is the same; a host that breaks that process costs one more, and is the trouble of that host alone;
// no path is ever turned into JSON by Nix, which would copy it into the store; what local files a
// flake.lock could bring into the store is refused before Nix runs; and Nix is never given an SSH key.
package nixos

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// A Nix runs the programs of Nix on this machine. Its exported fields are set before its first use.
type Nix struct {
	// Dir is a private directory for trees, GC roots, Nix's caches and what is remembered between runs.
	Dir string
	// ImportFromDerivation lets an evaluation build what it then reads.
	ImportFromDerivation bool
	// CutOff has evaluations run without a network, and with bounds on what they take: what is not in the store is an error
	// then. It is for the configurations of people who may not be trusted.
	CutOff bool
	// Timeout bounds one evaluation; 0 means 30 min.
	Timeout time.Duration
	// BuildTimeout bounds one build of all systems that are missing; 0 means 6 h.
	BuildTimeout time.Duration
	// Worker is the socket of a worker that evaluates and builds as another user; while there is none at that path,
	// and where it is "", this process's user does.
	Worker string
	// Memory tells how many bytes are free; nil: /proc/meminfo has it.
	Memory func() int64
	// Started is called with the name and arguments of each program of Nix that is started. Nil: it is not called.
	Started func(argv []string)

	mu     sync.Mutex
	memory *memory             // what earlier evaluations came to; nil: not read yet
	broken map[string]*Failure // derivations that could not be built, until ForgetFailures
}

// ErrNoNix says that this machine has no Nix.
var ErrNoNix = errors.New("this machine has no Nix: install it (on Debian the package nix-bin), run the deployer where it is, or let the host build and evaluate by build_on: target")

// Installed says whether the programs of Nix can be found.
func Installed() bool {
	_, err := program("nix-store")
	return err == nil
}

// profiles are where programs of Nix are beside PATH.
var profiles = []string{"/run/current-system/sw/bin", "/nix/var/nix/profiles/default/bin"}

func program(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}

	for _, dir := range profiles {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}

	return "", ErrNoNix
}

// An Ask names the system of one host.
type Ask struct {
	Host string `json:"host"`
	// Attr is the system's name in nixosConfigurations of the flake, or, with File, the path of attributes
	// to it in what the file holds; "" is the file itself.
	Attr string `json:"attr"`
	// File is a Nix file in the repo; "": the flake.
	File string `json:"file"`
	// OnHost says that the host builds the system, and, where this machine has no Nix, evaluates it.
	OnHost bool `json:"-"`
}

// EvaluatesOnHost says that the host evaluates.
func (a *Ask) EvaluatesOnHost() bool { return a.OnHost && !Installed() }

// A System is what the evaluation of one host came to. With Err set the rest is empty.
type System struct {
	Drv  string `json:"drv"` // the derivation, /nix/store/….drv
	Out  string `json:"out"` // what it builds: the system's store path
	Keys []Key  `json:"keys,omitempty"`
	// EvaluatesOnHost says that the host evaluated it: the derivation is in its store, and not in that of this machine.
	There bool `json:"there,omitempty"`
	// Err is why the host has no system; Lines are the last lines of the log about it.
	Err   string   `json:"err,omitempty"`
	Lines []string `json:"lines,omitempty"`
	// passing says that another attempt may come to something else with the same tree.
	passing bool
}

// MayPass says that the host has no system for a reason of this machine, such as too little memory: with the same tree
// another attempt may come to one.
func (s System) MayPass() bool { return s.passing }

// maxEvidence is how many lines of a log are kept.
const maxEvidence = 30

// StoreDir is where Nix's store is. Other stores are not supported.
const StoreDir = "/nix/store"

// IsStorePath says whether p is the path of one thing in the store: a hash, a dash, a name.
func IsStorePath(p string) bool {
	name, ok := strings.CutPrefix(p, StoreDir+"/")
	hasLength := len(name) >= 34 && len(name) <= 211+33
	if !ok || !hasLength || name[32] != '-' {
		return false
	}

	for i, c := range []byte(name) {
		small, digit := 'a' <= c && c <= 'z', '0' <= c && c <= '9'
		capital := i > 32 && 'A' <= c && c <= 'Z'
		letter := small || capital
		sign := i >= 32 && strings.IndexByte("+-._?=", c) >= 0
		if !letter && !digit && !sign {
			return false
		}
	}

	return true
}

func (n *Nix) timeout() time.Duration {
	if n.Timeout > 0 {
		return n.Timeout
	}
	return 30 * time.Minute
}

func (n *Nix) buildTimeout() time.Duration {
	if n.BuildTimeout > 0 {
		return n.BuildTimeout
	}
	return 6 * time.Hour
}

// within bounds one program of Nix.
func within(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, errors.New("it took longer than "+limit.String()))
}
