package nixsystem

import (
	"context"
	"os"
	"sync"
	"syscall"
	"time"

	"bellhop/internal/host/machine"
)

// Owners gives keys to those of their owners that the host has, and names the keys whose owner it does not have. A
// switch makes users and removes users, so it is called while one is under way and after it. Nil: there are no keys.
type Owners func(context.Context) (late []string, err error)

// While a switch is under way, keys are given to their owners as soon as the files change in which accounts are, so that
// units which are started after the users were made find keys that they can read.
const (
	filesEvery = 20 * time.Millisecond // how often it is looked whether the files changed, which costs two calls of stat
	// Accounts may be elsewhere too (LDAP, systemd-userdbd), and to ask for those starts a program: that is done after
	// askFirst, and then after twice as long each time, up to askMost.
	askFirst = 20 * time.Millisecond
	askMost  = 2 * time.Second
)

// accountFiles are where the accounts of a host itself are. They are exchanged as a whole, or written to.
var accountFiles = [...]string{"/etc/passwd", "/etc/group"}

// A filesState tells two states of accountFiles apart.
type filesState [len(accountFiles)]struct {
	inode uint64
	size  int64
	at    time.Time
}

func stateOfFiles(m *machine.Machine) (all filesState) {
	for i, name := range accountFiles {
		info, err := os.Stat(m.At(name))
		if err != nil {
			continue
		}
		all[i].size, all[i].at = info.Size(), info.ModTime()
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			all[i].inode = st.Ino
		}
	}
	return all
}

// giveWhile gives keys to owners that come and go, until ctx ends. What can't be done is tried again, and counts only
// after the switch.
func giveWhile(ctx context.Context, m *machine.Machine, owners Owners) {
	files, wait := stateOfFiles(m), askFirst
	next := time.Now().Add(wait)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(filesEvery):
		}

		now := stateOfFiles(m)
		if now != files {
			files, wait = now, askFirst
		} else if time.Now().Before(next) {
			continue
		}
		_, _ = owners(ctx)
		wait = min(2*wait, askMost)
		next = time.Now().Add(wait)
	}
}

// given is what came of the keys in the end.
type given struct {
	late []string // those whose owner is not there
	err  error    // of giving them
}

// switchWithOwners is switchTo, with keys given to owners that come and go.
func (c commands) switchWithOwners(ctx context.Context, owners Owners, system, verb string) (st machine.CommandState, keys given, err error) {
	if owners == nil {
		st, err = c.switchTo(ctx, system, verb)
		return st, keys, err
	}

	during, end := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() { giveWhile(during, c.m, owners) })
	st, err = c.switchTo(ctx, system, verb)
	end()
	work.Wait()

	if ctx.Err() != nil {
		return st, keys, err
	}
	keys.late, keys.err = owners(ctx)
	return st, keys, err
}
