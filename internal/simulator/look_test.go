package simulator

import (
	"maps"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"
)

// A look at a host whose helper is of the release before reads no more than its record, and that tells
// that another deployer was there.
func TestALookByAFormerHelper(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, dir, beforePersons)
		first := w.repo.commits[0]
		c := first.config
		c.look = "10m"
		if err := w.repo.add(c, maps.Clone(first.snap.Tree.(fstest.MapFS)), w.hosts); err != nil {
			t.Fatal(err)
		}
		w.repo.visible, w.isCalm = 1, true
		w.start()
		defer func() { w.life.end() }()

		w.pass(5 * time.Minute)
		h := w.hosts[0]
		w.theft(h)
		w.pass(40 * time.Minute)

		w.mu.Lock()
		defer w.mu.Unlock()
		if h.record == nil || h.record.Deployer != w.life.d.ID {
			t.Errorf("after 40 minutes with looks the record of %s is %+v, want one of its own deployer", h.name, h.record)
		}
	})
}
