package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"bellhop/deploy"
	"bellhop/internal/history"
	"bellhop/internal/history/stops"
	"bellhop/internal/plain"
	"bellhop/server"
)

// Pausing runs. The pause is in history, so that it holds with and without a server and over restarts.

// mostReason is how long the reason of a pause may be, in bytes.
const mostReason = 200

// A pauseRequest asks for a pause.
type pauseRequest struct {
	Reason string `json:"reason,omitempty"`
	ForMs  int64  `json:"for_ms,omitempty"` // 0: until somebody resumes
	Then   bool   `json:"then,omitempty"`   // deploy all that waits when the time is over
}

// A pauseAnswer is the pause that holds now.
type pauseAnswer struct {
	V      int                `json:"v"`
	Paused bool               `json:"paused"`
	Pause  *stops.PauseStatus `json:"pause"`
	Run    *string            `json:"run"` // that is at work, and goes on; null: none
}

func pauseCmd(e *Env) *cobra.Command {
	var stateDir, then string
	var req pauseRequest
	var lasts time.Duration
	var asJSON bool
	c := &cobra.Command{
		Use: "pause", Short: "Deploy nothing until bellhop resume", GroupID: groupFleet, Args: cobra.NoArgs,
		Long: `Deploy nothing until bellhop resume. Pushes are noticed and wait; bellhop deploy is refused; status
says who paused, why and since when. A run that is at work goes on: bellhop cancel stops it. Hosts
that reboot get their keys back as always.

With --for the pause ends by itself, and one commit that waits is deployed. If more than one waits,
the fleet stays paused until bellhop resume, unless --then deploy was given. To pause again replaces
the end, and the reason if one is given.`,
		Example: "  bellhop pause --reason 'moving the rack'\n  bellhop pause --for 2h --then deploy",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkPause(c, lasts, then); err != nil {
				return err
			}
			req.ForMs, req.Then = lasts.Milliseconds(), then != ""
			a, err := pause(e, c.Context(), stateDir, req)
			if err != nil {
				return err
			}
			if asJSON {
				return e.writeJSON(a)
			}
			printPause(e, a)
			return nil
		},
	}
	stateDirFlag(c, &stateDir)
	serverFlag(c)
	c.Flags().StringVar(&req.Reason, "reason", "", "why, for those who find the fleet paused")
	c.Flags().DurationVar(&lasts, "for", 0, "end the pause by itself after this time, as 2h or 30m (default: never)")
	c.Flags().StringVar(&then, "then", "", "with --for: deploy, to deploy all commits that wait at the end")
	_ = c.RegisterFlagCompletionFunc("then", cobra.FixedCompletions([]string{thenDeploy}, cobra.ShellCompDirectiveNoFileComp))
	jsonFlag(c, &asJSON)
	return c
}

// thenDeploy is the one thing that --then can say.
const thenDeploy = "deploy"

func checkPause(c *cobra.Command, lasts time.Duration, then string) error {
	isTimed := c.Flags().Changed("for") || lasts != 0
	switch {
	case isTimed && lasts < time.Second:
		return usage(c, "--for %v: want at least 1s", lasts)
	case then != "" && then != thenDeploy:
		return usage(c, "--then %s: want %s", then, thenDeploy)
	case then != "" && !isTimed:
		return usage(c, "--then %s: it says what to do when --for is over, and there is no --for", then)
	}
	return nil
}

// pause asks the server to pause, or stores the pause where none runs.
func pause(e *Env, ctx context.Context, stateDir string, req pauseRequest) (a pauseAnswer, err error) {
	client, err := dial(stateDir)
	if err != nil {
		return a, err
	}
	if client != nil {
		defer client.Close()
		a, err = server.Call[pauseAnswer](ctx, client, "pause", req, nil)
		return a, fromSocket(err)
	}

	err = withHistory(stateDir, func(db *history.DB) error {
		a, err = pauseRuns(ctx, db, e.userName(), req)
		return err
	})
	return a, err
}

// pauseRuns stores the pause that somebody asks for, and that it was asked for.
func pauseRuns(ctx context.Context, db *history.DB, by string, req pauseRequest) (pauseAnswer, error) {
	now := time.Now().UTC().Truncate(time.Second)
	next := stops.Pause{By: by, Reason: plain.Line(req.Reason, mostReason), Since: now, Then: req.Then}
	if req.ForMs > 0 {
		next.Until = now.Add(time.Duration(req.ForMs) * time.Millisecond)
	}

	_, held, err := db.Pauses().Set(ctx, next)
	if err != nil {
		return pauseAnswer{}, err
	}
	act := history.Start{ID: history.NewRunID(), Cause: "pause", By: by, At: now, Notes: []string{held.Status().Text(held.Waiting)}}
	return pauseAnswer{V: history.Version, Paused: true, Pause: held.Status()}, db.Acted(context.WithoutCancel(ctx), act, history.OutcomeDone, "", nil)
}

// pause pauses the runs of a server. A run that is at work goes on.
func (s *serving) pause(ctx context.Context, by string, req pauseRequest) (pauseAnswer, error) {
	a, err := pauseRuns(ctx, s.app.history, by, req)
	if err != nil {
		return a, err
	}
	s.app.deployer.Log.Warn("runs are paused", "by", by, "reason", or(a.Pause.Reason, ""), "until", untilText(a.Pause))
	s.bell.Paused()
	if run := s.bell.Current(); run != "" {
		a.Run = &run
	}
	return a, nil
}

// untilText is the end of a pause in a log line.
func untilText(p *stops.PauseStatus) string {
	if p.Until == nil {
		return "bellhop resume"
	}
	return p.Until.Format(time.RFC3339)
}

func printPause(e *Env, a pauseAnswer) {
	fmt.Fprintln(e.Stdout, a.Pause.Text(0))
	how := map[bool]string{true: "it ends then, or sooner by", false: "it ends then, unless more than one commit waits, or by"}[a.Pause.Then]
	if a.Pause.Until == nil {
		how = "it ends by"
	}
	fmt.Fprintln(e.Stdout, how+": bellhop resume")
	if a.Run != nil {
		fmt.Fprintf(e.Stdout, "run %s is at work and goes on; bellhop cancel stops it before its next host\n", *a.Run)
	}
}

// withHistory opens the history of a state directory for writing, under the lock of the deployer, where
// no server runs.
func withHistory(stateDir string, do func(*history.DB) error) (err error) {
	path := filepath.Join(stateDir, "bellhop.db")
	if _, serr := os.Stat(path); errors.Is(serr, fs.ErrNotExist) {
		return hint(fmt.Errorf("no history in %s: nothing was deployed from there yet", stateDir), "name another place with --state-dir, or a box with --server ssh://BOX")
	}
	st := newState(stateDir)
	if err := errors.Join(st.ours(), st.regular()); err != nil {
		return err
	}

	unlock, err := deploy.Lock(stateDir)
	if errors.Is(err, deploy.ErrLocked) {
		return hint(err, "a bellhop deploy may be at work in another terminal: try again when it has ended")
	} else if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()

	db, err := history.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return do(db)
}

// pauseNotice says that runs are paused; "" when they are not.
func pauseNotice(db *history.DB) string {
	p, err := db.Pauses().Now()
	if err != nil || p == nil {
		return ""
	}
	return p.Status().Text(p.Waiting)
}
