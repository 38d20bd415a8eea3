package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bellhop/deploy"
	"bellhop/deploy/commits"
	"bellhop/deploy/plan"
	"bellhop/gitsync"
	"bellhop/internal/causes"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/secrets"
	"bellhop/server"
)

func deployCmd(e *Env) *cobra.Command {
	var f deployerFlags
	var req plan.Request
	var asJSON bool
	c := &cobra.Command{
		Use: "deploy [HOST...]", Short: "Bring hosts to the head of the branch, now", GroupID: groupFleet,
		Long: `Bring all hosts, or those that are named, to the head of the branch. A running server is asked to do
it, in a run of its own after the current one; without a server bellhop does it itself, given
--state-dir and --repo. The flags count for this run only.

Exit code: 0 done or nothing to do, 1 error, 3 some hosts failed, are held or are not reached yet, 4
refused.`,
		Example:           "  bellhop deploy\n  bellhop deploy chrysalis --retry\n  bellhop deploy '@bots' '!kos-mos'",
		ValidArgsFunction: completeHosts,
		RunE: func(c *cobra.Command, args []string) (err error) {
			if req.On, err = chosen(c, req.On, args); err != nil {
				return err
			}
			if req.AllowRewritten && req.On != "" {
				return usage(c, "--allow-rewritten accepts the branch for the whole fleet: leave out the hosts")
			}
			req.Cause, req.By = "deploy", e.userName()
			f.tracesHere = c.Flags().Changed("trace")
			return runDeploy(e, c.Context(), &f, req, asJSON)
		},
	}
	f.flags(c)
	traceFlag(c, &f.trace)
	onFlag(c, &req.On)
	jsonFlag(c, &asJSON)
	c.Flags().BoolVar(&req.All, "all", false, "contact hosts that look current too")
	c.Flags().BoolVar(&req.Retry, "retry", false, "try again what failed")
	c.Flags().BoolVar(&req.AllowPrune, "allow-prune", false, "allow the removal of more than half of what a host has")
	c.Flags().BoolVar(&req.AllowNewVolumes, "allow-new-volumes", false, "allow that volumes of a compose project are left behind for new ones, or that a service runs as another project")
	c.Flags().BoolVar(&req.AllowRewritten, "allow-rewritten", false, "accept a branch whose history was rewritten, once, where --rewritten refuse is set")
	c.Flags().BoolVar(&req.TakeOver, "take-over", false, "take over hosts of another deployer")
	return c
}

// errUnwatched is Ctrl-C of somebody who watches: what runs is the server's.
var errUnwatched = hint(errors.New("no longer watching: the run goes on in the server"), "bellhop history")

func runDeploy(e *Env, ctx context.Context, f *deployerFlags, req plan.Request, asJSON bool) error {
	g := e.progressOn(e.Stderr)
	client, err := dialServer(e, ctx, f)
	if err != nil {
		return err
	}

	if client != nil {
		defer client.Close()
		if f.tracesHere {
			return hint(errors.New("--trace: the run is the server's, which alone can trace it"), "start the server with it: bellhop serve --trace %s (or BELLHOP_TRACE in its environment); or stop the server and deploy without it", f.trace)
		}
		run, err := server.Call[*history.Run](ctx, client, verbOf(req), req, g.raw)
		if err != nil && ctx.Err() != nil {
			return errUnwatched
		} else if err != nil {
			return fromSocket(err)
		}

		return endRun(e, run, nil, req.On, asJSON)
	}

	h, err := f.openUndumpable(e)
	if err != nil {
		return explain(err)
	}
	defer h.Close()
	h.deployer.Progress = g.event
	run, err := h.deployer.Run(ctx, req)
	if terr := h.deployer.Trace.Close(); terr != nil {
		fmt.Fprintln(e.Stderr, "bellhop: the trace is not whole:", terr)
	}

	return endRun(e, run, err, req.On, asJSON)
}

// openUndumpable opens an app for a command that does the work itself.
func (f *deployerFlags) openUndumpable(e *Env) (*app, error) {
	if err := secrets.Undumpable(); err != nil {
		return nil, err
	}
	return f.open(e, quietLog())
}

// endRun prints the result of a run on the hosts chosen by on, and chooses the exit code.
func endRun(e *Env, run *history.Run, err error, on string, asJSON bool) error {
	if run != nil {
		if asJSON {
			if jerr := e.writeJSON(struct {
				V int `json:"v"`
				*history.Run
			}{history.Version, run}); jerr != nil {
				return jerr
			}
		} else {
			printOutcome(e, run, on, err)
		}
	}
	if err != nil {
		return whole(err)
	}
	return exit(runCode(run))
}

