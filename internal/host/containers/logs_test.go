package containers_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bellhop/internal/host/containers"
	"bellhop/internal/host/machine"
)

// What a container wrote before the run is not told, and an engine that hangs is not waited for.
func TestLogsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		since := time.Now().Add(-time.Minute)
		p := &programs{answer: func(context.Context, machine.Program) (machine.Output, error) {
			return machine.Output{Stdout: "one\n", Stderr: "two\n"}, nil
		}}
		got := containers.Engine{Programs: p}.Logs(t.Context(), "abc", since, 50)
		if want := "docker logs --since " + since.UTC().Format(time.RFC3339Nano) + " --tail 50 abc"; len(p.calls) != 1 || !strings.HasSuffix(p.calls[0], want) {
			t.Errorf("called %q, want %q", p.calls, want)
		}
		if !slices.Equal(got, []string{"one", "two"}) {
			t.Errorf("lines %q", got)
		}

		hangs := &programs{answer: func(ctx context.Context, _ machine.Program) (machine.Output, error) {
			<-ctx.Done()
			return machine.Output{}, ctx.Err()
		}}
		began := time.Now()
		if got := (containers.Engine{Programs: hangs}).Logs(t.Context(), "abc", since, 50); got != nil || time.Since(began) != 10*time.Second {
			t.Errorf("lines %q after %v of an engine that hangs, want none after 10s", got, time.Since(began))
		}
		if got := (containers.Engine{Programs: hangs}).Logs(t.Context(), "", since, 50); got != nil || len(hangs.calls) != 1 {
			t.Errorf("lines %q, calls %q of a container that was not created", got, hangs.calls)
		}
	})
}
