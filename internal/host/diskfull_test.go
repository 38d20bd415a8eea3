package host_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/host"
)

// A failingDisk takes no more from the nth sync on: once, or until it is mended.
type failingDisk struct {
	left   int  // syncs that still work
	once   bool // only one fails
	failed int
}

func (d *failingDisk) sync() error {
	if d.left--; d.left >= 0 || d.once && d.failed > 0 {
		return nil
	}
	d.failed++
	return unix.ENOSPC
}

func (d *failingDisk) Sync(*os.File) error   { return d.sync() }
func (d *failingDisk) Syncfs(*os.File) error { return d.sync() }

// The disk is full at every moment that a run writes something that must last. Once it has room
// again, the host holds all of the old or all of the new, and the result says which.
func TestDiskFullAtEveryStep(t *testing.T) {
	for _, w := range []window{{name: "no window"}, {"confirmed", longWindow, true}, {"unconfirmed", shortWindow, false}} {
		for _, once := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/once %v", w.name, once), func(t *testing.T) { walkFullDisk(t, w, once) })
		}
	}
}

func walkFullDisk(t *testing.T, w window, once bool) {
	to := func() *load {
		l := bot("two").file("/etc/bot/new", "new").service("new.service", "[Service]\n[Install]\n")
		l.keys["token"] = "rotated"
		return l
	}
	fresh := newBox(t)
	fresh.deploy(bot("one"), bundle.OutcomeDone)
	fresh.deploy(to(), bundle.OutcomeDone)
	new := fresh.all()

	for n := 0; ; n++ {
		b := newBox(t)
		b.deploy(bot("one"), bundle.OutcomeDone)
		old := b.all()
		l := to()
		run := b.stageOffer(l.confirming(w.millis), l)
		disk := &failingDisk{left: n, once: once}
		b.m.Disk = disk
		yes := w.yes
		b.whileWaiting(func() {
			if yes { // a full disk may say no to the word, too
				b.confirm(run)
			}
		})
		err := host.Apply(context.Background(), b.m, run)
		if disk.failed == 0 {
			if n < 5 {
				t.Fatalf("only %d syncs to fail at", n)
			}
			b.checkEnd(run, w)
			return
		}

		b.m.Disk, yes = (*noDisk)(b), true // there is room again
		if err != nil {
			b.comeBack(run, false)
		}
		b.checkWhole(fmt.Sprintf("no room at sync %d (Apply: %v)", n, err), run, old, new, to, false)
		if t.Failed() {
			return
		}
	}
}
