package deploy

import (
	"strings"
	"time"

	"bellhop/internal/fleet"
	"bellhop/internal/history"
)

// Loading a commit is bounded, and may still take half a minute until it is refused. Who asks for the
// status meanwhile is told, and a poll does not spend that time again on the same commit.

// noteLoading says that a commit is being loaded, until the function that it returns is called.
func (d *Deployer) noteLoading(snap Snapshot) func() {
	now := &history.Loading{Commit: snap.Commit, Since: time.Now().UTC()}
	d.mu.Lock()
	d.loading = now
	d.mu.Unlock()
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.loading == now {
			d.loading = nil
		}
	}
}

// Loading is the commit that is being loaded, and since when; nil when none is.
func (d *Deployer) Loading() *history.Loading {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.loading
}

// costly is a commit that was refused after long work, and why.
type costly struct {
	commit   string
	problems fleet.Problems
}

// longLoad is when a refusal is remembered.
const longLoad = 3 * time.Second

func (d *Deployer) noteCostly(snap Snapshot, ps fleet.Problems, took time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.costly = costly{}
	if took >= longLoad {
		d.costly = costly{snap.Commit, ps}
	}
}

// knownCostly is why a poll need not load this commit again; nil when it must. A push, a start or a
// person always tries.
func (d *Deployer) knownCostly(r *run, snap Snapshot) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.costly.commit != snap.Commit || !strings.HasPrefix(r.req.Cause, "poll") {
		return nil
	}
	return d.costly.problems
}
