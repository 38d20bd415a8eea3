package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
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

func (e *Env) statusCmd() *cobra.Command {
	var f lookFlags
	var exitCode bool
	c := &cobra.Command{
		Use: "status [HOST...]", Short: "What stands where", GroupID: groupFleet,
		Long: `Say what stands on each host, as history remembers it: asked of the running server, else read
from the state directory. --exit-code ends with 3 when a host needs a look.`,
		RunE: func(c *cobra.Command, args []string) error {
			f.on = selection(f.on, args)
			return e.status(c.Context(), &f, exitCode)
		},
	}
	f.flags(c)
	c.Flags().BoolVar(&exitCode, "exit-code", false, "exit 3 when a host is not current")
	return c
}

func (e *Env) status(ctx context.Context, f *lookFlags, exitCode bool) error {
	s, served, err := e.readStatus(ctx, f)
	if err != nil {
		return err
	}
	if f.json {
		err = e.writeJSON(s)
	} else {
		printStatus(e.Stdout, e.outPaint(), s, served, time.Now())
	}
	if err == nil && exitCode && len(s.Failing()) > 0 {
		return exit(exitHosts)
	}
	return err
}

// readStatus asks the running server, or reads the file when none is.
func (e *Env) readStatus(ctx context.Context, f *lookFlags) (s history.Status, served bool, err error) {
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

func (e *Env) historyCmd() *cobra.Command {
	var f lookFlags
	var limit int
	c := &cobra.Command{
		Use: "history [HOST|RUN]", Short: "What was deployed, when, why and with what result", GroupID: groupFleet, Args: cobra.MaximumNArgs(1),
		Long: `List runs, newest first: commit, author, cause, time taken, and what came of each host. With a
host only its runs; with the id of a run only that one.`,
		RunE: func(c *cobra.Command, args []string) error {
			if limit < 1 {
				return usage(c, "--limit %d: want at least 1", limit)
			}
			return e.history(c.Context(), &f, first(args), limit)
		},
	}
	stateDirFlag(c, &f.stateDir)
	serverFlag(c)
	jsonFlag(c, &f.json)
	c.Flags().IntVarP(&limit, "limit", "n", 20, "how many runs")
	return c
}

func (e *Env) history(ctx context.Context, f *lookFlags, what string, limit int) error {
	h, err := e.readHistory(ctx, f, what, limit)
	if err != nil {
		return err
	}
	if f.json {
		return e.writeJSON(h)
	}
	printHistory(e.Stdout, e.outPaint(), h, time.Now())
	return nil
}

func (e *Env) readHistory(ctx context.Context, f *lookFlags, what string, limit int) (h history.History, err error) {
	client, err := dial(f.stateDir)
	if err != nil {
		return h, err
	}
	if client != nil {
		defer client.Close()
		t, err := server.Call[told](ctx, client, "history", historyRequest{what, limit}, nil)
		return t.history(), fromSocket(err)
	}
	err = f.read(func(db *history.DB) error {
		h, err = pickRuns(ctx, db, what, limit)
		return err
	})
	return h, err
}

// pickRuns is the run of that id, or the newest runs, of that host.
func pickRuns(ctx context.Context, db *history.DB, what string, limit int) (history.History, error) {
	if what != "" {
		run, err := db.Run(ctx, what)
		if err == nil {
			return history.History{V: history.Version, Runs: []history.Run{*run}}, nil
		} else if !errors.Is(err, history.ErrNoRun) {
			return history.History{}, err
		}
	}
	h, err := db.Runs(ctx, limit, what)
	if _, known := db.Hosts()[what]; err == nil && what != "" && !known && len(h.Runs) == 0 {
		return h, hint(fmt.Errorf("history: %s is neither a host nor the id of a run", what), "bellhop history")
	}
	return h, err
}
