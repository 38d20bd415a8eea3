package conformance

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
)

// applyUnit asks for a run that nobody staged, with the host's lock held by another, so that
// it waits. As long as the unit is there its name is the lock; after that the name is free.
func applyUnit(b *bench) {
	release := b.holdLock()
	b.must(b.m.Systemd.StartApply(b.ctx, "bhconf-1"))
	if err := b.m.Systemd.StartApply(b.ctx, "bhconf-2"); !errors.Is(err, machine.ErrBusy) {
		b.Errorf("a second StartApply = %v, want ErrBusy", err)
	}
	if st := b.state(bundle.ApplyUnit); st.Load != "loaded" {
		b.Errorf("the unit while it is there: %+v", st)
	}

	release()
	b.applyLeaves()
	b.must(b.m.Systemd.StartApply(b.ctx, "bhconf-3"))
	b.applyLeaves()
	if err := b.m.Systemd.StartApply(b.ctx, "run; rm"); err == nil {
		b.Error("StartApply took a run id that systemd would parse")
	}

	b.paths = append(b.paths, bundle.StateDir+"/runs/bhconf-1", bundle.StateDir+"/runs/bhconf-3")
}

func (b *bench) holdLock() (release func()) {
	b.must(os.MkdirAll(b.path(bundle.StateDir), 0o711))
	f, err := os.OpenFile(b.path(bundle.StateDir+"/lock"), os.O_RDWR|os.O_CREATE, 0o600)
	b.must(err)
	b.must(unix.Flock(int(f.Fd()), unix.LOCK_EX))
	return func() { f.Close() }
}

func (b *bench) applyLeaves() {
	b.Helper()
	for end := time.Now().Add(time.Minute); b.state(bundle.ApplyUnit).Load == "loaded"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatal("the apply unit does not leave")
		}
	}
}
