package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bellhop/internal/history"
	"bellhop/server"
)

// A lookFlags is what verbs that only look can be told.
type lookFlags struct {
	stateDir, on string
	json         bool
}

func (f *lookFlags) flags(c *cobra.Command) {
	stateDirFlag(c, &f.stateDir)
	serverFlag(c)
	onFlag(c, &f.on)
	c.ValidArgsFunction = completeHosts
	jsonFlag(c, &f.json)
}

func statusCmd(e *Env) *cobra.Command {
	var f lookFlags
	var o statusOptions
	c := &cobra.Command{
		Use: "status [HOST...]", Short: "Show what is deployed on each host", GroupID: groupFleet,
		Long: `Show what is deployed on each host, as history has it: from the running server, else read from the
state directory. With --exit-code it exits 3 when a host needs attention. With --watch the screen is
drawn again when something changed, until Ctrl-C; where no terminal is, a line is written for each host
whose state changed.`,
		Example: "  bellhop status\n  bellhop status --watch\n  bellhop status '@bots' --state failed,rolled-back",
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			if f.on, err = chosen(c, f.on, args); err != nil {
				return err
			}
			if err := o.read(c); err != nil {
				return err
			}
			if o.watch {
				return watchStatus(e, c.Context(), &f, &o)
			}
			return runStatus(e, c.Context(), &f, &o)
		},
	}
	f.flags(c)
	o.flags(c)
	return c
}

func runStatus(e *Env, ctx context.Context, f *lookFlags, o *statusOptions) error {
	s, served, err := readStatus(e, ctx, f)
	if err != nil {
		return err
	}
	o.hosts.apply(&s)
	if f.json {
		err = e.writeJSON(s)
	} else {
		printStatus(e.Stdout, e.outPaint(), s, served, time.Now())
	}

	if err == nil && o.exitCode && len(s.Failing()) > 0 {
		return exit(exitHosts)
	}
	return err
}

// readStatus asks the running server, or reads the file when none is.
func readStatus(e *Env, ctx context.Context, f *lookFlags) (s history.Status, served bool, err error) {
	client, err := dial(f.stateDir)
	if err != nil {
		return s, false, err
	}
	if client != nil {
		defer client.Close()
		s, err = server.Call[history.Status](ctx, client, "status", onRequest{f.on}, nil)
		return s, true, fromSocket(err)
	}

	err = f.read(func(db *history.DB) error {
		s, err = pickHosts(ctx, db, f.on)
		return err
	})
	return s, false, err
}

// read opens history for reading.
func (f *lookFlags) read(do func(*history.DB) error) error {
	db, err := history.OpenRead(path.Join(f.stateDir, "bellhop.db"))
	if errors.Is(err, fs.ErrNotExist) {
		return hint(fmt.Errorf("no history in %s: nothing was deployed from there yet", f.stateDir), "name another place with --state-dir, or a box with --server ssh://BOX")
	} else if err != nil {
		return err
	}
	defer db.Close()
	return do(db)
}

// pickHosts is the status of the hosts that on names.
func pickHosts(ctx context.Context, db *history.DB, on string) (history.Status, error) {
	s, err := db.Status(ctx)
	if err != nil || on == "" {
		return s, err
	}
	names, err := selectHosts(db.Hosts(), on)
	if err != nil {
		return s, err
	}
	s.Hosts = slices.DeleteFunc(s.Hosts, func(h history.HostStatus) bool { return !slices.Contains(names, h.Name) })
	return s, nil
}

