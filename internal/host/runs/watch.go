package runs

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A Watch tells when a run may have something new to say.
type Watch struct {
	notify *os.File      // inotify; nil where the kernel has none to give
	pause  time.Duration // where there is none: until the next look
}

// Looks without inotify come soon after something new, and then less and less often.
const (
	soonest = time.Millisecond
	latest  = 20 * time.Millisecond
)

// Watch watches the folder of a run, which is there: its events and its result.
func (r Runs) Watch(run string) *Watch {
	w := &Watch{pause: soonest}
	if r.Polls {
		return w
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return w // its instances are counted for each user
	}
	if _, err := unix.InotifyAddWatch(fd, r.Folder(run), unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO); err != nil {
		unix.Close(fd)
		return w
	}

	w.notify = os.NewFile(uintptr(fd), "inotify")
	if w.notify.SetReadDeadline(time.Time{}) != nil { // it could not be waited for
		w.notify.Close()
		w.notify = nil
	}
	return w
}

// Close gives back what the watch holds of the kernel.
func (w *Watch) Close() {
	if w.notify != nil {
		w.notify.Close()
	}
}

// Wait returns when there may be something new, after most at the latest, or as soon as ctx ends, with its
// error. isNew says that the last look found something.
func (w *Watch) Wait(ctx context.Context, most time.Duration, isNew bool) error {
	if w.notify == nil {
		return w.rest(ctx, most, isNew)
	}

	w.notify.SetReadDeadline(time.Now().Add(max(most, 0)))
	stop := context.AfterFunc(ctx, func() { w.notify.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	var changes [4096]byte // what they are does not matter: all of it is looked at
	w.notify.Read(changes[:])
	return ctx.Err()
}

func (w *Watch) rest(ctx context.Context, most time.Duration, isNew bool) error {
	w.pause = min(2*w.pause, latest)
	if isNew {
		w.pause = soonest
	}

	t := time.NewTimer(min(w.pause, most))
	defer t.Stop()

	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
