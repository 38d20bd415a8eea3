package real

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/systemd"
)

// pollTime is how often is looked whether a user's systemd, which is about to start, has.
const pollTime = 100 * time.Millisecond

// users opens the systemds of users. Each is a unit of the host's, user@UID.service.
type users struct {
	host     *systemd.Systemd
	accounts Accounts

	mu   sync.Mutex
	open map[int]*systemd.Systemd
}

// Open is the systemd of a user; nil where it does not run. One that is about to start is waited for.
func (u *users) Open(ctx context.Context, user string, start bool) (machine.Systemd, error) {
	a, there, err := u.accounts.User(user)
	if err != nil {
		return nil, fmt.Errorf("look up user %s: %w", user, err)
	}
	if !there && start {
		return nil, fmt.Errorf("the host has no user %s", user)
	}
	if !there {
		return nil, nil
	}

	of, err := u.reach(ctx, a.UID)
	if !errors.Is(err, systemd.ErrNotRunning) {
		return of, err
	}
	if runs, err := u.started(ctx, a.UID, start); !runs || err != nil {
		return nil, err
	}

	of, err = u.reach(ctx, a.UID)
	if errors.Is(err, systemd.ErrNotRunning) && !start {
		return nil, nil
	}
	return of, err
}

// reach gives the connection to a user's systemd.
func (u *users) reach(ctx context.Context, uid int) (machine.Systemd, error) {
	u.mu.Lock()
	defer u.mu.Unlock()

	if of := u.open[uid]; of != nil {
		if err := of.Reach(ctx); err == nil {
			return of, nil
		}
		of.Close()
		delete(u.open, uid)
	}

	of, err := systemd.OfUser(ctx, uid)
	if err != nil {
		return nil, err
	}
	if u.open == nil {
		u.open = map[int]*systemd.Systemd{}
	}
	u.open[uid] = of
	return of, nil
}

// started says whether the systemd of a user runs by now. It is waited for where it starts, as after a boot,
// and started where start says so.
func (u *users) started(ctx context.Context, uid int, start bool) (bool, error) {
	unit := userManager(uid)
	if start {
		if err := u.host.Job(ctx, "start", []string{unit})[unit]; err != nil {
			return false, fmt.Errorf("start the user's own systemd: %w (journalctl -u %s says why)", err, unit)
		}
		return true, nil
	}

	for {
		states, err := u.host.Units(ctx, []string{unit})
		if err != nil {
			return false, err
		}
		if st := states[unit]; !st.Job && st.Active != "activating" {
			return st.Active == "active", nil
		}

		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(pollTime):
		}
	}
}

func userManager(uid int) string { return fmt.Sprintf("user@%d.service", uid) }

// End stops the systemd of a user who does not linger, and as whom nobody is logged in: a login's end would
// do so.
func (u *users) End(ctx context.Context, user string) error {
	a, there, err := u.accounts.User(user)
	if err != nil || !there || a.UID <= 0 {
		return err
	}
	if _, err := os.Lstat(filepath.Join(bundle.LingerDir, user)); err == nil || loggedIn("/run/systemd", a.UID) {
		return nil
	}

	unit := userManager(a.UID)
	states, err := u.host.Units(ctx, []string{unit})
	if err != nil || !states[unit].Running() {
		return err
	}
	return u.host.Job(ctx, "stop", []string{unit})[unit]
}

// loggedIn says whether systemd-logind, which writes below dir, knows a session of a user beside the one of
// the user's own systemd.
func loggedIn(dir string, uid int) bool {
	of := variables(filepath.Join(dir, "users", fmt.Sprint(uid)))
	for _, id := range strings.Fields(of["SESSIONS"]) {
		session := variables(filepath.Join(dir, "sessions", filepath.Base(id)))
		if !strings.HasPrefix(session["CLASS"], "manager") {
			return true
		}
	}
	return false
}

// variables reads lines of NAME=value.
func variables(path string) map[string]string {
	all := map[string]string{}
	text, _ := os.ReadFile(path)
	for line := range strings.Lines(string(text)) {
		if name, value, is := strings.Cut(strings.TrimSpace(line), "="); is {
			all[name] = value
		}
	}
	return all
}

// Close ends all connections.
func (u *users) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, of := range u.open {
		of.Close()
	}
	u.open = nil
	return nil
}
