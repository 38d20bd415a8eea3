package deploy_test

import (
	"context"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"bellhop/deploy/commits"
	"bellhop/deploy/plan"
	"bellhop/internal/history"
)

// The plan of each run that changes something is kept as it was before the push, and with no value of a key.
func TestPlansOfRunsAreKept(t *testing.T) {
	w := newWorld(t, "a", "b")
	seal := w.realAge()
	w.vault(1, seal, func(int) string { return "correct-horse" })
	w.enable("a", "web", "vault")

	var older atomic.Int32
	at := w.d.At
	w.d.At = func(ctx context.Context, commit string) (commits.Snapshot, error) {
		older.Add(1)
		return at(ctx, commit)
	}
	var mu sync.Mutex
	kept := map[string]string{}
	w.d.KeepPlan = func(run string, pushed <-chan struct{}, write func(io.Writer) error) {
		<-pushed
		var b strings.Builder
		err := write(&b)
		mu.Lock()
		defer mu.Unlock()
		w.must(err)
		kept[run] = b.String()
	}
	first := w.push("first", history.OutcomeDone)
	w.change("hello world")
	w.vault(1, seal, func(int) string { return "battery-staple" })
	w.enable("a", "web", "vault")
	second := w.push("second", history.OutcomeDone)
	third := w.push("third: nothing", history.OutcomeNothing)
	w.must(w.d.Wait(t.Context()))

	if n := older.Load(); n > 0 {
		t.Errorf("to keep the plans an older commit was loaded %d times, though the run before had made all of it", n)
	}
	for run, wants := range map[string][]string{
		first.ID:  {"  + file /etc/web.conf", "  + key key0: new"},
		second.ID: {"a\n  ~ file /etc/web.conf\n", "    -hello\n    +hello world\n", "  ~ key key0: changed\n", "\nplan ", "2 of 2 hosts change"},
	} {
		for _, want := range wants {
			if !strings.Contains(kept[run], want) {
				t.Errorf("the plan lacks %q:\n%s", want, kept[run])
			}
		}
		if strings.Contains(kept[run], "horse") || strings.Contains(kept[run], "staple") {
			t.Errorf("the value of a key is in a plan:\n%s", kept[run])
		}
	}
	if text, has := kept[third.ID]; has {
		t.Errorf("a run that changes nothing has the plan %q", text)
	}

	p, err := w.d.Plan(t.Context(), plan.Request{})
	if err != nil || p.HasChanges() || len(kept) != 2 {
		t.Errorf("after it: %v, %v, %d plans kept", p, err, len(kept))
	}
}
