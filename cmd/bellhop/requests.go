package main

import (
	"context"
	"errors"
	"log/slog"

	"bellhop/internal/fleet"
	"bellhop/internal/forge"
	"bellhop/internal/nixhosts"
	"bellhop/internal/requests"
)

// requestPlans makes plans of requests, by loaders that open no secret. With nixOS systems are evaluated, without a network.
func (h *app) requestPlans(nixOS bool, log *slog.Logger) *requests.Plans {
	of := h.deployer.Loader
	arch := func(host string) string {
		one, _ := h.history.Host(host)
		return one.Arch
	}
	loader := func() *fleet.Loader { return &fleet.Loader{Confined: of.Confined, Timeout: of.Timeout, Arch: arch} }
	plans := &requests.Plans{Dir: h.state.path("requests"), Repo: h.repoConfig, At: h.repo.At, Network: h.network, Loader: loader}
	if nixOS {
		plans.Systems = nixhosts.NewCutOff(h.state.path("nix-requests"), log).Evaluate
	}
	return plans
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

	plans := h.requestPlans(w.nixOS, log)
	if err := plans.Empty(); err != nil {
		log.Warn("heads of requests that were left are not removed", "err", err)
	}
	p := forge.Planner{
		Client: w.client, Marks: h.history.Outgoing(), Branch: h.branch, Base: h.history.Accepted, Plan: plans.Plan, IsFull: w.isFull,
		Forks: w.forks, Evaluates: w.nixOS, Changed: w.requests, Looked: w.looked, Branches: h.repo.Branches, Troubles: &w.troubles, Log: log,
	}
	p.Run(ctx)
}
