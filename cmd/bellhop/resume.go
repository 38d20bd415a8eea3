package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"bellhop/deploy"
	"bellhop/internal/history"
	"bellhop/server"
)

// A resumeAnswer says what a resume ended.
type resumeAnswer struct {
	V       int                  `json:"v"`
	Was     *history.PauseStatus `json:"was"` // the pause that was ended; null: runs were not paused
	Waiting int                  `json:"waiting_commits"`
	Run     *string              `json:"run"` // that deploys what waits; null without a server
}

func resumeCmd(e *Env) *cobra.Command {
	var stateDir string
	var asJSON bool
	c := &cobra.Command{
		Use: "resume", Short: "End a pause, and deploy what waits", GroupID: groupFleet, Args: cobra.NoArgs,
		Long: `End a pause. A running server then looks at the repo and deploys what waits; without a server nothing
is deployed until bellhop deploy. Where runs are not paused it says so, and its exit code is 0.`,
		Example: "  bellhop resume",
		RunE: func(c *cobra.Command, _ []string) error {
			a, err := resume(e, c.Context(), stateDir)
			if err != nil {
				return err
			}
			if asJSON {
				return e.writeJSON(a)
			}
			printResume(e, a)
			return nil
		},
	}
	stateDirFlag(c, &stateDir)
	serverFlag(c)
	jsonFlag(c, &asJSON)
	return c
}

// resume asks the server to go on, or ends the pause where none runs.
func resume(e *Env, ctx context.Context, stateDir string) (a resumeAnswer, err error) {
	client, err := dial(stateDir)
	if err != nil {
		return a, err
	}
	if client != nil {
		defer client.Close()
		a, err = server.Call[resumeAnswer](ctx, client, "resume", struct{}{}, nil)
		return a, fromSocket(err)
	}

	err = withHistory(stateDir, func(db *history.DB) error {
		a, err = resumeRuns(ctx, db, e.userName())
		return err
	})
	return a, err
}

// resumeRuns ends the pause for somebody, and stores that it was asked for.
func resumeRuns(ctx context.Context, db *history.DB, by string) (resumeAnswer, error) {
	a := resumeAnswer{V: history.Version}
	was, err := db.Pauses().End(ctx)
	if err != nil || was == nil {
		return a, err
	}

	a.Was, a.Waiting = was.Status(), was.Waiting
	act := history.Start{ID: deploy.NewRunID(), Cause: "resume", By: by, At: time.Now(), Notes: []string{was.Status().Text(was.Waiting)}}
	return a, db.Acted(context.WithoutCancel(ctx), act, history.OutcomeDone, "", nil)
}

// resume ends the pause of a server, which then looks at the repo.
func (s *serving) resume(ctx context.Context, by string) (resumeAnswer, error) {
	a, err := resumeRuns(ctx, s.app.history, by)
	if err != nil || a.Was == nil {
		return a, err
	}
	s.app.deployer.Log.Info("the pause is over", "by", by, "waiting_commits", a.Waiting)
	run := s.bell.Ring("resume by " + by)
	a.Run = &run
	return a, nil
}

func printResume(e *Env, a resumeAnswer) {
	if a.Was == nil {
		fmt.Fprintln(e.Stdout, "runs are not paused")
		return
	}

	what := "the pause is over"
	if a.Waiting > 0 {
		what += fmt.Sprintf("; commits that waited: %d", a.Waiting)
	}
	fmt.Fprintln(e.Stdout, what)
	if a.Run == nil {
		fmt.Fprintln(e.Stdout, "no server runs here; deploy with: bellhop deploy")
		return
	}
	fmt.Fprintf(e.Stdout, "run %s looks at the repo: bellhop history %s\n", *a.Run, *a.Run)
}
