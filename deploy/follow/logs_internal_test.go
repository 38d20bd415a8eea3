package follow

import (
	"fmt"
	"strings"
	"testing"
)

// A host that says a lot in many runs costs so much and no more, and who follows hears the newest.
func TestEventsAreKeptWithinBytes(t *testing.T) {
	l := NewLogs()
	for r := range keepLogs + 10 {
		run := fmt.Sprint("run", r)
		l.Open(run)
		for i := range 400 {
			l.Add(Event{Run: run, Host: "loud", Step: "note", Text: fmt.Sprintf("%d %s", i, strings.Repeat("x", 16<<10))})
		}
		l.Add(Event{Run: run, Step: "end", Outcome: "done"})
		l.Close(run, nil, nil)
	}
	if len(l.logs) > keepLogs || len(l.order) != len(l.logs) {
		t.Errorf("%d runs are kept, want %d", len(l.logs), keepLogs)
	}
	for run, one := range l.logs {
		total := 0
		for _, e := range one.events {
			total += e.cost()
		}
		if total > keepBytes || total != one.bytes || cap(one.events) > 4*len(one.events)+16 {
			t.Fatalf("%s keeps %d bytes (it counts %d) in %d of %d events", run, total, one.bytes, len(one.events), cap(one.events))
		}
	}

	var heard []Event
	if _, err := l.Follow(t.Context(), "run70", func(e Event) { heard = append(heard, e) }); err != nil {
		t.Fatal(err)
	}
	if last := heard[len(heard)-1]; last.Step != "end" || !strings.HasPrefix(heard[len(heard)-2].Text, "399 ") {
		t.Errorf("who follows hears %+v last, want the end", last)
	}
}

// One who follows while events are dropped hears each that is kept once, in its order.
func TestFollowWhileEventsAreDropped(t *testing.T) {
	l := NewLogs()
	l.Open("r")
	const n = 3000
	at := -1
	done := make(chan error, 1)
	go func() {
		_, err := l.Follow(t.Context(), "r", func(e Event) {
			var i int
			fmt.Sscan(e.Text, &i)
			if i <= at {
				t.Errorf("event %d came after %d", i, at)
			}
			at = i
		})
		done <- err
	}()
	for i := range n {
		l.Add(Event{Run: "r", Host: "h", Text: fmt.Sprint(i, " ", strings.Repeat("x", 1000))})
	}
	l.Close("r", nil, nil)
	if err := <-done; err != nil || at != n-1 {
		t.Errorf("followed to event %d, %v; want %d", at, err, n-1)
	}
}
