package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bellhop/deploy/plan"
	"bellhop/internal/history"
	"bellhop/internal/history/stops"
	"bellhop/server"
)

// Bringing hosts back to what they held before, and letting them follow the branch again. Both are runs,
// and go the way of a deploy.

func rollbackCmd(e *Env) *cobra.Command {
	var f deployerFlags
	var on string
	var back plan.Rollback
	var asJSON bool
	c := &cobra.Command{
		Use: "rollback [HOST...]", Short: "Bring hosts back to what they held before, and hold them there", GroupID: groupFleet,
		Long: `Bring all hosts, or those that are named, back to exactly what each held before what it holds now:
files, units, packages, accounts, and the keys of that time. With --to RUN, to what each held after
that run of bellhop history. No steps of before: run. A host where the newest commit failed, or did
not come to, is held as it is. A rollback of hosts that are held already goes further back.

The hosts are held: pushes leave them alone until bellhop resume HOST, or until a commit changes what
the host is to hold. status says who holds them and why; their keys still come back after a reboot. A
host that is away goes back as soon as it answers.

bellhop does not ask the git remote for this, and does it while runs are paused too. If one of the
hosts can't go back, nothing is done.

Exit code: 0 done, 1 error, 3 some hosts failed or are not reached yet, 4 refused.`,
		Example:           "  bellhop rollback\n  bellhop rollback chrysalis --reason 'it leaks memory'\n  bellhop rollback '@bots' --to 20261130-072000-1a2b3c",
		ValidArgsFunction: completeHosts,
		RunE: func(c *cobra.Command, args []string) (err error) {
			if on, err = chosen(c, on, args); err != nil {
				return err
			}
			if c.Flags().Changed("to") && strings.TrimSpace(back.To) == "" {
				return usage(c, "--to: want the id of a run; bellhop history lists them")
			}
			cause := "rollback"
			if back.To != "" {
				cause += " to " + back.To
			}
			return runDeploy(e, c.Context(), &f, plan.Request{Cause: cause, By: e.userName(), On: on, Rollback: &back}, asJSON)
		},
	}
	f.flags(c)
	onFlag(c, &on)
	jsonFlag(c, &asJSON)
	c.Flags().StringVar(&back.To, "to", "", "bring hosts to what they held after this run (default: to what they held before)")
	c.Flags().StringVar(&back.Reason, "reason", "", "why, for those who find the hosts held")
	return c
}

// resumeHosts ends the holds of hosts, and brings the head to them.
func resumeHosts(e *Env, ctx context.Context, f *deployerFlags, on string, asJSON bool) error {
	return runDeploy(e, ctx, f, plan.Request{Cause: "resume", By: e.userName(), On: on, Resume: true}, asJSON)
}

// verbOf is what a server is asked for by a request. An older server that knows no rollback must not take
// it for a deploy.
func verbOf(req plan.Request) string {
	switch {
	case req.Rollback != nil:
		return "rollback"
	case req.Resume:
		return "resume-hosts"
	}
	return "deploy"
}

// holdVerbs are the verbs of the socket that begin and end holds.
func (s *serving) holdVerbs() {
	run := func(ctx context.Context, who server.Caller, in plan.Request, emit func(any)) (*history.Run, error) {
		in.By = who.String()
		return s.follow(ctx, s.bell.Do(in), emit)
	}
	server.Handle(s.server, "rollback", func(ctx context.Context, who server.Caller, in plan.Request, emit func(any)) (*history.Run, error) {
		if in.Rollback == nil {
			return nil, errors.New("rollback: the request does not say what to go back to")
		}
		return run(ctx, who, in, emit)
	})
	server.Handle(s.server, "resume-hosts", func(ctx context.Context, who server.Caller, in plan.Request, emit func(any)) (*history.Run, error) {
		in.Resume, in.Rollback = true, nil
		return run(ctx, who, in, emit)
	})
}

// printHolds says which hosts are held or run a test, and what ends it.
func printHolds(w io.Writer, p paint, hosts []history.HostStatus, now time.Time) {
	held := map[string]*stops.HoldStatus{}
	for _, h := range hosts {
		held[h.Name] = h.Held
	}
	for _, line := range stops.Lines(held, func(since time.Time) string { return ago(now, since) }) {
		fmt.Fprintln(w, p.yellow(line))
	}
}

// heldIn names the hosts that a run left alone since they are held.
func heldIn(run *history.Run) (names []string) {
	for _, r := range run.Hosts {
		if or(r.Outcome, "") == history.Held.Outcome() {
			names = append(names, r.Name)
		}
	}
	return names
}

// printHeldIn says of a run which hosts it left alone since they are held.
func printHeldIn(w io.Writer, run *history.Run) {
	if names := heldIn(run); len(names) > 0 {
		fmt.Fprintf(w, "  held, and left as they are: %s; bellhop status says why; bellhop resume %s\n", stops.Few(names), stops.Typed(names))
	}
}