// whole gives the error of a run as a whole its exit code and hint.
func whole(err error) error {
	switch {
	case errors.Is(err, deploy.ErrPaused):
		return &codeError{exitRefused, hint(err, "bellhop resume, which deploys what waits")}
	case errors.Is(err, commits.ErrRefused):
		return &codeError{exitRefused, err}
	}
	return explain(err)
}

// explain adds the next thing to type to what a person often meets.
func explain(err error) error {
	var ps fleet.Problems
	var unpinned *gitsync.NoPinError
	switch {
	case errors.Is(err, deploy.ErrLocked):
		return hint(err, "ask the running server instead: leave out --repo; or stop the server")
	case errors.Is(err, gitsync.ErrNoBranch):
		return hint(err, "push a first commit, or name the branch with --branch")
	case errors.Is(err, gitsync.ErrAuth):
		return hint(err, "add the deployer's SSH key to the repo as a deploy key, or set BELLHOP_REPO_TOKEN")
	case errors.As(err, &unpinned):
		port := ""
		if unpinned.Port != "22" {
			port = "-p " + unpinned.Port + " "
		}
		return hint(err, "ssh-keyscan %s%s shows its keys: compare one with what its owner publishes, and start again with --repo-host-key 'ssh-ed25519 AAAA…' (or BELLHOP_REPO_HOST_KEY)", port, unpinned.Host)
	case errors.Is(err, gitsync.ErrHostKey):
		return hint(err, "if it is right, name it: --repo-host-key 'ssh-ed25519 AAAA…' (ssh-keyscan shows it)")
	case errors.Is(err, gitsync.ErrUnreachable):
		return hint(err, "is --repo right, and does git ls-remote reach it from this machine?")
	case errors.As(err, &ps):
		return hint(err, "bellhop check says the same without a server")
	}

	return err
}

// runCode is the exit code of a run that ended.
func runCode(run *history.Run) int {
	switch or(run.Outcome, "") {
	case history.OutcomeDone, history.OutcomeNothing:
		if tally(run)[running] > 0 || len(heldIn(run)) > 0 {
			return exitHosts // nobody knows yet how they end, or a person holds them
		}
		return 0
	case history.OutcomeRefused:
		return exitRefused
	case history.OutcomeCancelled:
		return exitError
	}
	return exitHosts
}

// tally counts the hosts of a run by outcome. Those that a run is still at work on are running:
// this one, which they were too slow for, or an earlier one.
func tally(run *history.Run) map[history.Outcome]int {
	n := map[history.Outcome]int{}
	for _, r := range run.Hosts {
		o := or(r.Outcome, running)
		if o == history.Deploying.Outcome() {
			o = running
		}
		n[o]++
	}
	return n
}

// outcomeWord is what a run is called: one that hosts are still at work for came to no good end
// yet.
func outcomeWord(run *history.Run) history.Outcome {
	word := or(run.Outcome, running)
	if (word == history.OutcomeDone || word == history.OutcomeNothing) && tally(run)[running] > 0 {
		return running
	}
	return word
}

func printOutcome(e *Env, run *history.Run, on string, whole error) {
	p := e.outPaint()
	tally := tally(run)
	var parts []string
	for _, o := range []history.Outcome{
		history.OutcomeDone, history.OutcomeNothing, history.Held.Outcome(), history.OutcomePending, history.OutcomeHeldBack, history.OutcomeFailed, history.OutcomeRolledBack,
		history.OutcomeUnconfirmed, history.OutcomeRefused, history.Behind.Outcome(), history.OutcomeCancelled, history.OutcomeUnknown, running,
	} {
		if tally[o] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", tally[o], o))
		}
	}

	line := strings.Join(parts, ", ")
	switch {
	case line == "" && runCode(run) == 0 && on != "":
		line = "every chosen host is as the repo says" // nobody looked at the others
	case line == "" && runCode(run) == 0:
		line = "every host is as the repo says"
	case line == "":
		line = "no host was touched"
	}

	if run.Commit != nil {
		line = short(*run.Commit) + ": " + line
	}
	if run.FinishedAt != nil {
		line += ", " + took(run.FinishedAt.Sub(run.StartedAt).Round(time.Millisecond))
	}

	fmt.Fprintf(e.Stdout, "%s %s\n", p.outcome(outcomeWord(run)), line)

	known := ""
	if whole != nil {
		known = textOf(whole)
	}

	printCauses(e.Stdout, p, "  ", causes.Fold(errorsOf(run), known))
	printFailingLines(e.Stdout, p, "  ", run)
	printHeldIn(e.Stdout, run)
}

// errorsOf lists what went wrong on the hosts of a run.
func errorsOf(run *history.Run) []causes.Error {
	var errs []causes.Error
	for _, r := range run.Hosts {
		if r.Error != nil {
			errs = append(errs, causes.Error{Host: r.Name, Text: *r.Error})
		}
	}
	return errs
}

// quietLog is for commands: what matters is told as progress and as errors.
func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }
