package runs_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/runs"
)

// What a run leaves ends a wait, whether it comes before or while somebody waits.
func TestWaitEndsWithNews(t *testing.T) {
	r := runs.Runs{Dir: t.TempDir(), Now: time.Now}
	if err := r.Make("one"); err != nil {
		t.Fatal(err)
	}
	w := r.Watch("one")
	defer w.Close()

	news := map[string]func(){
		"an event": func() { r.Event("one", "begin", "") },
		"a result": func() {
			if err := r.Save(&bundle.Result{Run: "one"}); err != nil {
				t.Error(err)
			}
		},
	}
	for name, come := range news {
		come()
		if err := w.Wait(t.Context(), time.Hour, false); err != nil { // for an hour, should it not be told
			t.Errorf("%s before the wait: %v", name, err)
		}
		came := make(chan struct{})
		go func() { come(); close(came) }()
		if err := w.Wait(t.Context(), time.Hour, false); err != nil {
			t.Errorf("%s during the wait: %v", name, err)
		}
		<-came
	}
}

// A wait ends with its context, and with its time, also where the kernel gives no inotify: for a folder that
// is not there.
func TestWaitEndsWithoutNews(t *testing.T) {
	r := runs.Runs{Dir: t.TempDir(), Now: time.Now}
	if err := r.Make("there"); err != nil {
		t.Fatal(err)
	}
	polls := r
	polls.Polls = true
	for run, of := range map[string]runs.Runs{"there": r, "not-there": r, "polled": polls} {
		w := of.Watch(run)
		defer w.Close()
		if err := w.Wait(t.Context(), time.Millisecond, false); err != nil {
			t.Errorf("%s: %v", run, err)
		}

		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		for ctx.Err() == nil { // a wait without inotify is a short one
			if err := w.Wait(ctx, time.Hour, false); err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", run, err)
			}
		}
		if err := w.Wait(ctx, time.Hour, false); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v after the context ended", run, err)
		}
	}
}
