package deploy

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// ErrLocked says that another bellhop works with this state directory.
var ErrLocked = errors.New("another bellhop works with this state directory")

// Lock takes the one lock that a server and one-shot commands share. It is a flock, so it
// dies with its process; on a network file system it may not hold, so state is for local
// disks. On the deployer's own host that directory is the host's, too, whose lock is called
// "lock".
func Lock(stateDir string) (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(stateDir, "deployer.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the state directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", stateDir, ErrLocked)
		}
		return nil, fmt.Errorf("lock %s: %w", stateDir, err)
	}
	return f.Close, nil
}
