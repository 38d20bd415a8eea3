package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bellhop/deploy"
	"bellhop/deploy/bell"
	"bellhop/internal/history"
	"bellhop/server"
)

// A cancelAnswer says what was cancelled.
type cancelAnswer struct {
	V         int             `json:"v"`
	Cancelled *bell.Cancelled `json:"cancelled"` // null: no run was at work
}

func cancelCmd(e *Env) *cobra.Command {
	var stateDir string
	var asJSON bool
	c := &cobra.Command{
		Use: "cancel", Short: "Stop the current run before its next host", GroupID: groupFleet, Args: cobra.NoArgs,
		Long: `Stop the current run before its next host. Hosts that are being applied go on to their end and are
recorded; the others are cancelled, and stay as they are until bellhop resume, bellhop deploy or a
new commit. A run that somebody else asked for meanwhile begins as usual; bellhop pause stops those.

Where no run is at work it says so, and its exit code is 0.`,
		Example: "  bellhop cancel",
		RunE: func(c *cobra.Command, _ []string) error {
			a, err := cancelRun(e, c.Context(), stateDir)
			if err != nil {
				return err
			}
			if asJSON {
				return e.writeJSON(a)
			}
			printCancel(e, a)
			return nil
		},
	}
	stateDirFlag(c, &stateDir)
	serverFlag(c)
	jsonFlag(c, &asJSON)
	return c
}

// cancelRun asks the server to cancel. Without one a run can only be at work in another terminal, which
// holds the lock.
func cancelRun(e *Env, ctx context.Context, stateDir string) (a cancelAnswer, err error) {
	a.V = history.Version
	client, err := dial(stateDir)
	if err != nil {
		return a, err
	}
	if client != nil {
		defer client.Close()
		a, err = server.Call[cancelAnswer](ctx, client, "cancel", struct{}{}, nil)
		return a, fromSocket(err)
	}

	err = withHistory(stateDir, func(*history.DB) error { return nil })
	if errors.Is(err, deploy.ErrLocked) {
		return a, hint(fmt.Errorf("cancel: no server runs here: %w", deploy.ErrLocked), "a bellhop deploy in another terminal ends by Ctrl-C there")
	}
	return a, err
}

// cancelRun cancels the current run of a server for somebody, and stores that it was asked for.
func (s *serving) cancelRun(ctx context.Context, by string) (cancelAnswer, error) {
	a := cancelAnswer{V: history.Version}
	c, ok := s.bell.Cancel(by)
	if !ok {
		return a, nil
	}

	a.Cancelled = &c
	if c.Again {
		return a, nil
	}

	s.app.deployer.Log.Warn("run cancelled", "run", c.Run, "by", by, "left", c.Left, "at_work", c.AtWork)
	act := history.Start{ID: history.NewRunID(), Cause: "cancel", By: by, At: time.Now(), Notes: []string{"cancelled run " + c.Run}}
	return a, s.app.history.Acted(context.WithoutCancel(ctx), act, history.OutcomeDone, "", nil)
}

func printCancel(e *Env, a cancelAnswer) {
	c := a.Cancelled
	if c == nil {
		fmt.Fprintln(e.Stdout, "no run is at work: nothing to cancel")
		return
	}

	if c.Again {
		fmt.Fprintf(e.Stdout, "run %s was cancelled before\n", c.Run)
	} else {
		fmt.Fprintf(e.Stdout, "run %s is cancelled\n", c.Run)
	}
	if !c.Planned {
		fmt.Fprintln(e.Stdout, "it has not read the repo yet, and will begin no host")
	}
	if len(c.AtWork) > 0 {
		fmt.Fprintln(e.Stdout, "being applied, to their end:", strings.Join(c.AtWork, ", "))
	}
	if len(c.Left) > 0 {
		fmt.Fprintln(e.Stdout, "left as they are:", strings.Join(c.Left, ", "))
	}
	if c.Planned && len(c.Left) == 0 {
		fmt.Fprintln(e.Stdout, "every host of it was begun before: none is left as it is")
	} else {
		fmt.Fprintln(e.Stdout, "it goes on with: bellhop resume, bellhop deploy, or a new commit")
	}
	if len(c.Next) > 0 {
		fmt.Fprintln(e.Stdout, "asked for meanwhile, and next:", strings.Join(c.Next, ", "))
	}
}