func historyCmd(e *Env) *cobra.Command {
	var f lookFlags
	var ask historyRequest
	var evidence bool
	var since string
	var outcomes []string
	c := &cobra.Command{
		Use: "history [HOST...|RUN...]", Short: "Show what was deployed, when, by whom and with what result", GroupID: groupFleet,
		Long: `List runs, newest first: commit, author, cause, time taken, and the result on each host. With
hosts, only runs that had one of them; with ids of runs, only those. With --evidence also what a host
saw of what failed there: the unit's result and the last lines of its journal, the probe's answer.
--outcome chooses runs that ended so, or did on a host; with hosts, on one of these.`,
		Example: "  bellhop history\n  bellhop history chrysalis -n 3\n  bellhop history '@bots' --json\n  bellhop history --since 7d --outcome failed,rolled-back",
		RunE: func(c *cobra.Command, args []string) error {
			if ask.Limit < 1 {
				return usage(c, "--limit %d: want at least 1", ask.Limit)
			}
			var err error
			if ask.What, err = chosen(c, f.on, args); err != nil {
				return err
			}
			if ask.Since, err = parseSince(since, time.Now()); err != nil {
				return err
			}
			if ask.Outcomes, err = parseOneOf("outcome", outcomes, outcomesKnown); err != nil {
				return err
			}
			return runHistory(e, c.Context(), &f, ask, evidence)
		},
	}
	f.flags(c)
	c.Flags().IntVarP(&ask.Limit, "limit", "n", 20, "how many runs")
	c.Flags().StringVar(&since, "since", "", "only runs that began since then: 2h, 3d, 2026-11-30")
	c.Flags().StringSliceVar(&outcomes, "outcome", nil, "only runs with such an outcome: failed,rolled-back …")
	c.Flags().BoolVar(&evidence, "evidence", false, "show what hosts saw of what failed")
	return c
}

func runHistory(e *Env, ctx context.Context, f *lookFlags, ask historyRequest, evidence bool) error {
	h, err := readHistory(e, ctx, f, ask)
	if err != nil {
		return err
	}
	if f.json {
		return e.writeJSON(h)
	}
	printHistory(e.Stdout, e.outPaint(), h, evidence, time.Now())
	return nil
}

func readHistory(e *Env, ctx context.Context, f *lookFlags, ask historyRequest) (h history.History, err error) {
	client, err := dial(f.stateDir)
	if err != nil {
		return h, err
	}
	if client != nil {
		defer client.Close()
		t, err := server.Call[historyAnswer](ctx, client, "history", ask, nil)
		return t.history(), fromSocket(err)
	}

	err = f.read(func(db *history.DB) error {
		h, err = pickRuns(ctx, db, ask)
		return err
	})
	return h, err
}

// pickRuns lists the runs whose ids are asked for, or the newest runs of the hosts that are.
func pickRuns(ctx context.Context, db *history.DB, ask historyRequest) (history.History, error) {
	h := history.History{V: history.Version, Runs: []history.Run{}}
	if ask.What == "" {
		return db.Find(ctx, ask.filter())
	}

	var unknown []string
	for id := range strings.SplitSeq(ask.What, ",") {
		run, err := db.Run(ctx, strings.TrimSpace(id))
		switch {
		case err == nil:
			h.Runs = append(h.Runs, *run)
		case errors.Is(err, history.ErrNoRun):
			unknown = append(unknown, id)
		default:
			return h, err
		}
	}

	switch {
	case len(unknown) == 0:
		return h, nil
	case len(h.Runs) > 0:
		return h, hint(fmt.Errorf("history: %s is not the id of a run", strings.Join(unknown, ", ")), "name hosts or runs, not both")
	}

	return runsOf(ctx, db, ask)
}

// filter is what history is asked for, but for hosts.
func (r historyRequest) filter() history.RunFilter {
	return history.RunFilter{Limit: r.Limit, Since: r.Since, Outcomes: r.Outcomes}
}

// runsOf lists the newest runs of hosts. A host that was forgotten is found by its name.
func runsOf(ctx context.Context, db *history.DB, ask historyRequest) (history.History, error) {
	hosts, unknown := selectHosts(db.Hosts(), ask.What)
	if unknown != nil {
		hosts = []string{ask.What}
	}
	f := ask.filter()
	f.Hosts = hosts
	h, err := db.Find(ctx, f)
	if err == nil && unknown != nil && len(h.Runs) == 0 {
		return h, hint(fmt.Errorf("history: %s names no run and no host: %w", ask.What, unknown), "bellhop history")
	}
	return h, err
}
