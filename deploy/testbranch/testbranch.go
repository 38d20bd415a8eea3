// Package testbranch finds the branches by which people try a NixOS system on one host before it is merged.
//
// What the branch testing-HOST of the remote has is to run on HOST for as long as the branch is on top of the branch that is
// deployed: its commit holds the head, and is another one. So a test ends when the branch is deleted, when it is merged, and
// with the next push to the branch that is deployed, which a new push of the testing branch answers.
//
// Nothing here is remembered: what is tried follows from the newest look at the remote alone.
package testbranch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"bellhop/deploy/commits"
	"bellhop/internal/fleet"
	"bellhop/internal/plain"
)

// Prefix begins the names of testing branches.
const Prefix = "testing-"

// A Repo knows the branches of the remote; a gitsync.Repo is one.
type Repo interface {
	// Heads are the branches with a prefix, by the rest of their names, as the newest look found them.
	Heads(prefix string) map[string]string
	// OfBranch returns the commit that Heads told.
	OfBranch(ctx context.Context, branch, commit string) (commits.Snapshot, error)
	// Holds says whether old is commit or one of its ancestors.
	Holds(ctx context.Context, commit, old string) (bool, error)
}

// A Test is what the testing branch of one host asks of it.
type Test struct {
	Branch string
	Commit string
	Bundle *fleet.Bundle // with the system that is to run until the next boot; nil with Err
	Err    error         // why there is none; one that is not there yet is a *fleet.SystemError with Later
}

// Tests are all tests at one moment. A nil *Tests says that nobody looks for any: those that run go on.
type Tests struct {
	byHost map[string]*Test
	ended  map[string]string // why a branch is no test, by host
	off    bool              // branches are not looked at
}

// Of is the test of a host; nil when there is none.
func (t *Tests) Of(host string) *Test {
	if t == nil {
		return nil
	}
	return t.byHost[host]
}

// Hosts are the hosts with a test, sorted.
func (t *Tests) Hosts() []string {
	if t == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(t.byHost))
}

// Ended says why a host runs no test any more; "" where it does, or where nobody looks.
func (t *Tests) Ended(host, branch string) string {
	switch {
	case t == nil || t.byHost[host] != nil:
		return ""
	case t.off:
		return "bellhop runs without --testing"
	case t.ended[host] != "":
		return t.ended[host]
	}
	return "branch " + branch + " is gone"
}

// A Finder finds tests. Its exported fields are set before its first use.
type Finder struct {
	Repo Repo
	// Loader is that of the deployer: tests are read with fresh ones.
	Loader *fleet.Loader
	// Check finds in a commit what must not be deployed. Nil: nothing is looked for.
	Check func(ctx context.Context, old, new commits.Snapshot) fleet.Problems
	Log   *slog.Logger

	mu   sync.Mutex
	read map[string]*reading // by host
	said map[string]string   // what was logged last, by branch
}

// A reading is the commit of a testing branch as it was read.
type reading struct {
	commit, head string
	onTop        bool
	snap         commits.Snapshot
	loaded       bool
	fleet        *fleet.Fleet
	refused      error // why it can't be loaded
	err          error // why it can't be read, or compared with head
}

// Find finds the tests of the hosts of f, which is the fleet of head. Their systems are evaluated and built, as long as the
// loader's Systems waits. A nil *Finder finds that there are none.
func (d *Finder) Find(ctx context.Context, head commits.Snapshot, f *fleet.Fleet) *Tests {
	if d == nil {
		return &Tests{off: true}
	}
	d.mu.Lock()
	defer d.mu.Unlock()

	heads := d.Repo.Heads(Prefix)
	maps.DeleteFunc(d.read, func(host string, _ *reading) bool { return heads[host] == "" })
	if d.read == nil {
		d.read, d.said = map[string]*reading{}, map[string]string{}
	}

	found := &Tests{byHost: map[string]*Test{}, ended: map[string]string{}}
	for _, host := range slices.Sorted(maps.Keys(heads)) {
		test, why := d.one(ctx, head, f, host, heads[host])
		if test != nil {
			found.byHost[host] = test
		} else {
			found.ended[host] = why
		}
		d.say(host, heads[host], test, why)
	}

	return found
}

// one is the test of a host, or why its branch is none.
func (d *Finder) one(ctx context.Context, head commits.Snapshot, f *fleet.Fleet, host, commit string) (_ *Test, why string) {
	branch := Prefix + host
	h, ok := f.Host(host)
	switch {
	case !ok:
		return nil, "the repo has no host " + plain.Line(host, 80)
	case h.NixOS == nil:
		return nil, host + " is no NixOS host, and only a NixOS system can be tried"
	case commit == head.Commit:
		return nil, "branch " + branch + " is merged"
	}

	r := d.reading(ctx, head, branch, host, commit)
	if r.err == nil && !r.onTop {
		return nil, d.notOnTop(ctx, branch, head.Commit, commit)
	}

	test := &Test{Branch: branch, Commit: commit}
	if test.Bundle, test.Err = d.bundle(ctx, head, r, host); test.Err != nil {
		test.Err = wrap(branch, commit, test.Err)
	}

	return test, ""
}

// notOnTop says why a branch is no test whose commit does not hold the head.
func (d *Finder) notOnTop(ctx context.Context, branch, head, commit string) string {
	if merged, err := d.Repo.Holds(ctx, head, commit); err == nil && merged {
		return "branch " + branch + " is merged"
	}

	return fmt.Sprintf("branch %s is not on top of %s, the newest commit that is deployed: rebase it, or merge that into it", branch, plain.Short(head))
}

// reading reads the commit of a branch, once. It is called under mu.
func (d *Finder) reading(ctx context.Context, head commits.Snapshot, branch, host, commit string) *reading {
	r := d.read[host]
	isSame := r != nil && r.commit == commit && r.snap.Tree != nil
	if !isSame {
		r = &reading{commit: commit}
		d.read[host] = r
		r.snap, r.err = d.Repo.OfBranch(ctx, branch, commit)
		if r.err == nil && r.snap.Commit != commit {
			r.snap, r.err = commits.Snapshot{}, errors.New("the branch moved while it was read: the next look reads it again")
		}
		if r.err != nil {
			return r
		}
	}

	if r.head != head.Commit {
		if r.onTop, r.err = d.Repo.Holds(ctx, commit, head.Commit); r.err == nil {
			r.head = head.Commit
		}
	}

	return r
}

// bundle is what a commit asks of a host, with its system to be tried.
func (d *Finder) bundle(ctx context.Context, head commits.Snapshot, r *reading, host string) (*fleet.Bundle, error) {
	if r.err != nil {
		return nil, r.err
	}

	if !r.loaded {
		r.fleet, r.refused = d.load(ctx, head, r.snap, host)
		r.loaded = ctx.Err() == nil // else it is nothing of the commit's
	}
	if r.refused != nil {
		return nil, r.refused
	}

	r.fleet.ResolveSystems(ctx, r.commit)
	b, err := r.fleet.Bundle(host)
	if err != nil {
		return nil, err
	}

	if b.System == nil {
		return nil, errors.New("no NixOS system is made of it here")
	}

	return commits.ForTest(b), nil
}

// load reads a commit, of which nothing but the system of one host is evaluated.
func (d *Finder) load(ctx context.Context, head, snap commits.Snapshot, host string) (*fleet.Fleet, error) {
	l := d.Loader.Fresh()
	l.Systems = d.systemsOf(host)
	f, err := l.Load(ctx, snap.Tree)
	if err != nil {
		return nil, err
	}

	if d.Check != nil {
		problems := slices.DeleteFunc(d.Check(ctx, head, snap), func(p *fleet.Problem) bool { return p.Warning })
		if err := problems.Err(); err != nil {
			return nil, err
		}
	}

	h, ok := f.Host(host)
	if !ok || h.NixOS == nil {
		return nil, fmt.Errorf("it has no NixOS host %s", host)
	}

	return f, nil
}

// systemsOf evaluates the system of one host, in the line in which no run waits. A host that evaluates its system itself is
// asked in the line of runs: it is asked for nothing but what is to run there.
func (d *Finder) systemsOf(host string) func(context.Context, fs.FS, string, []*fleet.Host) map[string]*fleet.HostSystem {
	return func(ctx context.Context, tree fs.FS, commit string, hosts []*fleet.Host) map[string]*fleet.HostSystem {
		only := slices.DeleteFunc(slices.Clone(hosts), func(h *fleet.Host) bool { return h.Name != host })
		systems := d.Loader.SystemsAside
		if systems == nil || len(only) > 0 && only[0].NixOS.OnHost {
			systems = d.Loader.Systems
		}
		if systems == nil || len(only) == 0 {
			return nil
		}

		return systems(ctx, tree, commit, only)
	}
}

// say logs what is the matter with a branch, once.
func (d *Finder) say(host, commit string, test *Test, why string) {
	text := commit + " " + why
	if test != nil {
		text = ""
	}
	if d.Log == nil || d.said[host] == text {
		return
	}

	if d.said[host] = text; text != "" {
		d.Log.Warn("testing branch is not tried", "branch", Prefix+plain.Line(host, 80), "commit", commit, "cause", why)
	}
}

// wrap names the branch in an error, which stays what it is.
func wrap(branch, commit string, err error) error {
	what := fmt.Sprintf("branch %s, commit %s: ", branch, plain.Short(commit))
	if s := new(fleet.SystemError); errors.As(err, &s) {
		return &fleet.SystemError{Text: what + s.Text, Lines: s.Lines, Later: s.Later}
	}
	return fmt.Errorf("%s%w", what, err)
}
