package fleet

import (
	"context"
	"io/fs"
	"maps"
	"slices"
	"sync/atomic"

	"bellhop/internal/fleet/inventory"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/render"
	"bellhop/internal/fleet/service"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/template"
	"bellhop/internal/fleet/tree"
	"bellhop/internal/fleet/yaml"
)

// cache is what a loader keeps from tree to tree.
type cache struct {
	config     *inventory.Inventory
	mainHash   string
	main       *yaml.File
	mainFile   *syntax.Fleet
	hostTexts  map[string]*inventory.HostFile // by hash and name
	hostsHash  string
	services   map[string]*serviceState
	servicesAt string // hash of the folder services
	secretsAt  string // hash of the folder secrets
	blobs      map[string]*tree.Blob
	keyDigests map[string]string // by hash of the age file
	ageFiles   map[string]string // hash to what is wrong with the file; "" is nothing
	last       *Fleet            // the newest that loaded without a problem
	tree       atomic.Pointer[tree.Tree]
}

// A serviceState is a service with the state of the secrets it comes from. A new pointer
// means that hosts which have it may differ.
type serviceState struct {
	*service.Service
	renderer *render.Renderer
	sources  map[string]string // age file to its hash; "" when it is missing
	trouble  problem.Problems  // of the sources
}

// state is the inside of a Fleet.
type state struct {
	loader       *Loader
	tree         *tree.Tree
	config       *inventory.Inventory
	services     map[string]*serviceState
	logins       *serviceState // of registries:; nil: there are none
	slots        []*slot       // as Hosts
	view         *template.FleetView
	views        []*template.HostView // as Hosts; nil until a host is looked at
	viewers      []int                // hosts with a template that looks at the fleet
	far          *farFleet            // set: another process made it
	compositions map[string]*render.Composition
	next         atomic.Int32 // see find
}

// A slot is one host's place for its bundle. Fleets share the slots of hosts that nothing
// changed for.
type slot struct {
	host     *inventory.Host
	states   []*serviceState
	renders  []*render.Rendering
	asksArch bool
	made     atomic.Pointer[madeBundle]
	systemed atomic.Pointer[systemedBundle] // made, with the host's NixOS system
	base     *render.Composition            // of a far fleet: what the host had before, until the bundle is made
}

type madeBundle struct {
	bundle *Bundle
	arch   string
}

func (l *Loader) newest() fs.FS {
	if t := l.cache.tree.Load(); t != nil {
		return t.FS
	}
	return nil
}

// Load reads tree, within the bounds of a budget. The error is Problems when the config is at fault, all of it at once.
func (l *Loader) Load(ctx context.Context, fsys fs.FS) (*Fleet, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Confined != nil {
		return l.loadFar(ctx, fsys)
	}

	defer l.bounded(ctx)()
	f, err := l.load(tree.New(fsys, l.budget))
	if err == nil {
		err = l.budget.Ended()
	}
	if l.budget.IsSpent() { // what was kept of this commit may be cut short
		l.cache.forget()
	}
	if err != nil {
		if ctx.Err() != nil { // the caller's end, and no fault of the commit
			return nil, context.Cause(ctx)
		}
		if p, ended := l.budget.Problem(err); ended {
			return nil, problem.Problems{p}
		}
		return nil, err
	}

	return f, nil
}

// bounded gives the loader a budget until the function that it returns is called.
func (l *Loader) bounded(ctx context.Context) func() {
	l.budget = tree.NewBudget(ctx, l.step)
	return func() { l.budget = nil }
}

// forget drops all but the newest tree, which bundles read from.
func (c *cache) forget() {
	t := c.tree.Load()
	*c = cache{}
	c.tree.Store(t)
}

func (l *Loader) load(t *tree.Tree) (*Fleet, error) {
	c := &l.cache
	if c.blobs == nil {
		c.blobs, c.keyDigests, c.ageFiles = map[string]*tree.Blob{}, map[string]string{}, map[string]string{}
		c.hostTexts = map[string]*inventory.HostFile{}
	}

	if err := refuseLinks(t); err != nil {
		return nil, err
	}
	cfg, err := l.config(t)
	if err != nil {
		return nil, err
	}

	services, err := l.services(t)
	if err != nil {
		return nil, err
	}

	logins, err := l.logins(t, cfg)
	if err != nil {
		return nil, err
	}

	f := &Fleet{Network: cfg.Network, Deployer: cfg.Deployer, Rollout: cfg.Rollout, Confirm: cfg.Confirm, Look: cfg.Look, Isolate: cfg.Isolate, Notify: cfg.Notify, Registries: cfg.Registries, Readers: cfg.Readers}
	f.loader, f.tree, f.config, f.services, f.logins, f.compositions = l, t, cfg, services, logins, map[string]*render.Composition{}
	problems := slices.Concat(cfg.Problems, twoNames(t), problemsOf(services), f.assemble(c.last), f.dangling(), f.notifyFiles())
	if logins != nil {
		problems = append(problems, logins.trouble...)
	}
	refuse, warn := problems.Split()
	for _, w := range warn {
		f.Warnings = append(f.Warnings, *w)
	}
	t.Release()
	if err := refuse.Err(); err != nil && !l.Former {
		return nil, err
	}

	c.last = f
	c.tree.Store(t)
	l.prune()
	return f, nil
}

// refuseLinks refuses a tree with a symbolic link in place of one of the names that bellhop reads.
func refuseLinks(t *tree.Tree) error {
	var links problem.Problems
	for _, name := range []string{"bellhop.yaml", "hosts", "services", "secrets"} {
		if t.Linked(name) {
			links = append(links, &problem.Problem{File: name, Message: tree.LinkTrouble})
		}
	}

	return links.Err()
}

// twoNames is the problem of a tree that has bellhop.yml beside bellhop.yaml.
func twoNames(t *tree.Tree) problem.Problems {
	if _, err := fs.Stat(t.FS, "bellhop.yml"); err != nil {
		return nil
	}
	return problem.Problems{{File: "bellhop.yml", Message: "this file is called bellhop.yaml, which is there too: remove one of them"}}
}

// problemsOf are the problems of the services themselves, whatever host has them.
func problemsOf(services map[string]*serviceState) problem.Problems {
	var ps problem.Problems
	var all []*service.Service
	for _, name := range slices.Sorted(maps.Keys(services)) {
		s := services[name]
		ps = append(ps, s.Problems...)
		ps = append(ps, s.trouble...)
		all = append(all, s.Service)
	}

	return append(ps, service.CheckIDs(all)...)
}

// opener opens secrets as l does, within the budget of the load under way.
func (l *Loader) opener() *render.Opener {
	return &render.Opener{Open: l.Open, Seal: l.KeyDigest, Digest: l.digest, Digests: l.cache.keyDigests, Budget: l.budget}
}
