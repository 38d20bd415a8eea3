package host_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bellhop/internal/bundle"
	"bellhop/internal/host"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/state"
	"bellhop/internal/lab"
)

// keyOf adds a key of the system, whose owner is a user of that name.
func (l *load) keyOf(user, name, value string) *load {
	l.Keys = append(l.Keys, bundle.Key{Name: name, Path: bundle.KeyDir + "/" + name, User: user, Group: user, Mode: 0o440, Service: bundle.SystemService})
	l.keys[name] = value
	return l
}

// keyAt is all that one can see of a key.
func keyAt(m *lab.Machine, name string) string {
	p := bundle.KeyDir + "/" + name
	value, err := os.ReadFile(m.Path(p))
	if err != nil {
		return "none"
	}
	st, err := os.Stat(m.Path(p))
	if err != nil {
		return "none"
	}
	user, group, _ := m.Owner(p)
	return fmt.Sprintf("%s:%s %o %s", user, group, st.Mode().Perm(), value)
}

// usersSystems are systemOne, which makes the user old, and systemTwo, which makes bot in its place.
func usersSystems(two lab.Toplevel) (one, next lab.Toplevel) {
	one = topOne()
	one.Users, two.Users = []string{"old"}, []string{"bot"}
	return one, two
}

// newUsers is a NixOS host on which systemOne and a key of its user old were deployed.
func newUsers(t *testing.T, two lab.Toplevel) *lab.Machine {
	t.Helper()
	m := lab.NewMachine(t.TempDir())
	one, two := usersSystems(two)
	m.MakeNixOS(systemOne, one)
	m.AddSystem(systemTwo, two)
	l := systemLoad(systemOne, "").keyOf("old", "token", "one")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	if got := keyAt(m, "token"); got != "old:old 440 one" {
		t.Fatalf("at first the key is %s", got)
	}
	return m
}

// A key comes before the switch, and may belong to a user whom only the switch makes.
func TestNixOSKeyOfANewUser(t *testing.T) {
	m := newUsers(t, topTwo())
	var before string
	m.Host().Reached = func(step string) {
		if step == "keys" {
			before = keyAt(m, "token")
		}
	}
	l := systemLoad(systemTwo, "").keyOf("bot", "token", "two")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	if before != "root:root 400 two" {
		t.Errorf("before the switch the key is %s, and its user is not there", before)
	}
	if got := keyAt(m, "token"); got != "bot:bot 440 two" {
		t.Errorf("after the switch the key is %s", got)
	}
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeNothing)

	// Back again: the user of the first system is made anew by the switch.
	back := systemLoad(systemOne, "").keyOf("old", "token", "one")
	twinDeploy(t, m, back.offer(), back, bundle.OutcomeDone)
	if got := keyAt(m, "token"); got != "old:old 440 one" {
		t.Errorf("back at the first system the key is %s", got)
	}
}

// A run that goes back leaves each key as it was, though the switch removed the user whose it is.
func TestNixOSKeyOfANewUserGoesBack(t *testing.T) {
	failing := topTwo()
	failing.Units["comes.service"] = badUnit
	for name, l := range map[string]*load{
		"the key changes":                    systemLoad(systemTwo, "").keyOf("bot", "token", "two"),
		"the key stays, and its user leaves": systemLoad(systemTwo, "").keyOf("old", "token", "one"),
		"the key leaves":                     systemLoad(systemTwo, ""),
	} {
		m := newUsers(t, failing)
		twinDeploy(t, m, l.offer(), l, bundle.OutcomeRolledBack)
		if got := keyAt(m, "token"); got != "old:old 440 one" {
			t.Errorf("%s: after the rollback the key is %s", name, got)
		}
	}
}

// An owner whom not even the new system makes fails the run, and is named.
func TestNixOSKeyOfNobody(t *testing.T) {
	m := newUsers(t, topTwo())
	l := systemLoad(systemTwo, "").keyOf("nobody-makes-it", "token", "two")
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeRolledBack)
	if !strings.Contains(got.res.Error, "token") || !strings.Contains(got.res.Error, "makes none") {
		t.Errorf("nobody is told of the key: %q", got.res.Error)
	}
	if got := keyAt(m, "token"); got != "old:old 440 one" || m.CurrentSystem() != systemOne {
		t.Errorf("after the rollback the key is %s, and %s runs", got, m.CurrentSystem())
	}

	l = systemLoad(systemOne, "").keyOf("nobody-makes-it", "token", "two")
	got = twinDeploy(t, m, l.offer(), l, bundle.OutcomeRefused)
	if !strings.Contains(got.res.Error, "no user nobody-makes-it") {
		t.Errorf("refused for %q", got.res.Error)
	}
}

