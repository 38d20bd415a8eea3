package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"bellhop/deploy/follow"
	"bellhop/deploy/plan"
	"bellhop/internal/bundle"
	"bellhop/internal/history"
)

// A service whose secret does not open is held back from the start: the others are brought in one
// session. When it opens, it comes too.
func TestASecretThatDoesNotOpen(t *testing.T) {
	w := newWorld(t, "a")
	open := w.d.Loader.Open
	w.d.Loader.Open = func(tree fs.FS, path string) ([]byte, error) {
		p, err := open(tree, path)
		if err == nil && string(p) == "sealed for somebody else" {
			return nil, errors.New("no identity opens it")
		}
		return p, err
	}
	numbered(w, "a", 3, "one\n")
	w.files["services/s01/service.yaml"] = "keys: [db]\n"
	w.files["secrets/db.age"] = "hunter2"
	first := w.push("first", history.OutcomeDone)

	numbered(w, "a", 3, "two\n")
	w.files["secrets/db.age"] = "sealed for somebody else"
	before := w.sessions("a")
	w.push("second", history.OutcomePartial)
	if got := w.sessions("a") - before; got != 1 {
		t.Errorf("%d sessions, want 1", got)
	}
	w.wantState("a", history.HeldBack, *first.Commit)
	wantServices(w, "a", "s00 current 02", "s01 held-back 01", "s02 current 02")
	if e := *w.state("a").Error; !strings.Contains(e, "secrets/db.age: a: key db: no identity opens it") {
		t.Errorf("error: %s", e)
	}
	if holds(w, "a", "s01") != "one\n" || read(t, w.machines["a"].Path("/run/keys/db")) != "hunter2" {
		t.Errorf("s01 holds %q, its key %q", holds(w, "a", "s01"), read(t, w.machines["a"].Path("/run/keys/db")))
	}

	w.must(w.machines["a"].Reboot())
	ks, err := w.d.Keys().Push(t.Context(), "")
	w.must(err)
	if len(ks) != 1 || ks[0].Error != nil || read(t, w.machines["a"].Path("/run/keys/db")) != "hunter2" {
		t.Errorf("keys after a reboot: %+v", ks)
	}

	w.files["secrets/db.age"] = "swordfish"
	third := w.push("third", history.OutcomeDone)
	w.wantState("a", history.Current, *third.Commit)
	if got := read(t, w.machines["a"].Path("/run/keys/db")); got != "swordfish" {
		t.Errorf("key db is %q", got)
	}
}

// A host on which nothing else changes is refused for a secret that does not open, by name.
func TestOnlyASecretThatDoesNotOpen(t *testing.T) {
	w := newWorld(t, "a")
	w.d.Loader.Open = func(tree fs.FS, path string) ([]byte, error) { return nil, errors.New("no identity opens it") }
	numbered(w, "a", 2, "one\n")
	first := w.push("first", history.OutcomeDone)
	w.files["services/s01/service.yaml"] = "keys: [db]\n"
	w.files["secrets/db.age"] = "x"
	before := w.sessions("a")
	w.push("second", history.OutcomeRefused)
	if w.sessions("a") != before {
		t.Error("a host was contacted for nothing")
	}
	w.wantState("a", history.Refused, *first.Commit)
	wantServices(w, "a", "s00 current 01", "s01 failed 01")
}

// keyedHost is a host whose service s01 has a key.
func keyedHost(t *testing.T) (w *world, first *history.Run) {
	w = newWorld(t, "a")
	numbered(w, "a", 3, "one\n")
	w.files["services/s01/service.yaml"] = "keys: [db]\n"
	w.files["secrets/db.age"] = "hunter2"
	return w, w.push("first", history.OutcomeDone)
}

// breaksKeyed changes all services, and has s01 fail with another value of its key.
func breaksKeyed(w *world) {
	numbered(w, "a", 3, "two\n")
	w.files["secrets/db.age"] = "swordfish"
	breaks(w, "s01")
}

