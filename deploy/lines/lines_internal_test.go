package lines

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"bellhop/deploy/contact"
	"bellhop/deploy/hosts"
	"bellhop/internal/history"
	"bellhop/internal/link"
)

// keeperOf returns a keeper with a line to the host h, which was pushed once.
func keeperOf(t *testing.T) Keeper {
	t.Helper()
	db, err := history.Open(filepath.Join(t.TempDir(), "h.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	planned := []history.Planned{{Name: "h", State: history.Pending, Wanted: "d", Error: "away"}}
	if err := db.Plan(t.Context(), history.Start{ID: "r", Commit: "c", At: time.Now()}, "c", planned, nil); err != nil {
		t.Fatal(err)
	}

	k := Keeper{Set: &Set{}, History: db, Log: slog.New(slog.DiscardHandler), Ring: func(string) {}, Contact: contact.Contact{History: db}}
	k.Set.Start(t.Context())
	k.Set.keep(link.Target{Name: "h"}, func(context.Context, link.Target) {})
	return k
}

var errAway = &link.Error{Host: "h", Kind: link.ErrUnreachable, Err: errors.New("no answer")}

func (k Keeper) awaySince(t *testing.T) time.Time {
	t.Helper()
	h, known := k.History.Host("h")
	if !known {
		t.Fatal("history knows no host h")
	}
	return h.AwayAt
}

// Whether a host is away is told by its line while that is up: the line would never take back what another way
// to the host said.
func TestALineThatIsUpSaysThatItsHostIsThere(t *testing.T) {
	k := keeperOf(t)
	k.Set.setUp("h", true)
	k.NoteAnswer("h", errAway)
	if at := k.awaySince(t); !at.IsZero() {
		t.Errorf("with a line that is up the host is away since %v", at)
	}
	k.Set.setUp("h", false)
	k.NoteAnswer("h", errAway)
	if k.awaySince(t).IsZero() {
		t.Error("the host is not away when its line is down and it does not answer")
	}
}

// A host that a push did not reach is tried again by the clock where its line is up, which will not ring.
func TestAHostIsTriedAgainThoughItsLineIsUp(t *testing.T) {
	for _, isUp := range []bool{true, false} {
		t.Run(fmt.Sprint(isUp), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := keeperOf(t)
				k.Set.setUp("h", isUp)
				rings := 0
				table := &hosts.Table{}
				table.SetAway("h", true)
				r := Retries{Lines: k.Set, Hosts: table, History: k.History, Ring: func(string) { rings++ }, Wait: time.Second}
				r.Unreached("h")
				time.Sleep(time.Hour)
				synctest.Wait()
				if got := rings > 0; got != isUp {
					t.Errorf("a run is asked for: %v, want %v", got, isUp)
				}
			})
		})
	}
}
