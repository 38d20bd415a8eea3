package hosts

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"bellhop/internal/plain"
)

// A host that leaves the repo takes its state with it, but not from under somebody who works on it.
func TestHostTableForgets(t *testing.T) {
	listed := func(hosts ...string) func(string) bool {
		return func(host string) bool { return slices.Contains(hosts, host) }
	}

	var table Table
	for _, host := range []string{"stays", "leaves", "busy", "pushed"} {
		table.Unreached(host)
		table.SetAway(host, true)
		table.SetMachine(host, plain.NewForeign("m"))
	}
	release, err := table.Hold(t.Context(), "busy")
	if err != nil {
		t.Fatal(err)
	}
	table.SetPushing("pushed", true)

	table.KeepOnly(listed("stays"))
	if len(table.states) != 3 || table.Away("leaves") || !table.Machine("leaves").IsEmpty() {
		t.Errorf("%d states, away %v; want 3, and nothing known of the host that left", len(table.states), table.Away("leaves"))
	}
	if !table.Away("stays") || table.Machine("stays").IsEmpty() {
		t.Error("the state of a host that stays was lost")
	}

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := table.Hold(ended, "busy"); err == nil {
		t.Error("two are at work on a host that left")
	}
	if !table.Pushing("pushed") {
		t.Error("a host that is pushed is not known to be, since it left")
	}

	release()
	table.SetPushing("pushed", false)
	if len(table.states) != 1 {
		t.Errorf("%d states when all work is done, want 1", len(table.states))
	}
}

// A host that comes back while somebody still works on it keeps its state, and its lock.
func TestHostTableComesBack(t *testing.T) {
	var table Table
	release, err := table.Hold(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	table.KeepOnly(func(string) bool { return false })
	table.KeepOnly(func(string) bool { return true })
	release()
	if len(table.states) != 1 {
		t.Errorf("%d states, want 1", len(table.states))
	}
}

// What can wait gives way to work on its host, and to nothing else.
func TestHoldIdle(t *testing.T) {
	var table Table
	gaveWay := make(chan struct{})
	release, ok := table.HoldIdle("h", func() { close(gaveWay) })
	if !ok {
		t.Fatal("nobody is at work, and a look can't begin")
	}
	if _, ok := table.HoldIdle("h", nil); ok {
		t.Error("two looks at once")
	}
	if other, err := table.Hold(t.Context(), "other"); err != nil {
		t.Error(err)
	} else {
		other()
	}

	got := make(chan func())
	go func() {
		done, err := table.Hold(context.Background(), "h")
		if err != nil {
			t.Error(err)
		}
		got <- done
	}()
	<-gaveWay
	release()
	done := <-got
	if _, ok := table.HoldIdle("h", nil); ok {
		t.Error("a look begins while somebody is at work")
	}
	done()

	table.SetPushing("h", true)
	if _, ok := table.HoldIdle("h", nil); ok {
		t.Error("a look begins while a run is at work between two sessions")
	}
	table.SetPushing("h", false)
	if again, ok := table.HoldIdle("h", nil); !ok {
		t.Error("no look begins once the work is done")
	} else {
		again()
	}
	if _, err := table.Hold(t.Context(), "h"); err != nil {
		t.Error(err)
	}
}

// What a host's clock says is held against ours as it comes in; a host that does not say, or left, is not there.
func TestAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table
		table.SetClock("ahead", time.Now().Add(time.Minute).UnixMilli())
		table.SetClock("behind", time.Now().Add(-time.Hour).UnixMilli())
		table.SetClock("odd", -1<<62)
		table.SetClock("former", 0)
		time.Sleep(time.Hour) // a clock that goes stays as far ahead
		got := table.Ahead()
		if got["ahead"] != time.Minute || got["behind"] != -time.Hour || got["odd"] >= 0 || len(got) != 3 {
			t.Errorf("Ahead = %v", got)
		}

		table.KeepOnly(func(host string) bool { return host == "ahead" })
		if got := table.Ahead(); len(got) != 1 {
			t.Errorf("after the others left: %v", got)
		}
	})
}
