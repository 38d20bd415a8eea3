package host_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
	"bellhop/internal/lab"
)

// wholeReads notes which units are read whole, which costs systemd 2 ms for each after a reload.
type wholeReads struct {
	machine.Systemd

	mu    sync.Mutex
	names []string
}

func (w *wholeReads) Units(ctx context.Context, names []string) (map[string]machine.UnitState, error) {
	w.mu.Lock()
	w.names = append(w.names, names...)
	w.mu.Unlock()
	return w.Systemd.Units(ctx, names)
}

// A run that restarts one unit of ten reads no other whole.
func TestTwinReadsWholeOnlyWhatChanges(t *testing.T) {
	ten := func(text string) *load {
		l := newLoad().file("/etc/conf", text)
		for i := range 10 {
			var triggers []string
			if i == 0 {
				triggers = []string{"file:/etc/conf"}
			}
			l.service(fmt.Sprintf("app%d.service", i), "[Service]\nExecStart=/app\n[Install]\nWantedBy=multi-user.target\n", triggers...)
		}
		return l
	}
	m := lab.NewMachine(t.TempDir())
	l := ten("one")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)

	reads := &wholeReads{Systemd: m.Host().Systemd}
	m.Host().Systemd = reads
	l = ten("two")
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)

	if !slices.Equal(got.res.Restarted, []string{"app0.service"}) {
		t.Fatalf("restarted %v", got.res.Restarted)
	}
	for _, n := range reads.names {
		if n != "app0.service" {
			t.Errorf("%s is read whole, and nothing of it changed: %v", n, reads.names)
			break
		}
	}
	if len(reads.names) == 0 {
		t.Error("what was restarted was not read")
	}
}
