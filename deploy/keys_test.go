package deploy_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"bellhop/deploy/commits"
	"bellhop/deploy/keys"
	"bellhop/internal/history"
	"bellhop/secrets/agefile"
)

// realAge makes the world's secrets age files of one identity, opened as a server opens them.
func (w *world) realAge() (seal func(value string) string) {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "identity.age")
	identity, err := agefile.NewIdentity()
	w.must(err)
	w.must(os.WriteFile(path, identity, 0o600))
	ids, err := agefile.Sources{Files: []string{path}}.Load()
	w.must(err)
	to, err := agefile.ParseRecipient(ids.Recipients()[0])
	w.must(err)
	w.d.Loader.Open = func(tree fs.FS, path string) ([]byte, error) {
		p, err := fs.ReadFile(tree, path)
		if err != nil {
			return nil, err
		}
		return ids.Open(path, p)
	}
	return func(value string) string {
		p, err := agefile.Seal([]byte(value), []agefile.Recipient{to}, agefile.SealOptions{})
		w.must(err)
		return string(p)
	}
}

// vault gives every host a service with n keys, value says which value each has.
func (w *world) vault(n int, seal func(string) string, value func(i int) string) {
	y := "keys:\n"
	for i := range n {
		y += fmt.Sprintf("  key%d: { source: secrets/key%d.age }\n", i, i)
		w.files[fmt.Sprintf("secrets/key%d.age", i)] = seal(value(i))
	}
	w.service("vault", map[string]string{"service.yaml": y})
	for n := range w.hosts {
		w.enable(n, "vault")
	}
}

// Counts of the keys' issue: 21 hosts with 201 keys each, all new, one changed, none.
func TestManyHostsWithManyKeys(t *testing.T) {
	if testing.Short() {
		t.Skip("half a minute")
	}
	const hosts, keys = 21, 201
	if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() {
		t.Setenv("TMPDIR", "/dev/shm") // thousands of files are synced
	}
	var names []string
	for i := range hosts {
		names = append(names, fmt.Sprintf("h%02d", i))
	}
	w := newWorld(t, names...)
	seal := w.realAge()
	w.vault(keys, seal, func(i int) string { return fmt.Sprintf("value %d %s", i, time.Now()) })
	w.push("all new", history.OutcomeDone)
	for _, n := range names {
		if h := w.state(n); h.Keys.Present != keys {
			t.Errorf("%s has %d keys, want %d", n, h.Keys.Present, keys)
		}
		if got := w.machines[n].Starts("vault.service"); got != 1 {
			t.Errorf("%s started vault.service %d times, want once", n, got)
		}
	}

	type count struct{ in, out, sessions int64 }
	counts := func() map[string]count {
		m := map[string]count{}
		for n, h := range w.hosts {
			c := h.Counts()
			m[n] = count{c.BytesIn, c.BytesOut, c.Sessions}
			w.machines[n].ClearLog()
		}
		return m
	}
	before := counts()
	value := "another value of a usual length"
	w.files["secrets/key77.age"] = seal(value)
	r := w.push("one changed", history.OutcomeDone)
	for _, n := range names {
		c := w.hosts[n].Counts()
		in, out := c.BytesIn-before[n].in, c.BytesOut-before[n].out
		if most := int64(len(value) + 16<<10); in+out > most {
			t.Errorf("%s: %d bytes in and %d out for one key, want at most %d together", n, in, out, most)
		}
		// one for the push, and one more for the line that is kept to a host with keys
		if s := c.Sessions - before[n].sessions; s > 2 {
			t.Errorf("%s: %d sessions, want one", n, s)
		}
		if got := w.machines[n].Count("restart", "vault.service"); got != 1 {
			t.Errorf("%s restarted vault.service %d times, want once", n, got)
		}
		if got := read(t, w.machines[n].Path("/run/keys/key77")); got != value {
			t.Errorf("%s does not hold the new value", n)
		}
	}
	for _, h := range r.Hosts {
		if !slices.Equal(h.Changed, []string{"key77"}) {
			t.Errorf("%s changed %v, want key77", h.Name, h.Changed)
		}
	}

	before = counts()
	w.files["secrets/key77.age"] = seal(value) // sealed anew, the value is the same
	w.push("none", history.OutcomeNothing)
	for _, n := range names {
		if s := w.hosts[n].Counts().Sessions - before[n].sessions; s != 0 {
			t.Errorf("%s: %d sessions for a rekey, want none", n, s)
		}
	}
}

