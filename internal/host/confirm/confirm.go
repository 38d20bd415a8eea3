// Package confirm decides whether a run that was applied stays.
//
// A window is the time in which a run waits for a deployer to confirm it. While it is open, the
// run's folder holds the file "waiting". A session that confirms the run renames it to "confirmed";
// a run that goes back removes it. Only one of the two can find the file, so the promise is: a
// deployer that was told yes, and a host that goes back, are never of the same run.
package confirm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Names of the two marks in the folder of a run.
const (
	waiting   = "waiting"
	confirmed = "confirmed"
)

// lookEvery is how often a window looks for the mark where the kernel has no inotify to give:
// its instances are counted for each user.
const lookEvery = 20 * time.Millisecond

// A Window is open in the folder of one run.
type Window struct {
	dir    string
	timer  int // timerfd
	notify int // inotify; -1 where there is none
	wake   int // eventfd
}

// Open opens a window of length d in dir, the folder of a run. The clock is one that goes on while
// the machine sleeps, and that nobody sets.
func Open(dir string, d time.Duration) (*Window, error) {
	w := &Window{dir: dir, timer: -1, notify: -1, wake: -1}
	if err := w.open(d); err != nil {
		w.Close()
		return nil, fmt.Errorf("open the window to confirm: %w", err)
	}
	return w, nil
}

func (w *Window) open(d time.Duration) (err error) {
	if w.timer, err = unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return fmt.Errorf("make a timer: %w", err)
	}

	once := unix.ItimerSpec{Value: unix.NsecToTimespec(max(1, d.Nanoseconds()))}
	if err := unix.TimerfdSettime(w.timer, 0, &once, nil); err != nil {
		return fmt.Errorf("set a timer: %w", err)
	}
	if w.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("make an event: %w", err)
	}

	w.watch()

	return os.WriteFile(filepath.Join(w.dir, waiting), nil, 0o600)
}

// watch asks the kernel to tell of the mark.
func (w *Window) watch() {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return
	}
	if _, err := unix.InotifyAddWatch(fd, w.dir, unix.IN_MOVED_TO); err != nil {
		unix.Close(fd)
		return
	}

	w.notify = fd
}

// Close gives back what the window holds of the kernel. The marks stay.
func (w *Window) Close() {
	for _, fd := range []int{w.timer, w.notify, w.wake} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// Wait returns true when the run is confirmed, and false when the time is over and nobody can
// confirm it any more. When ctx ends first, the window stays as it is.
func (w *Window) Wait(ctx context.Context) (bool, error) {
	stop := context.AfterFunc(ctx, func() { unix.Write(w.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) })
	defer stop()

	for {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if Is(w.dir) {
			return true, nil
		}

		over, err := w.poll()
		if err != nil {
			return false, fmt.Errorf("wait to be confirmed: %w", err)
		}
		if over {
			return Decide(w.dir)
		}
	}
}

// poll waits until something may have happened, and says whether the time is over.
func (w *Window) poll() (over bool, err error) {
	fds := []unix.PollFd{{Fd: int32(w.timer), Events: unix.POLLIN}, {Fd: int32(w.wake), Events: unix.POLLIN}}
	timeout := int(lookEvery.Milliseconds())
	if w.notify >= 0 {
		fds = append(fds, unix.PollFd{Fd: int32(w.notify), Events: unix.POLLIN})
		timeout = -1
	}

	if _, err := unix.Poll(fds, timeout); err != nil && err != unix.EINTR {
		return false, err
	}
	if w.notify >= 0 && fds[2].Revents != 0 {
		var events [4096]byte
		unix.Read(w.notify, events[:])
	}

	return fds[0].Revents != 0, nil
}

// Waits says whether a window is open in dir.
func Waits(dir string) bool { return is(dir, waiting) }

// Is says whether the run of dir was confirmed.
func Is(dir string) bool { return is(dir, confirmed) }

func is(dir, mark string) bool {
	_, err := os.Lstat(filepath.Join(dir, mark))
	return err == nil
}

// Grant confirms the run of dir, and returns once sync has made that durable. It returns false
// where no window is open and the run was not confirmed before. It may be called again.
func Grant(dir string, sync func(*os.File) error) (bool, error) {
	err := os.Rename(filepath.Join(dir, waiting), filepath.Join(dir, confirmed))
	if errors.Is(err, fs.ErrNotExist) {
		if !Is(dir) {
			return false, nil
		}
		err = nil
	}
	if err != nil {
		return false, err
	}

	d, err := os.Open(dir)
	if err != nil {
		return false, err
	}

	return true, errors.Join(sync(d), d.Close())
}

// Decide says whether the run of dir was confirmed. If it was not, nobody can confirm it any more.
func Decide(dir string) (bool, error) {
	err := os.Remove(filepath.Join(dir, waiting))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("end the window to confirm: %w", err)
	}
	return Is(dir), nil
}
