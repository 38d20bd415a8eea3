// Package deploy turns a tree into a plan, and a plan into hosts that match it.
//
// A run is one attempt to bring the fleet to a commit, always by the same six steps: Sync,
// Load, Bundle, Plan, Apply, Tell. Three versions of a host can all differ: what is wanted
// by the repo, what was last deployed as history remembers it, and what the host's own record
// says that it holds. A plan compares wanted with last; every contact reads the host's record,
// and corrects history where it differs.
//
// Its promises: no ring of the bell is lost; a push opens a session only on hosts whose
// bundle changed; one bad host stops the others only between waves, by rollout: of the repo; what failed on a host is not tried there
// again while its bundle is the same; and whatever kills the deployer, running again brings
// every host to what is wanted.
package deploy

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"bellhop/deploy/commits"
	"bellhop/deploy/drift"
	"bellhop/deploy/follow"
	"bellhop/deploy/hosts"
	"bellhop/deploy/lines"
	"bellhop/deploy/plan"
	"bellhop/deploy/repostate"
	"bellhop/deploy/routes"
	"bellhop/deploy/systems"
	"bellhop/deploy/testbranch"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/nixos"
	"bellhop/internal/push"
	"bellhop/internal/trace"
)

// A Deployer makes runs. Its exported fields are set before its first use. A field must be
// set unless its comment says what nil or zero means.
type Deployer struct {
	// Source is where commits come from.
	commits.Source
	// Loader reads trees. Its Arch is set by the deployer when it is nil.
	Loader *fleet.Loader
	// Check finds in a commit what must not be deployed, beside errors in the config: plaintext
	// secrets and private keys. old is the zero Snapshot when no commit was accepted before.
	// Nil: nothing is looked for.
	Check func(ctx context.Context, old, new commits.Snapshot) fleet.Problems
	// Links reaches hosts.
	Links routes.Links
	// Nix evaluates, builds and copies NixOS systems. Nil: bundles are without them.
	Nix *nixos.Nix
	// Testing has systems of the branches testing-HOST tried. Nil: nobody looks for such branches.
	Testing *testbranch.Finder
	// History remembers. It is open for writing, under Lock.
	History *history.DB
	// ID is the fingerprint of the deployer's SSH public key, SHA256:…
	ID string
	// Branch is shown in status.
	Branch string
	// Log gets one line for each event. Nil: none.
	Log *slog.Logger
	// Progress is called with each event of a run; it must not block. Nil: it is not called.
	// NewBell puts a function of its own here, which calls the former one.
	Progress func(follow.Event)
	// Took is called with how long each stage of a run took (sync, load, bundle, plan, store, push), and all of it
	// (run), from the goroutine of the run. Nil: it is not called.
	Took func(stage string, took time.Duration)
	// Planned is called with a commit and the digest of its plan, once the first plan of all hosts to that commit is
	// stored. It must not block. Nil: it is not called.
	Planned func(commit, digest string)
	// KeepPlan is called in a goroutine with each plan that changes something; pushed is closed when its hosts were
	// pushed, and write writes it as WritePlan does. Nil: no plan is kept.
	KeepPlan func(run string, pushed <-chan struct{}, write func(io.Writer) error)
	// Trace gets the spans of runs. Nil: nothing is traced.
	Trace *trace.File
	// Cache is the directory where packages are fetched to, once.
	Cache string
	// Filter returns what cleans text from a host before it is stored or shown, given the
	// values of keys, by name, that this run holds for it. The values are cleared after the
	// run. Nil: control bytes are removed and the length is limited.
	Filter func(keys map[string][]byte) func(string) string
	// Client fetches packages. Nil: one with deadlines that follows redirects to https alone.
	Client *http.Client
	// BootID is this machine's, to know the host that bellhop itself runs on. "": read from
	// the kernel.
	BootID string
	// MachineID is this machine's, to tell containers on one kernel apart. "": read from
	// /etc/machine-id.
	MachineID string
	// Elsewhere names something that can be reached now, other than the host, "" when nothing can:
	// so a host that its bundle cut off is told from a deployer that is away. Nil: other hosts, and
	// the git remote where it is on another machine.
	Elsewhere func(ctx context.Context, host string) string
	// Limits are the deadlines; zero fields mean the defaults.
	Limits Limits
	// Jitter returns a time from 0 to most, by which looks at hosts are spread. Nil: a random one.
	Jitter func(most time.Duration) time.Duration
	// Detach lets a run end while a push to a slow host continues in the background. A server
	// sets it; a command must not, since its process ends with the run.
	Detach bool

	aside   bool // it plans what is not to be deployed, beside another one
	planner plan.Planner
	repo    repostate.State // what the last look at the repo came to
	hosts   hosts.Table     // what is known of hosts beside history
	tunnels systems.Tunnels // to hosts that evaluate their NixOS systems themselves
	bell    bellRef
	lines   lines.Set // kept to hosts by Watch
	looks   drift.State
	settled sync.Once

	archKnown sync.Once      // see knowArch
	work      sync.WaitGroup // hosts being pushed, detached ones too
	memory    push.Memory    // what earlier pushes learned
	loads     int            // how often Loader read a commit; guarded by planner.Steps
}

