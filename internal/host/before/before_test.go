package before_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"

	"bellhop/internal/bundle"
	"bellhop/internal/host/before"
	"bellhop/internal/host/machine"
)

// endless are commands that never end.
type endless struct{ runs machine.CommandState }

func (e *endless) Start(_ context.Context, c machine.Command) error {
	e.runs = machine.CommandState{Mark: c.Mark, Running: true}
	return nil
}

func (e *endless) CommandState(context.Context, string) (machine.CommandState, error) {
	return e.runs, nil
}

func (e *endless) Remove(context.Context, string) error { return nil }

// A process that is to end does not wait for a step that goes on, whoever hears of the end first.
func TestRunEndsWithItsContext(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			r := before.Runner{Commands: &endless{}, Path: filepath.Join(t.TempDir(), "before"), Deploy: "r-1", Write: func([]byte) error { return nil },
				Started: func(string, int) { stop() }}
			_, ran, err := r.Run(ctx, []bundle.Service{{Name: "bot", Before: []bundle.Step{{Command: "sleep 1000"}}}})
			if !ran || !errors.Is(err, context.Canceled) {
				t.Errorf("ran %v, error %v; want that it ran and was cancelled", ran, err)
			}
		})
	}
}