// What stands on a host has its keys, also while another bundle without any is refused there.
func TestKeysOfWhatStands(t *testing.T) {
	w := newWorld(t, "a")
	w.vault(2, w.realAge(), func(i int) string { return fmt.Sprint("value ", i) })
	w.service("db", nil)
	w.service("mail", nil)
	w.enable("a", "vault", "db", "mail", "web")
	w.push("first", history.OutcomeDone)
	keys := func(what string, f func(context.Context, string) ([]keys.HostKeys, error), present bool) {
		t.Helper()
		hks, err := f(t.Context(), "")
		w.must(err)
		if len(hks) != 1 || len(hks[0].Keys) != 2 {
			t.Fatalf("%s: %+v, want two keys of a", what, hks)
		}
		for _, k := range hks[0].Keys {
			if !k.Expected || k.Present != present {
				t.Errorf("%s: key %s expected %v, present %v; want true, %v", what, k.Name, k.Expected, k.Present, present)
			}
		}
	}
	good := w.files["secrets/key1.age"]
	w.files["secrets/key1.age"] = "age-encryption.org/v1\nsealed for others\n"
	w.push("not for us", history.OutcomeRefused)
	keys("key status while a key can't be opened", w.d.Keys().Status, true)
	w.must(os.Remove(w.machines["a"].Path("/run/keys/key0")))
	keys("key push while a key can't be opened", w.d.Keys().Push, true)
	if got := read(t, w.machines["a"].Path("/run/keys/key0")); got != "value 0" {
		t.Errorf("key0 holds %q", got)
	}
	w.files["secrets/key1.age"] = good
	w.enable("a", "web")
	r := w.push("oops", history.OutcomeRefused)
	if text := *r.Hosts[0].Error; !strings.Contains(text, `"Bellhop-Allow: prune a"`) {
		t.Errorf("error %q does not say what to commit", text)
	}
	if h := w.state("a"); h.Keys != (history.KeyCount{Expected: 2, Present: 2}) {
		t.Errorf("status counts keys %+v, want 2 of 2", h.Keys)
	}
	keys("key status", w.d.Keys().Status, true)
	for i := range 2 {
		w.must(os.Remove(w.machines["a"].Path(fmt.Sprint("/run/keys/key", i))))
	}
	keys("key status of a host that lost them", w.d.Keys().Status, false)
	keys("key push", w.d.Keys().Push, true)
	keys("key status after it", w.d.Keys().Status, true)
	if got := read(t, w.machines["a"].Path("/run/keys/key1")); got != "value 1" {
		t.Errorf("key1 holds %q", got)
	}
	w.vault(3, w.realAge(), func(i int) string { return fmt.Sprint("value ", i) })
	w.enable("a", "vault", "db", "mail", "web")
	w.machines["a"].Fail("vault.service")
	w.push("one key more, and it fails", history.OutcomeFailed)
	if h := w.state("a"); h.Keys != (history.KeyCount{Expected: 2, Present: 2}) {
		t.Errorf("after a rollback status counts keys %+v, want 2 of 2", h.Keys)
	}
	hks, err := w.d.Keys().Status(t.Context(), "")
	w.must(err)
	if len(hks) != 1 || len(hks[0].Keys) != 3 || !hks[0].Keys[1].Expected || hks[0].Keys[2].Expected || hks[0].Keys[2].Present {
		t.Errorf("key status %+v, want key2 neither expected nor present", hks)
	}
	w.enable("a", "web")
	w.push("on purpose\n\nBellhop-Allow: prune a\n", history.OutcomeDone)
	if hks, err := w.d.Keys().Status(t.Context(), ""); err != nil || len(hks) != 0 || w.state("a").Keys != (history.KeyCount{}) {
		t.Errorf("after the keys left: %+v, %v, status %+v", hks, err, w.state("a").Keys)
	}
}