// Limits are the deadlines of a run. Zero fields mean the defaults beside them.
type Limits struct {
	Connect   time.Duration // 60 s: dial, handshake, helper upload, hello
	Preflight time.Duration // 30 s: from offer to want
	Host      time.Duration // 10 min: everything on one host
	Run       time.Duration // 30 min
	Patience  time.Duration // 60 s: how much slower than its peers before a host is detached
	Retry     time.Duration // 1 s: first wait before a push is tried again
}

func (l Limits) withDefaults() Limits {
	return Limits{
		Connect: cmp.Or(l.Connect, time.Minute), Preflight: cmp.Or(l.Preflight, 30*time.Second), Host: cmp.Or(l.Host, 10*time.Minute),
		Run: cmp.Or(l.Run, 30*time.Minute), Patience: cmp.Or(l.Patience, time.Minute), Retry: cmp.Or(l.Retry, time.Second),
	}
}

// Run makes one run, and returns it as history has it. The error is one of the run as a
// whole; the results of hosts are in the run.
func (d *Deployer) Run(ctx context.Context, req plan.Request) (*history.Run, error) {
	return d.run(ctx, req, &cancelling{})
}

// run is Run of one that stop can cancel.
func (d *Deployer) run(ctx context.Context, req plan.Request, stop *cancelling) (*history.Run, error) {
	r, ctx, done, err := d.start(ctx, req, stop)
	if err != nil {
		return nil, err
	}
	defer done()
	defer r.span("run", r.head.ID+" "+r.head.Cause)()
	if req.Rollback != nil {
		return r.rollBack(ctx)
	}

	snap, err := d.sync(ctx, r) // Sync
	if err != nil {
		return r.failed(err)
	}

	f, err := d.load(ctx, r, snap) // Load
	if err != nil {
		return r.refused(snap, err)
	}

	f, ctx, err = d.systems(ctx, r, snap, f)
	if err != nil {
		return r.failed(err)
	}

	d.bundles(r, f)                         // Bundle
	plan, err := d.compare(ctx, r, snap, f) // Plan
	if err != nil {
		return r.failed(err)
	}
	if err := d.apply(ctx, r, plan); err != nil { // Apply
		return r.failed(err)
	}

	return r.tell() // Tell
}

// Plan does the first four steps and stores nothing.
func (d *Deployer) Plan(ctx context.Context, req plan.Request) (*plan.Plan, error) {
	r, ctx, done := d.begin(ctx, req, &cancelling{})
	defer done()
	r.quiet = true

	snap, err := d.sync(ctx, r)
	if err != nil {
		return nil, err
	}
	f, err := d.load(ctx, r, snap)
	if err != nil {
		return nil, err
	}
	if f, ctx, err = d.systems(ctx, r, snap, f); err != nil {
		return nil, err
	}
	d.bundles(r, f)
	p, err := d.compare(ctx, r, snap, f)
	if err == nil {
		p.CompareSystems(ctx, d.Nix)
	}
	if err == nil && req.DryActivate != "" {
		r.release() // the host may build for long: runs go on meanwhile, and are given way to
		err = d.nixos().DryActivate(ctx, p, req.DryActivate)
	}
	return p, err
}

// bundles makes what f asks of each host, and forgets the hosts that f no longer has.
func (d *Deployer) bundles(r *run, f *fleet.Fleet) {
	defer r.span("bundle", "")()
	if !d.planner.Bundles(f, d.History) {
		return
	}

	listed := func(host string) bool {
		_, ok := f.Host(host)
		return ok
	}
	d.hosts.KeepOnly(listed)
	d.memory.KeepOnly(listed)
}
