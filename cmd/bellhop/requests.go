package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"bellhop/gitsync"
	"bellhop/internal/fleet"
	"bellhop/internal/forge"
	"bellhop/internal/preview"
)

// Plans of requests to merge: each head is fetched into a clone of its own, planned without the deployer's identity, and told in a
// comment.

// Bounds of what one request may bring: its objects are fetched for one plan and thrown away.
const (
	requestPack     = 256 << 20
	requestInflated = 1 << 30
)

// A requestPlans makes plans of requests.
type requestPlans struct {
	app *app
	dir string // where heads are fetched to; it is emptied
}

// planComments reads --plan-comments. isOn is false when there are to be none; isFull is nil where the forge decides.
func (f *forgeFlags) planComments() (isOn bool, isFull *bool, err error) {
	yes, no := true, false
	switch f.comments {
	case "":
		return true, nil, nil
	case "full":
		return true, &yes, nil
	case "summary":
		return true, &no, nil
	case "off":
		return false, nil, nil
	}
	return false, nil, fmt.Errorf("read --plan-comments %s: want full, summary or off", f.comments)
}

// plan plans a request against the commit base.
func (p *requestPlans) plan(ctx context.Context, r forge.Request, base string, isFull bool) (forge.Plan, error) {
	network, err := p.app.network(ctx)
	if err != nil {
		return forge.Plan{}, err
	}
	deployed, err := p.app.repo.At(ctx, base)
	if err != nil {
		return forge.Plan{}, fmt.Errorf("read the commit that is deployed: %w", err)
	}

	head, done, err := p.fetch(ctx, r.Branch)
	if err != nil {
		return forge.Plan{}, fmt.Errorf("fetch the head of the request: %w", err)
	}
	defer done()
	if head.Commit != r.Head { // it moved after the forge listed it, or the list is not up to date: the next round sees
		return forge.Plan{}, fmt.Errorf("the head of the request is %.7s now", head.Commit)
	}

	made, err := preview.Make(ctx, p.loader, deployed.Tree, head.Tree)
	if err != nil {
		return forge.Plan{}, err
	}

	caption := preview.Caption{Network: network, Head: head.Commit, Base: base, IsFull: isFull}
	return forge.Plan{Marker: preview.Marker(network), Text: made.Comment(caption), Digest: made.Digest}, nil
}

// loader makes a loader that opens no secret, evaluates no system, and does its work in a process that can do nothing else.
func (p *requestPlans) loader() *fleet.Loader {
	of := p.app.deployer.Loader
	return &fleet.Loader{Confined: of.Confined, Timeout: of.Timeout, Arch: p.arch}
}

func (p *requestPlans) arch(host string) string {
	h, _ := p.app.history.Host(host)
	return h.Arch
}

// fetch brings a branch into a clone of its own, which done removes.
func (p *requestPlans) fetch(ctx context.Context, branch string) (_ gitsync.Snapshot, done func(), err error) {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return gitsync.Snapshot{}, nil, err
	}
	dir, err := os.MkdirTemp(p.dir, "head-")
	if err != nil {
		return gitsync.Snapshot{}, nil, err
	}
	remove := func() { _ = os.RemoveAll(dir) }

	cfg := p.app.repoConfig
	cfg.Branch, cfg.Dir, cfg.Rewritten = branch, dir, gitsync.Follow
	cfg.MaxPack, cfg.MaxInflated = requestPack, requestInflated
	repo, err := gitsync.Open(cfg)
	if err != nil {
		remove()
		return gitsync.Snapshot{}, nil, err
	}

	done = func() { _ = repo.Close(); remove() }
	snap, err := repo.Sync(ctx)
	if err != nil {
		done()
		return snap, nil, err
	}
	return snap, done, nil
}

// network is the name of the network that is deployed.
func (h *app) network(ctx context.Context) (string, error) {
	st, err := h.history.Status(ctx)
	if err != nil {
		return "", err
	}
	if st.Network == nil {
		return "", errors.New("no commit was deployed yet")
	}
	return *st.Network, nil
}

// runRequests plans requests until ctx ends.
func (w *forgeWork) runRequests(ctx context.Context, h *app, log *slog.Logger) {
	if w.client == nil || !w.plansRequests {
		<-ctx.Done()
		return
	}

	plans := &requestPlans{app: h, dir: h.state.path("requests")}
	_ = os.RemoveAll(plans.dir) // of a process that was killed
	p := forge.Planner{
		Client: w.client, Marks: h.history.Outgoing(), Branch: h.branch, Base: h.history.Accepted, Plan: plans.plan, IsFull: w.isFull,
		Changed: w.requests, Troubles: &w.troubles, Log: log,
	}
	p.Run(ctx)
}