// keyedPair is that host after s01 was held back.
func keyedPair(t *testing.T) (w *world, first *history.Run) {
	w, first = keyedHost(t)
	breaksKeyed(w)
	w.push("second", history.OutcomePartial)
	return w, first
}

// The keys of a composed generation come back after a reboot: each of the commit that it came from, by
// this process and by the next.
func TestKeysOfAComposedGeneration(t *testing.T) {
	w, _ := keyedPair(t)
	for range 2 {
		w.must(w.machines["a"].Reboot())
		ks, err := w.d.Keys().Push(t.Context(), "")
		w.must(err)
		if len(ks) != 1 || ks[0].Error != nil || read(t, w.machines["a"].Path("/run/keys/db")) != "hunter2" {
			t.Errorf("keys after a reboot: %+v", ks)
		}
		w.d = w.deployer("SHA256:one")
	}
}

// What the host has lost of a service that is held back comes from the commit that it came from.
func TestHealingAHeldService(t *testing.T) {
	w, _ := keyedPair(t)
	m := w.machines["a"]
	w.must(os.WriteFile(m.Path("/etc/s01.conf"), []byte("by hand\n"), 0o644), os.RemoveAll(m.Path("/var/lib/bellhop/blobs")), os.Mkdir(m.Path("/var/lib/bellhop/blobs"), 0o700),
		os.Remove(m.Path("/run/keys/db")))
	w.files["services/s00/files/etc/s00.conf"] = "three\n"
	w.push("third", history.OutcomePartial)
	if holds(w, "a", "s01") != "one\n" || read(t, m.Path("/run/keys/db")) != "hunter2" || holds(w, "a", "s00") != "three\n" {
		t.Errorf("s01 holds %q, its key %q; s00 %q", holds(w, "a", "s01"), read(t, m.Path("/run/keys/db")), holds(w, "a", "s00"))
	}
}

// A key that nobody can open any more stays where it is on the host. When it is gone there too, the host
// as a whole goes back.
func TestAKeptKeyThatNobodyOpens(t *testing.T) {
	for _, gone := range []bool{false, true} {
		t.Run(fmt.Sprint("gone: ", gone), func(t *testing.T) {
			w := newWorld(t, "a")
			numbered(w, "a", 3, "one\n")
			w.files["services/s01/service.yaml"] = "keys: [db]\n"
			w.files["secrets/db.age"] = "hunter2"
			w.push("first", history.OutcomeDone)

			w.d.Filter = func(map[string][]byte) func(string) string { return func(s string) string { return s } }
			open := w.d.Loader.Open
			w.d.Loader.Open = func(tree fs.FS, path string) ([]byte, error) {
				p, err := open(tree, path)
				if string(p) == "hunter2" {
					return nil, errors.New("that identity is lost")
				}
				return p, err
			}
			numbered(w, "a", 3, "two\n")
			w.files["secrets/db.age"] = "swordfish"
			breaks(w, "s01")
			want, state, other := history.OutcomePartial, history.HeldBack, "two\n"
			if gone {
				before := w.d.Progress
				w.d.Progress = func(e follow.Event) {
					before(e)
					if e.Step == "note" && strings.Contains(e.Text, "brought without") {
						os.Remove(w.machines["a"].Path("/run/keys/db"))
					}
				}
				want, state, other = history.OutcomeFailed, history.RolledBack, "one\n"
			}
			w.push("second", want)
			if got := w.state("a"); got.State != state || holds(w, "a", "s00") != other {
				t.Errorf("host is %s (%s), s00 holds %q", got.State, *got.Error, holds(w, "a", "s00"))
			}
			if p, err := os.ReadFile(w.machines["a"].Path("/run/keys/db")); !gone && (err != nil || string(p) != "hunter2") {
				t.Errorf("the key is %q, %v", p, err)
			}
		})
	}
}

