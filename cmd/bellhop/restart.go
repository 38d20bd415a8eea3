package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bellhop/deploy/actions"
	"bellhop/internal/bundle"
	"bellhop/internal/history"
)

func restartCmd(e *Env) *cobra.Command {
	var f deployerFlags
	var on string
	c := &cobra.Command{
		Use: "restart HOST... SERVICE", Short: "Restart the units of a service, and wait until they are up", GroupID: groupHosts,
		Long: `Restart the units of a service on hosts, one host after another, and wait until they are up: as long as
the service's settle time, with good answers to its probes. The last argument is the service. Units
that should run and do not are started; sockets, timers and jobs that are well are left alone.
Nothing is deployed. A host where a deploy is at work is waited for.

When a unit fails, its last lines are shown, the hosts after it are left alone, and the exit code
is 3. Of several hosts those that do not have the service are named and left alone.`,
		Example: "  bellhop restart chrysalis withinbot\n  bellhop restart '@bots' withinbot",
		RunE: func(c *cobra.Command, args []string) error {
			hosts, service := splitLast(args, on)
			expr, err := chosenSome(c, on, hosts, "bellhop restart HOST... SERVICE")
			if err != nil {
				return err
			}
			if service == "" {
				return usage(c, "restart: no service is named: it is the last argument, behind the hosts")
			}
			return runRestart(e, c.Context(), &f, restartRequest{expr, service})
		},
	}
	f.flags(c)
	onFlagNeeded(c, &on)
	c.ValidArgsFunction = completeHostsAndServices
	return c
}

type restartRequest struct {
	On      string `json:"on"`
	Service string `json:"service"`
}

func runRestart(e *Env, ctx context.Context, f *deployerFlags, req restartRequest) error {
	tell := func(line string) { fmt.Fprintln(e.Stderr, line) }
	client, err := dialServer(e, ctx, f)
	if err != nil {
		return err
	}

	if client != nil {
		defer client.Close()
		return callTelling(ctx, client, "restart", req, tell)
	}

	h, err := f.openUndumpable(e)
	if err != nil {
		return explain(err)
	}
	defer h.Close()
	return h.restart(ctx, e.userName(), req, tell)
}

// restart restarts a service on the hosts that a request names, for somebody, in order. The first host where it
// fails ends it, so that a service that does not start is not taken down everywhere.
func (h *app) restart(ctx context.Context, by string, req restartRequest, tell func(string)) error {
	hosts, err := selectHosts(h.history.Hosts(), req.On)
	if err != nil {
		return fmt.Errorf("restart: %w", err)
	}

	r := h.deployer.Restart(req.Service, func(host, line string) { tell(host + ": " + line) })
	if hosts, err = withService(r, hosts, tell); err != nil {
		return err
	}

	return inTurn(hosts, "restarted", tell, func(host string, tell func(string)) error {
		return h.restartOne(ctx, by, r, host, tell)
	})
}

// withService are those of hosts that have the service. Where none has it, that is an error, which names the
// services that there are.
func withService(r *actions.Restart, hosts []string, tell func(string)) (with []string, err error) {
	var lacking []error
	for _, host := range hosts {
		switch err := r.Check(host); {
		case err == nil:
			with = append(with, host)
		case errors.Is(err, actions.ErrNoService):
			lacking = append(lacking, err)
		default:
			return nil, err
		}
	}

	if len(with) == 0 {
		return nil, hint(fmt.Errorf("restart: %w", errors.Join(lacking...)), "bellhop service list shows which service is on which host")
	}
	for _, err := range lacking {
		tell(err.Error())
	}
	return with, nil
}

// restartOne restarts the service on one host, and has history remember it.
func (h *app) restartOne(ctx context.Context, by string, r *actions.Restart, host string, tell func(string)) error {
	began, act := time.Now(), history.HostAct{Host: host, Outcome: history.OutcomeDone}
	res, err := r.On(ctx, host)
	if err != nil {
		err, act.Outcome, act.Error = &codeError{exitHosts, err}, history.OutcomeFailed, err.Error()
	}
	if res != nil {
		for _, unit := range slices.Concat(res.Restarted, res.Started) {
			act.Changed = append(act.Changed, "unit:"+unit)
		}
		tellRestarted(res, tell)
	}
	return errors.Join(err, h.remember(ctx, "restart "+r.Service, by, began, act.Outcome, []history.HostAct{act}, err))
}

// tellRestarted tells what came of a restart: of one that failed, the last lines of what failed.
func tellRestarted(res *bundle.Result, tell func(string)) {
	const lines = 10
	for _, w := range res.Warnings {
		tell(w)
	}
	if res.Outcome == bundle.OutcomeDone {
		took := time.Duration(res.TookMillis) * time.Millisecond
		tell(fmt.Sprintf("up after %v: %s", took.Round(100*time.Millisecond), strings.Join(slices.Concat(res.Restarted, res.Started), ", ")))
		return
	}
	for _, e := range res.Evidence {
		tell(e.Unit + e.Probe + " said:")
		for _, line := range e.Lines[max(0, len(e.Lines)-lines):] {
			tell("  " + line)
		}
	}
}