// A system that waits for the next boot makes its users then: until then the key is root's, and counts as in place.
func TestNixOSKeyOfAUserOfTheNextBoot(t *testing.T) {
	m := newUsers(t, topTwo())
	l := systemLoad(systemTwo, bundle.ActionBoot).keyOf("bot", "token", "two")
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	if w := strings.Join(got.res.Warnings, " "); !strings.Contains(w, "token") || !strings.Contains(w, "next boot") {
		t.Errorf("warnings %q do not say that the key is root's", got.res.Warnings)
	}
	if got := keyAt(m, "token"); got != "root:root 400 two" {
		t.Errorf("while the system waits the key is %s", got)
	}
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeNothing)

	if err := m.Reboot(); err != nil {
		t.Fatal(err)
	}
	twinDeploy(t, m, keysOffer(l), l, bundle.OutcomeNothing)
	if got := keyAt(m, "token"); got != "bot:bot 440 two" {
		t.Errorf("after the boot the key is %s", got)
	}
}

// A boot may bring a system that does not have the owner, as where the plug was pulled: the key comes all the same.
func TestNixOSKeyComesBackWithoutItsUser(t *testing.T) {
	m := newUsers(t, topTwo())
	l := systemLoad(systemTwo, bundle.ActionTest).keyOf("bot", "token", "two")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	if err := m.Reboot(); err != nil {
		t.Fatal(err)
	}
	twinDeploy(t, m, keysOffer(l), l, bundle.OutcomeNothing)
	if got := keyAt(m, "token"); got != "root:root 400 two" {
		t.Errorf("the key is %s on a host without its user", got)
	}
}

// A run that is killed after any step leaves the key with the owner that the system which runs has for it.
func TestNixOSKeyOfANewUserKilledAfterEveryStep(t *testing.T) {
	for n := 1; ; n++ {
		m := newUsers(t, topTwo())
		l := systemLoad(systemTwo, "").keyOf("bot", "token", "two")
		at, died := nixosKillAt(t, m, l, n, "kill")
		if !died {
			if n < 10 {
				t.Fatalf("only %d steps to die at", n)
			}
			break
		}
		if err := host.Settle(context.Background(), m.Host()); err != nil {
			t.Fatal(err)
		}
		now, err := state.Of(m.Host()).Current()
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{systemOne: "old:old 440 one", systemTwo: "bot:bot 440 two"}[now.Manifest.System.Path]
		if d := cmp.Diff(want, keyAt(m, "token")); d != "" {
			t.Errorf("killed after %s the key is wrong (-want +got):\n%s", at, d)
		}
	}
}

// What stands in the place of a key and is none, as Docker makes a folder there, holds no undo up.
func TestNixOSGoesBackWithAFolderInPlaceOfAKey(t *testing.T) {
	failing := topTwo()
	failing.Units["comes.service"] = badUnit
	for name, put := range map[string]func(string) error{
		"folder": func(p string) error { return os.Mkdir(p, 0o755) },
		"link":   func(p string) error { return os.Symlink("/nowhere", p) },
	} {
		m := newUsers(t, failing)
		m.Host().Reached = func(step string) {
			p := m.Path(bundle.KeyDir + "/token")
			if step == "switched" && (os.Remove(p) != nil || put(p) != nil) {
				t.Errorf("%s: it can't be put in place of the key", name)
			}
		}
		l := systemLoad(systemTwo, "").keyOf("old", "token", "one")
		twinDeploy(t, m, l.offer(), l, bundle.OutcomeRolledBack)
		if m.CurrentSystem() != systemOne {
			t.Errorf("%s: %s runs", name, m.CurrentSystem())
		}
	}
}

// silentAccounts can't be asked for old while they are silent, as those of a directory service that restarts.
type silentAccounts struct {
	machine.Accounts
	silent *atomic.Bool
}

func (a silentAccounts) User(name string) (machine.Account, bool, error) {
	if name == "old" && a.silent.Load() {
		return machine.Account{}, false, errors.New("the directory does not answer")
	}
	return a.Accounts.User(name)
}

// A key whose owner can't be asked for while a run goes back leaves the undo whole: the next run finds the host as it was.
func TestNixOSGoesBackWhileNobodyKnowsOwners(t *testing.T) {
	failing := topTwo()
	failing.Units["comes.service"] = badUnit
	m := newUsers(t, failing)
	h, silent := m.Host(), &atomic.Bool{}
	h.Accounts = silentAccounts{h.Accounts, silent}
	h.Reached = func(step string) {
		if step == "undo profile" {
			silent.Store(true)
		}
	}
	l := systemLoad(systemTwo, "").keyOf("old", "token", "one")
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeFailed)
	if !strings.Contains(got.res.Error, "key token: look up user old") || m.CurrentSystem() != systemOne {
		t.Errorf("the run says %q, and %s runs", got.res.Error, m.CurrentSystem())
	}
	if err := host.Settle(t.Context(), h); err != nil {
		t.Errorf("the undo was left open: %v", err)
	}
	silent.Store(false)

	back := systemLoad(systemOne, "").keyOf("old", "token", "one")
	twinDeploy(t, m, back.offer(), back, bundle.OutcomeDone)
	if got := keyAt(m, "token"); got != "old:old 440 one" {
		t.Errorf("after the next run the key is %s", got)
	}
}
