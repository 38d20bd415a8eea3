// Package fleet says what a config repo may say, and what each host should hold.
//
// The fleet is all hosts that bellhop.yaml and hosts/*.yaml name. A service is a folder below
// services, switched on per host. A Loader reads a tree into a Fleet, and a Fleet gives one
// Bundle per host: files, links, keys, packages, accounts, and what systemd should do with
// the units among them.
//
// Two promises. Everything that is wrong is reported at once, with file, line, column and the
// source line, before any host is touched. And the cost of a Load follows what changed: a
// tree that knows the hashes of its files and folders (git's do) is read only where they
// differ, and a host that nothing changed for keeps the very same *Bundle.
//
// The package is pure: it dials nothing and opens no secret but through Loader.Open.
package fleet

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"bellhop/internal/confine"
	"bellhop/internal/fleet/inventory"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/template"
	"bellhop/internal/fleet/tree"
	"bellhop/internal/fleet/wire"
)

// A Problem is one thing that is wrong with the config, and Problems are all of them.
type (
	Problem  = problem.Problem
	Problems = problem.Problems
)

// A Host is one machine of the fleet, a Rollout says how a run goes over them, and Readers, by their
// Rules, who can open which secret.
type (
	Host    = inventory.Host
	NixOS   = inventory.NixOS
	Rollout = inventory.Rollout
	Readers = inventory.Readers
	Rule    = inventory.Rule
)

// ReadReaders reads readers: and verify: of bellhop.yaml, and nothing else of a tree.
func ReadReaders(ctx context.Context, fsys fs.FS) (Readers, error) {
	return inventory.ReadReaders(ctx, fsys)
}

// A KeyFile is one age file that a key's value comes from.
type KeyFile = wire.KeyFile

// Schema is the JSON Schema of the files that people write, as one document: a definition each for
// bellhop.yaml, hosts/NAME.yaml and service.yaml, any of which may be at the top.
func Schema() ([]byte, error) { return syntax.Schema() }

// CheckName says what is wrong with a name for a host, a service, a key or whatever what is; nil when
// it will do.
func CheckName(what, name string) error { return syntax.CheckName(what, name) }

// EnvQuote writes s as the value of a line in an environment file, so that systemd and a POSIX shell
// read exactly s. What such a file can't hold is an error that does not repeat s.
func EnvQuote(s string) (string, error) { return template.EnvQuote(s) }

// A Loader turns trees into fleets, and keeps what it parsed so that the next tree costs only
// what differs. Its zero value works offline. It may be used by several goroutines.
type Loader struct {
	// Open opens the age file at path in tree. Nil: offline, the digests of keys are unknown.
	Open func(tree fs.FS, path string) ([]byte, error)
	// KeyDigest is the HMAC of a key's value under the deployer's digest-key, hex. Nil: "".
	KeyDigest func(value []byte) string
	// Arch is the remembered architecture of a host whose config names none; "" is unknown.
	// Only a host with a package is asked for. Nil: never known.
	Arch func(host string) string

	// Former reads a tree as the release before this one did, and refuses none of it for its problems:
	// for a commit that a host holds already, whose digest the caller knows.
	Former bool

	// Systems evaluates and builds the systems of NixOS hosts of a tree, all that are named at once, and gives a
	// result for each. commit is the id of tree's commit, "" where that is not known. Nil: bundles are
	// without systems.
	Systems func(ctx context.Context, tree fs.FS, commit string, hosts []*Host) map[string]*HostSystem

	// SystemsAside is Systems for plans of what is not to be deployed: what they build holds up no run. Nil: Systems.
	SystemsAside func(ctx context.Context, tree fs.FS, commit string, hosts []*Host) map[string]*HostSystem

	// Confined says how the process is started that reads trees, within Timeout; see wire.go. Nil:
	// trees are read here, which bounds no time and no memory but by the budget. The deployer and
	// check set it; tests of other things, and verbs that read a person's own folder, do not.
	Confined *confine.Config
	// Timeout bounds one load, and each bundle and key, in a process of its own; 0 means 30 s.
	Timeout time.Duration
	// Idle is how long that process is kept without work; 0: for good, so that the next tree costs
	// only what differs.
	Idle time.Duration

	mu     sync.Mutex
	cache  cache
	budget *tree.Budget                                  // of the load under way
	step   func(file string)                             // called as a budget calls it
	digest func(tree fs.FS, path string) (string, error) // of a secret, asked of the deployer; nil: Open and KeyDigest
	far    *session
	proc   atomic.Pointer[confine.Process] // of far
	texts  texts
}

// A Fleet is everything one tree asks for. It is immutable, but for bundles that are made
// when they are asked for.
type Fleet struct {
	Network  string
	Deployer string  // the deployer's own public key, authorized_keys form; "" if not set
	Hosts    []*Host // by name
	Rollout  Rollout // with defaults filled in
	// Confirm is how long a host waits, once a bundle is applied, to be reached again before it goes
	// back to what it held; 0: it does not wait.
	Confirm time.Duration
	// Look is how often each host is looked at; 0: never.
	Look time.Duration
	// Isolate lets the other services of a host be brought when one fails.
	Isolate bool
	Notify  []inventory.Notify // whom messages are sent to, by name
	// Registries are those that images are pulled from with a login, by name.
	Registries []inventory.Registry
	Warnings   []Problem // nothing is refused for these
	Readers    Readers

	systems systemSet
	state
}

// DefaultConfirm is Fleet.Confirm where bellhop.yaml does not say.
const DefaultConfirm = syntax.DefaultConfirm

// DefaultLook is Fleet.Look where bellhop.yaml does not say.
const DefaultLook = syntax.DefaultLook

// Host finds a host by name.
func (f *Fleet) Host(name string) (*inventory.Host, bool) {
	i, ok := f.find(name)
	if !ok {
		return nil, false
	}
	return f.Hosts[i], true
}

// find is the index of a host. Who asks for one host after the other, as a plan does, mostly
// asks for the next: that is looked at first, and spares a large fleet most of the cost.
func (f *Fleet) find(name string) (int, bool) {
	if i := int(f.next.Load()); i < len(f.Hosts) && f.Hosts[i].Name == name {
		f.next.Store(int32(i + 1))
		return i, true
	}

	i, ok := f.config.ByName[name]
	if ok {
		f.next.Store(int32(i + 1))
	}
	return i, ok
}

// ErrorText is what to show of err beside the name of a host: of problems each with its place.
func ErrorText(err error) string {
	var ps Problems
	if errors.As(err, &ps) {
		return ps.Error()
	}
	return err.Error()
}
