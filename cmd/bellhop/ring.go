package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"bellhop/internal/history"
	"bellhop/internal/history/deliveries"
	"bellhop/server"
)

func ringCmd(e *Env) *cobra.Command {
	var stateDir string
	var follow, asJSON bool
	c := &cobra.Command{
		Use: "ring", Short: "Ask the running server to look at the repo now", GroupID: groupServer, Args: cobra.NoArgs,
		Long: `Ask the running server to look at the repo now, as a webhook does. --follow shows the run until it
ends; in a repo's hooks/post-receive, whoever pushes sees it.`,
		RunE: func(c *cobra.Command, _ []string) error { return ring(e, c.Context(), stateDir, follow, asJSON) },
	}
	stateDirFlag(c, &stateDir)
	serverFlag(c)
	c.Flags().BoolVarP(&follow, "follow", "f", false, "show the run until it ends")
	jsonFlag(c, &asJSON)
	return c
}

func ring(e *Env, ctx context.Context, stateDir string, follow, asJSON bool) error {
	client, err := dialRing(stateDir)
	if err != nil {
		return err
	}
	defer client.Close()
	if !follow {
		a, err := client.Ring(ctx, nil)
		if err != nil {
			return fromSocket(err)
		}
		if asJSON {
			return e.writeJSON(map[string]any{"v": 1, "run": a.Run, "notice": a.Notice})
		}
		fmt.Fprintln(e.Stdout, "asked the server to look: run", a.Run)
		if a.Notice != "" {
			fmt.Fprintln(e.Stdout, a.Notice)
		}
		return nil
	}

	g := e.progressOn(e.Stderr)
	a, err := client.Ring(ctx, g.raw)
	if err != nil && ctx.Err() != nil {
		return errUnwatched
	} else if err != nil {
		return fromSocket(err)
	}

	var run history.Run
	if err := json.Unmarshal(a.Result, &run); err != nil {
		return fmt.Errorf("ring: read the result of run %s: %w", a.Run, err)
	}

	return endRun(e, &run, nil, "", asJSON)
}

// dialRing takes the socket that may do everything, or the one for those who may only ring.
func dialRing(stateDir string) (*server.Client, error) {
	client, err := server.Dial(stateDir)
	if err == nil {
		return client, nil
	}
	if c, rerr := server.DialSocket(filepath.Join(stateDir, server.RingSocketName)); rerr == nil {
		return c, nil
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, hint(fmt.Errorf("ring: %w", err), "bellhop serve --ring-group GROUP lets a group ring; or sudo")
	}
	return nil, hint(fmt.Errorf("ring: %w", err), "bellhop serve must run; --state-dir says where")
}

func webhookCmd(e *Env) *cobra.Command {
	return group(groupServer, "webhook", "List and test webhook deliveries", webhookListCmd(e), webhookTestCmd(e))
}

func webhookListCmd(e *Env) *cobra.Command {
	var f lookFlags
	var limit int
	c := &cobra.Command{
		Use: "list", Short: "List deliveries, the answer to each, and why", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ds, err := newestDeliveries(e, c.Context(), &f, limit)
			if err != nil {
				return err
			}
			if f.json {
				return e.writeJSON(map[string]any{"v": 1, "deliveries": orEmpty(ds)})
			}
			printDeliveries(e, ds)
			return nil
		},
	}
	stateDirFlag(c, &f.stateDir)
	serverFlag(c)
	jsonFlag(c, &f.json)
	c.Flags().IntVarP(&limit, "limit", "n", 20, "how many deliveries")
	return c
}

func newestDeliveries(e *Env, ctx context.Context, f *lookFlags, limit int) (ds []deliveries.Delivery, err error) {
	client, err := dial(f.stateDir)
	if err != nil {
		return nil, err
	}
	if client != nil {
		defer client.Close()
		ds, err = server.Call[[]deliveries.Delivery](ctx, client, "deliveries", historyRequest{Limit: limit}, nil)
		return ds, fromSocket(err)
	}

	err = f.read(func(db *history.DB) error {
		ds, err = db.Deliveries(ctx, limit)
		return err
	})
	return ds, err
}

func printDeliveries(e *Env, ds []deliveries.Delivery) {
	p, now := e.outPaint(), time.Now()
	var t table
	t.painted(func(_ int, c string) string { return p.dim(c) }, "WHEN", "EVENT", "BRANCH", "COMMIT", "RUN", "ANSWER")
	for _, d := range ds {
		t.row(ago(now, d.At), d.Event, dash(d.Branch), dash(short(d.Commit)), dash(d.Run), d.Answer)
	}

	if len(ds) == 0 {
		fmt.Fprintln(e.Stdout, "no delivery yet")
		return
	}

	t.write(e.Stdout)
}

func dash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}
