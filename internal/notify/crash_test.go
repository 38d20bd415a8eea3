package notify

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bellhop/internal/history"
)

// Wherever the process ends, before or after any write or between a message and its mark, each change arrives, and the last message
// of a host says how it is.
func TestCrashAtEachStep(t *testing.T) {
	isWhole := false
	for at := int64(1); !isWhole && !t.Failed(); at++ {
		inWorld(t, func(w *world) {
			var steps atomic.Int64
			var isDead atomic.Bool
			w.step = func() bool {
				if !isDead.Load() && steps.Add(1) == at {
					isDead.Store(true)
					w.stop()
				}
				return isDead.Load()
			}
			goOn := func() {
				w.wait(time.Hour)
				if isDead.Load() {
					isDead.Store(false)
					w.start()
					w.wait(time.Hour)
				}
			}

			w.step() // the process may end before it knows of its target; nothing is queued while it is gone
			goOn()
			w.put(host("a", history.Failed, "1"), host("b", history.Current, "1"), ended("1", history.OutcomePartial))
			goOn()
			w.put(host("a", history.Current, "2"), ended("2", history.OutcomeDone))
			goOn()
			w.put(host("b", history.RolledBack, "3"), ended("3", history.OutcomeFailed))
			goOn()

			var order []string
			for _, line := range w.got {
				_, what, _ := strings.Cut(line, ": ")
				if len(order) == 0 || order[len(order)-1] != what { // one that is told twice is one
					order = append(order, what)
				}
			}
			if want := []string{"a failed", "a recovered", "b failed"}; !slices.Equal(order, want) {
				t.Errorf("the process ended at step %d: %q arrived, want %q", at, w.got, want)
			}
			if len(w.rows) > 0 {
				t.Errorf("the process ended at step %d: %d rows are kept for ever", at, len(w.rows))
			}
			if isWhole = steps.Load() < at; isWhole && w.writes < 6 {
				t.Errorf("the story has %d writes, want those of marks and rows", w.writes)
			}
		})
	}
}
