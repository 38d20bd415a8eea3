package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bellhop/internal/history"
	"bellhop/internal/history/stops"
	"bellhop/server"
)

// A resumeAnswer says what a resume ended.
type resumeAnswer struct {
	V       int                `json:"v"`
	Was     *stops.PauseStatus `json:"was"` // the pause that was ended; null: runs were not paused
	Waiting int                `json:"waiting_commits"`
	Hosts   []string           `json:"hosts"` // that a cancelled run left out
	Held    []string           `json:"held"`  // hosts that stay held: only a resume that names them ends that
	Run     *string            `json:"run"`   // that deploys what waits; null without a server
}

func resumeCmd(e *Env) *cobra.Command {
	var f deployerFlags
	var on string
	var asJSON bool
	c := &cobra.Command{
		Use: "resume [HOST...]", Short: "End a pause, a cancel or the hold of hosts, and deploy what waits", GroupID: groupFleet,
		Long: `End a pause, and let hosts that a cancelled run left out be pushed again. A running server then looks
at the repo and deploys what waits; without a server nothing is deployed until bellhop deploy. Where
nothing is paused or cancelled it says so, and its exit code is 0.

Hosts that bellhop rollback holds stay held, and are named. With hosts it leaves a pause alone, ends
what bellhop rollback began on these hosts, and brings the head of the branch to them, also what
failed there before.`,
		Example:           "  bellhop resume\n  bellhop resume chrysalis",
		ValidArgsFunction: completeHosts,
		RunE: func(c *cobra.Command, args []string) error {
			hosts, err := chosen(c, on, args)
			if err != nil {
				return err
			}
			if hosts != "" {
				return resumeHosts(e, c.Context(), &f, hosts, asJSON)
			}
			a, err := resume(e, c.Context(), f.stateDir)
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
	f.flags(c)
	onFlagNeeded(c, &on)
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
	a := resumeAnswer{V: history.Version, Hosts: []string{}, Held: heldHosts(db)}
	was, err := db.Pauses().End(ctx)
	if err != nil {
		return a, err
	}
	hosts, err := db.Stops().Resume(ctx)
	if err != nil {
		return a, err
	}

	act := history.Start{ID: history.NewRunID(), Cause: "resume", By: by, At: time.Now()}
	if was != nil {
		a.Was, a.Waiting = was.Status(), was.Waiting
		act.Notes = append(act.Notes, was.Status().Text(was.Waiting))
	}
	if len(hosts) > 0 {
		a.Hosts = hosts
		act.Notes = append(act.Notes, "a cancelled run had left out "+strings.Join(hosts, ", "))
	}
	if !a.ended() {
		return a, nil
	}
	return a, db.Acted(context.WithoutCancel(ctx), act, history.OutcomeDone, "", nil)
}

// heldHosts are the hosts of the repo that a rollback holds, by name. A resume ends nothing of a host that tests
// a branch, nor of one that left the repo.
func heldHosts(db *history.DB) []string {
	held := []string{}
	for name, h := range db.Hosts() {
		if h.State != history.Released && db.Holds().Of(name).GoesBack() {
			held = append(held, name)
		}
	}
	slices.Sort(held)
	return held
}

// ended says that there was something to end.
func (a resumeAnswer) ended() bool { return a.Was != nil || len(a.Hosts) > 0 }

// resume ends the pause of a server, which then looks at the repo.
func (s *serving) resume(ctx context.Context, by string) (resumeAnswer, error) {
	a, err := resumeRuns(ctx, s.app.history, by)
	if err != nil || !a.ended() {
		return a, err
	}
	s.app.deployer.Log.Info("runs go on", "by", by, "waiting_commits", a.Waiting)
	run := s.bell.Ring("resume by " + by)
	a.Run = &run
	return a, nil
}

func printResume(e *Env, a resumeAnswer) {
	if len(a.Held) > 0 {
		defer fmt.Fprintf(e.Stdout, "still held: %s; to end that: bellhop resume %s\n", strings.Join(a.Held, ", "), strings.Join(a.Held, " "))
	}
	if !a.ended() {
		fmt.Fprintln(e.Stdout, "runs are not paused, and none was cancelled")
		return
	}

	if a.Was != nil {
		fmt.Fprintf(e.Stdout, "the pause is over; commits that waited: %d\n", a.Waiting)
	}
	if len(a.Hosts) > 0 {
		fmt.Fprintln(e.Stdout, "no longer cancelled:", strings.Join(a.Hosts, ", "))
	}
	if a.Run == nil {
		fmt.Fprintln(e.Stdout, "no server runs here; deploy with: bellhop deploy")
		return
	}
	fmt.Fprintf(e.Stdout, "run %s looks at the repo: bellhop history %s\n", *a.Run, *a.Run)
}