// A host holds what the release before deployed from a commit that this one refuses. Its keys come from
// that commit all the same.
func TestKeysOfACommitThatIsRefusedNow(t *testing.T) {
	w := newWorld(t, "a")
	keyed(w, "a", 1, 5)
	w.push("first", history.OutcomeDone)
	w.files["secrets/key0.age"] = "a bad one"
	w.machines["a"].Fail("vault.service")
	w.push("second", history.OutcomeFailed)
	w.machines["a"].Mend("vault.service")

	at := w.d.At
	w.d.At = func(ctx context.Context, commit string) (commits.Snapshot, error) {
		snap, err := at(ctx, commit)
		if err != nil {
			return snap, err
		}
		was := fstest.MapFS{}
		err = fs.WalkDir(snap.Tree, ".", func(p string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			data, err := fs.ReadFile(snap.Tree, p)
			if path.Base(p) == "service.yaml" {
				data = append(data, "\nhealth: [ 'http://127.0.0.1/' ]\n"...) // accepted then, and in no digest
			}
			was[p] = &fstest.MapFile{Data: data, Mode: 0o644}
			return err
		})
		snap.Tree = was
		return snap, err
	}

	w.must(w.machines["a"].Reboot())
	ks, err := w.d.Keys().Push(t.Context(), "")
	w.must(err)
	if len(ks) != 1 || ks[0].Error != nil || len(ks[0].Keys) != 1 || !ks[0].Keys[0].Present {
		t.Fatalf("PushKeys: %+v", ks)
	}
	if got := read(t, w.machines["a"].Path("/run/keys/key0")); !strings.HasPrefix(got, "value 0") {
		t.Errorf("key0 is %q, want that of the generation that stands", got)
	}
}

// A host was pushed to, and nobody heard the end of it, as of a deployer that died and a host without power. When it is
// back its keys are those of what it holds: the commit is that of the push.
func TestKeysOfAPushWhoseEndWasNotHeard(t *testing.T) {
	w := newWorld(t, "a")
	keyed(w, "a", 2, 5)
	w.push("first", history.OutcomeDone)
	h, _ := w.db.Host("a")
	start := history.Start{ID: "lost", Commit: w.commits[0].Commit, At: time.Now()}
	planned := []history.Planned{{Name: "a", State: history.Never, Wanted: h.Digest, Reach: h.Reach}}
	w.must(w.db.Forget(t.Context(), "a"), w.db.Plan(t.Context(), start, start.Commit, planned, nil))
	w.must(w.db.Begun(t.Context(), "lost", "a", h.Digest))
	w.must(w.db.Ended(t.Context(), "lost", "a", history.End{Outcome: history.OutcomeUnknown, State: history.Unknown, Digest: h.Digest}))
	w.change("second")

	w.d = w.deployer("SHA256:one")
	w.must(w.machines["a"].Reboot())
	ks, err := w.d.Keys().Push(t.Context(), "")
	w.must(err)
	if len(ks) != 1 || ks[0].Error != nil {
		t.Fatalf("keys of a host whose push was lost: %+v: %s", ks, text(ks[0].Error))
	}
	wantKeys(t, w)
}

// What stands of a push whose end was not heard keeps its keys, whatever came since: another push that failed, and
// another name of the host.
func TestKeysOfAPushWhoseEndWasNotHeardAtAll(t *testing.T) {
	for _, isRenamed := range []bool{false, true} {
		w := newWorld(t, "a")
		keyed(w, "a", 2, 5)
		w.push("first", history.OutcomeDone)
		h, _ := w.db.Host("a")
		start := history.Start{ID: "lost", Commit: w.commits[0].Commit, At: time.Now()}
		planned := []history.Planned{{Name: "a", State: history.Never, Wanted: h.Digest, Reach: h.Reach}}
		w.must(w.db.Forget(t.Context(), "a"), w.db.Plan(t.Context(), start, start.Commit, planned, nil))
		w.must(w.db.Begun(t.Context(), "lost", "a", h.Digest)) // and is open still

		on, services := "a", []string{"web", "vault"}
		if isRenamed {
			w.rename(services...)
			on = "z"
		} else {
			w.enable("a", services...)
		}
		breaks(w, "web")
		w.push("second", history.OutcomeFailed)
		w.wantState(on, history.RolledBack, "")

		w.must(w.machines["a"].Reboot())
		ks, err := w.d.Keys().Push(t.Context(), "")
		w.must(err)
		if len(ks) != 1 || ks[0].Error != nil {
			t.Fatalf("renamed %v: keys of a host whose push was lost: %+v: %s", isRenamed, ks, text(ks[0].Error))
		}
		wantKeys(t, w)
	}
}
