package main

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"bellhop/deploy"
	"bellhop/deploy/bell"
	"bellhop/deploy/follow"
	"bellhop/deploy/plan"
	"bellhop/internal/history"
)

// Who cancels a run that was cancelled before hears so, and history has one row of it.
func TestCancelAgain(t *testing.T) {
	db, err := history.Open(filepath.Join(t.TempDir(), "bellhop.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()

	// the run stays at work until the server ends
	asked, cancelled := make(chan struct{}), ""
	atWork := bell.Run{
		Make: func(ctx context.Context) (*history.Run, error) {
			close(asked)
			<-ctx.Done()
			return nil, ctx.Err()
		},
		Cancel: func(by string, out *bell.Cancelled) bool {
			out.Again = cancelled != ""
			cancelled = cmp.Or(cancelled, by)
			return true
		},
	}
	log := slog.New(slog.DiscardHandler)
	b := bell.New(bell.Runs{
		Prepare: func(plan.Request) bell.Run { return atWork },
		Wait:    func(context.Context) error { return nil },
		Watch:   func(context.Context) {}, Unwatch: func() {},
		Head:   func() func(context.Context) (string, error) { return nil },
		Pauses: db.Pauses(), Logs: follow.NewLogs(), Log: func() *slog.Logger { return log },
	})
	s := &serving{app: &app{history: db, deployer: &deploy.Deployer{Log: log}}, bell: b}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- b.Serve(ctx) }()
	select {
	case <-asked:
	case err := <-served:
		t.Fatal(err)
	}

	var said []string
	for _, by := range []string{"cadey", "mimi"} {
		a, err := s.cancelRun(ctx, by)
		if err != nil || a.Cancelled == nil {
			t.Fatalf("cancel by %s = %+v, %v", by, a, err)
		}
		var out bytes.Buffer
		printCancel(&Env{Stdout: &out}, a)
		said = append(said, out.String())
	}
	if strings.Contains(said[0], "before") || !strings.Contains(said[1], "was cancelled before\n") {
		t.Errorf("cancel twice says %q", said)
	}

	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	runs, err := db.Runs(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	var causes []string
	for _, r := range runs.Runs {
		if strings.HasPrefix(r.Cause, "cancel") {
			causes = append(causes, r.Cause)
		}
	}
	if len(causes) != 1 {
		t.Errorf("history has %q, want one cancel", causes)
	}
}