// A deployer that dies in the middle of a try finds out what came of it, remembers what failed, and its
// next run brings the rest.
func TestDeployerDiesBetweenTries(t *testing.T) {
	for _, try := range []int{1, 2} {
		t.Run(fmt.Sprint("try ", try), func(t *testing.T) {
			w, first := keyedHost(t)
			ctx, cancel := context.WithCancel(t.Context())
			c := &cutter{Links: w.d.Links, host: w.machines["a"], died: cancel}
			if try == 1 {
				c.when = after(bundle.FrameEnd)
			}
			w.d.Links = c
			before := w.d.Progress
			w.d.Progress = func(e follow.Event) {
				before(e)
				if e.Step == "note" && try == 2 {
					c.mu.Lock()
					c.when = after(bundle.FrameEnd)
					c.mu.Unlock()
				}
			}
			breaksKeyed(w)
			second := w.commit("second")
			if r, err := w.d.Run(ctx, plan.Request{Cause: "push"}); err == nil && *r.Outcome != history.OutcomeCancelled {
				t.Fatalf("a run whose deployer died is %s", *r.Outcome)
			}
			w.wantState("a", history.Deploying, *first.Commit)

			w.d = w.deployer(w.d.ID)
			w.must(w.d.Settle(t.Context()))
			sessions := w.sessions("a")
			w.run(plan.Request{Cause: "start"}, map[int]history.Outcome{1: history.OutcomePartial, 2: history.OutcomeFailed}[try])
			if got, want := w.sessions("a")-sessions, 2-try; got != want {
				t.Errorf("%d sessions after it was found out, want %d", got, want)
			}
			w.wantState("a", history.HeldBack, *first.Commit)
			wantServices(w, "a", "s00 current 02", "s01 held-back 01", "s02 current 02")
			if holds(w, "a", "s00") != "two\n" || holds(w, "a", "s01") != "one\n" || second == "" {
				t.Errorf("s00 holds %q, s01 %q", holds(w, "a", "s00"), holds(w, "a", "s01"))
			}

			w.must(w.machines["a"].Reboot())
			ks, err := w.d.Keys().Push(t.Context(), "")
			w.must(err)
			if len(ks) != 1 || ks[0].Error != nil || read(t, w.machines["a"].Path("/run/keys/db")) != "hunter2" {
				t.Errorf("keys after a reboot: %+v", ks)
			}
		})
	}
}

// A host that was held back and holds another generation than remembered is brought back to the
// composed bundle, also one that has lost its record.
func TestAHeldHostThatStandsElsewhere(t *testing.T) {
	w, first := keyedPair(t)
	m := w.machines["a"]
	w.must(os.Remove(m.Path(bundle.RecordPath)), os.WriteFile(m.Path("/etc/s00.conf"), []byte("by hand\n"), 0o644))
	w.run(plan.Request{Cause: "deploy", All: true}, history.OutcomePartial)
	w.wantState("a", history.HeldBack, *first.Commit)
	if holds(w, "a", "s00") != "two\n" || holds(w, "a", "s01") != "one\n" {
		t.Errorf("s00 holds %q, s01 %q", holds(w, "a", "s00"), holds(w, "a", "s01"))
	}
	if o := recordOf(w, "a").Origins; len(o) != 3 {
		t.Errorf("origins: %+v", o)
	}
}

// One that finds a run which it left open, and can't open the keys of the host any more, still hears which
// service failed.
func TestOpenRunWhoseKeysDoNotOpen(t *testing.T) {
	w, _ := keyedHost(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.d.Links = &cutter{Links: w.d.Links, when: after(bundle.FrameEnd), host: w.machines["a"], died: cancel}
	breaksKeyed(w)
	w.commit("second")
	w.d.Run(ctx, plan.Request{Cause: "push"})

	w.d = w.deployer(w.d.ID)
	w.d.Filter = func(map[string][]byte) func(string) string { return func(s string) string { return s } }
	w.d.Loader.Open = func(fs.FS, string) ([]byte, error) { return nil, errors.New("that identity is lost") }
	w.must(w.d.Settle(t.Context()))
	failed, err := w.db.FailedServices(t.Context())
	w.must(err)
	if len(failed["a"]) != 1 || failed["a"][0].Service != "s01" {
		t.Errorf("remembered as failed: %+v, want s01", failed)
	}
}
