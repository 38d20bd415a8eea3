package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/host/check"
	"bellhop/internal/host/machine"
)

// claimWait is how long a session waits for the turn of another, which starts a unit within 30 s.
const claimWait = 35 * time.Second

// A connection that breaks leaves a helper behind, which may have received all it needs and go on when the
// deployer has long been back over another. So sessions take turns: one that began before the one
// that claimed the host last is void, and begins nothing any more.
type lastClaim struct {
	BootID string `json:"boot_id"`
	Began  int64  `json:"began"` // of the session that claimed last, nanoseconds since boot
}

// SinceBoot tells sessions of one boot apart, by when they began.
func SinceBoot() int64 {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &t)
	return t.Nano()
}

// Claim waits for the turn of the session that began then. With first it claims the host; without,
// it must have, and no other since. A session that is void is refused as busy.
func (m Dir) Claim(began int64, first bool) (end func(), err error) {
	f, err := os.OpenFile(m.At(claimPath), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}

	end, err = Flock(f, claimWait)
	if errors.Is(err, machine.ErrBusy) {
		return nil, check.Refuse(bundle.RefusedBusy, "another session takes its time: %w", err)
	}
	if err != nil {
		return nil, err
	}
	if err := m.claimed(f, began, first); err != nil {
		end()
		return nil, err
	}

	return end, nil
}

func (m Dir) claimed(f *os.File, began int64, first bool) error {
	boot, err := m.BootID()
	if err != nil {
		return err
	}

	var last lastClaim
	if json.NewDecoder(f).Decode(&last) != nil || last.BootID != boot { // none, torn, or of another boot
		last.Began = 0
	}
	if last.Began > began || !first && last.Began != began {
		return check.Refuse(bundle.RefusedBusy, "another session came after this one")
	}
	if !first || last.Began == began {
		return nil
	}

	p, err := json.Marshal(lastClaim{boot, began})
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}

	_, err = f.WriteAt(p, 0)
	return err
}

// Lock takes the lock of this host for the life of a run, waiting up to wait. It dies with
// its process. ErrBusy says that somebody else has it.
func (m Dir) Lock(wait time.Duration) (unlock func(), err error) {
	if err := m.Make(); err != nil {
		return nil, err
	}

	f, err := os.OpenFile(m.At(lockPath), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return Flock(f, wait)
}

// Flock locks f, which it closes when it can't, or when it is unlocked.
func Flock(f *os.File, wait time.Duration) (unlock func(), err error) {
	pause := time.Millisecond
	for end := time.Now().Add(wait); ; time.Sleep(pause) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR || time.Now().After(end) {
			break
		}
		pause = min(2*pause, 5*time.Millisecond) // who holds it is often about to end
	}

	f.Close()
	if err == unix.EWOULDBLOCK {
		return nil, machine.ErrBusy
	}
	return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
}
