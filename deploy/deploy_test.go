package deploy_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"bellhop/deploy/commits"
	"bellhop/deploy/plan"
	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/history/results"
	"bellhop/internal/preview"
)

func sorted(s iter.Seq[string]) []string { return slices.Sorted(s) }

func read(t testing.TB, path string) string {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(p)
}

func TestFirstPush(t *testing.T) {
	w := newWorld(t, "a", "b")
	r := w.push("first", history.OutcomeDone)
	for _, n := range []string{"a", "b"} {
		if got := read(t, w.machines[n].Path("/etc/web.conf")); got != "hello\n" {
			t.Errorf("%s holds %q, want hello", n, got)
		}
		if !w.machines[n].Active("web.service") {
			t.Errorf("web.service is not active on %s", n)
		}
		w.wantState(n, history.Current, *r.Commit)
	}
}

// Promise 2, and the ceilings of DESIGN.md §9.
func TestOnlyChangedHostsAreContacted(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	w.service("db", nil)
	w.enable("b", "web", "db")
	w.push("first", history.OutcomeDone)
	before := map[string]int{}
	for n := range w.hosts {
		before[n] = w.sessions(n)
	}
	for _, p := range []string{"README.md", "services/web/README.md"} {
		w.files[p] = "read me"
		r := w.push("a readme", history.OutcomeNothing)
		if len(r.Hosts) != 0 {
			t.Errorf("a README lists hosts: %s", w.tell(r))
		}
	}
	w.files["services/db/files/etc/db.conf"] = "changed\n"
	counts := w.hosts["b"].Counts()
	w.machines["b"].ClearLog()
	r := w.push("one line", history.OutcomeDone)
	now := w.hosts["b"].Counts()
	if n := w.sessions("a") + w.sessions("c") - before["a"] - before["c"]; n != 0 {
		t.Errorf("%d sessions on hosts that did not change, want 0", n)
	}
	if n := now.Sessions - counts.Sessions; n > 1 {
		t.Errorf("%d sessions on the changed host, want 1", n)
	}
	// One for the channel, one for everything else: it stands where it is remembered to.
	if n := now.RoundTrips - counts.RoundTrips; n > 2 {
		t.Errorf("%d round trips on the changed host, want at most 2", n)
	}
	plan, err := w.d.Plan(t.Context(), plan.Request{On: "b", All: true})
	w.must(err)
	b, err := plan.Fleet.Bundle("b")
	w.must(err)
	size, err := json.Marshal(b.Manifest.WithoutKeyDigests())
	w.must(err)
	if n, most := now.BytesIn-counts.BytesIn, int64(len("changed\n")+4<<10+len(size)); n > most {
		t.Errorf("%d bytes to the changed host, want at most %d", n, most)
	}
	if w.machines["b"].Count("restart", "db.service") != 1 || w.machines["b"].Count("restart", "web.service") != 0 {
		t.Errorf("jobs %v, want one restart of db.service alone", w.machines["b"].Jobs())
	}
	for n := range w.hosts {
		w.wantState(n, history.Current, *r.Commit)
	}
	if got := r.Hosts; len(got) != 1 || got[0].Name != "b" || !slices.Contains(got[0].Changed, "/etc/db.conf") {
		t.Errorf("the run lists %s with %v, want b with /etc/db.conf", w.tell(r), got[0].Changed)
	}
}

// A host that stands where it is remembered to, and whose manifest is another by a word that is in
// no digest, is offered the whole of it.
func TestHostWithAnotherManifest(t *testing.T) {
	w := newWorld(t, "a")
	for i := range 30 { // so many that the difference is shorter
		w.files[fmt.Sprintf("services/web/files/etc/web.d/%d", i)] = fmt.Sprint(i)
	}
	w.push("first", history.OutcomeDone)
	record := w.machines["a"].Path("/var/lib/bellhop/record")
	p, err := os.ReadFile(record)
	w.must(err)
	edited := bytes.ReplaceAll(p, []byte(`"service":"web"`), []byte(`"service":"site"`))
	if bytes.Equal(p, edited) {
		t.Fatal("the record names no service")
	}
	w.must(os.WriteFile(record, edited, 0o600))
	w.files["services/web/files/etc/web.conf"] = "new\n"
	before := w.sessions("a")
	r := w.push("second", history.OutcomeDone)
	w.wantState("a", history.Current, *r.Commit)
	if got := read(t, w.machines["a"].Path("/etc/web.conf")); got != "new\n" {
		t.Errorf("/etc/web.conf holds %q", got)
	}
	if n := w.sessions("a") - before; n != 2 {
		t.Errorf("%d sessions, want one that is refused and one that is not", n)
	}
}

// A key that changes costs one session too, and one round trip more than a file: what the host holds of
// it is asked first. A file beside it costs nothing more.
func TestTripsOfAKey(t *testing.T) {
	w := newWorld(t, "a")
	keyed(w, "a", 2, 5)
	w.enable("a", "web", "vault")
	w.push("first", history.OutcomeDone)
	for _, file := range []string{"", "changed\n"} {
		if file != "" {
			w.files["services/web/files/etc/web.conf"] = file
		}
		value := "another value " + file
		w.files["secrets/key0.age"] = value
		before := w.hosts["a"].Counts()
		w.push("a key", history.OutcomeDone)
		now := w.hosts["a"].Counts()
		if n := now.Sessions - before.Sessions; n != 1 {
			t.Errorf("%d sessions, want 1", n)
		}
		if n := now.RoundTrips - before.RoundTrips; n > 3 {
			t.Errorf("%d round trips, want at most 3", n)
		}
		if n, most := now.BytesIn-before.BytesIn, int64(len(value)+len(file)+4<<10); n > most {
			t.Errorf("%d bytes to the host, want at most %d", n, most)
		}
	}
}

func keyed(w *world, host string, n int, size int) {
	var y strings.Builder
	y.WriteString("keys:\n")
	for i := range n {
		fmt.Fprintf(&y, "  key%d: { source: secrets/key%d.age }\n", i, i)
		w.files[fmt.Sprintf("secrets/key%d.age", i)] = fmt.Sprintf("value %d %s", i, strings.Repeat("x", size))
	}
	w.service("vault", map[string]string{"service.yaml": y.String()})
	w.enable(host, "vault")
}

func TestOneOfManyKeys(t *testing.T) {
	w := newWorld(t, "a")
	keyed(w, "a", 201, 100)
	w.push("keys", history.OutcomeDone)
	if h := w.state("a"); h.Keys.Expected != 201 || h.Keys.Present != 201 {
		t.Errorf("keys %+v, want 201 of 201", h.Keys)
	}
	before := w.hosts["a"].Counts()
	w.machines["a"].ClearLog()
	w.files["secrets/key7.age"] = "another value"
	r := w.push("one key", history.OutcomeDone)
	now := w.hosts["a"].Counts()
	in, out := now.BytesIn-before.BytesIn, now.BytesOut-before.BytesOut
	if most := int64(len("another value")) + 16<<10; in > most || out > most {
		t.Errorf("%d bytes to the host and %d back, want at most the value and 16 KiB", in, out)
	}
	if n := w.machines["a"].Count("restart", "vault.service"); n != 1 {
		t.Errorf("%d restarts, want 1", n)
	}
	if got := r.Hosts[0].Changed; !slices.Equal(got, []string{"key7"}) {
		t.Errorf("changed %v, want key7", got)
	}
	if got := read(t, w.machines["a"].Path("/run/keys/key7")); got != "another value" {
		t.Error("the key was not written")
	}
	before = w.hosts["a"].Counts()
	w.push("nothing", history.OutcomeNothing)
	if n := w.hosts["a"].Counts().Sessions - before.Sessions; n != 0 {
		t.Errorf("%d sessions for no change, want 0", n)
	}
}

func TestServiceSwitchedOff(t *testing.T) {
	w := newWorld(t, "a")
	w.push("first", history.OutcomeDone)
	w.enable("a")
	w.push("off", history.OutcomeDone)
	if _, err := os.Stat(w.machines["a"].Path("/etc/web.conf")); err == nil {
		t.Error("/etc/web.conf is still there")
	}
	if w.machines["a"].Active("web.service") {
		t.Error("web.service still runs")
	}
}

// A person hears what a run did besides: edits taken back, what stays behind, what was left
// stopped; at once, and in history.
func TestNotes(t *testing.T) {
	w := newWorld(t, "a")
	w.service("bot", map[string]string{
		"service.yaml": "user: { name: bot, home: /srv/bot }\n", "bot.service": fmt.Sprintf(unit, "bot"), "files/etc/bot": "one\n"})
	w.enable("a", "web", "bot")
	w.push("first", history.OutcomeDone)
	m := w.machines["a"]
	m.Host().Systemd.Job(context.Background(), "stop", []string{"web.service"})
	if err := os.WriteFile(m.Path("/etc/bot"), []byte("by hand\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.enable("a", "web")
	run := w.push("bot leaves", history.OutcomeDone)
	want := []string{"edited on the host and put back: /etc/bot (the edit is /var/lib/bellhop/blobs/ccc6730b7fa7e27b02f876e3d915a8e95113167c47ccc18a8e41d27a26ada363)", "stays on the host: user bot, home /srv/bot",
		"stopped by hand and left so: web.service"}
	if diff := cmp.Diff(want, run.Hosts[0].Notes); diff != "" {
		t.Errorf("notes in history (-want +got):\n%s", diff)
	}
	edit := "/var/lib/bellhop/blobs/ccc6730b7fa7e27b02f876e3d915a8e95113167c47ccc18a8e41d27a26ada363"
	if diff := cmp.Diff([]results.Restored{{Path: "/etc/bot", Edit: &edit}}, run.Hosts[0].Restored); diff != "" {
		t.Errorf("restored in history (-want +got):\n%s", diff)
	}
	var heard []string
	for _, e := range w.events {
		if e.Step == "note" && e.Run == run.ID {
			heard = append(heard, e.Text)
		}
	}
	if diff := cmp.Diff(want, heard); diff != "" {
		t.Errorf("notes told (-want +got):\n%s", diff)
	}
}

func TestPruneGuard(t *testing.T) {
	w := newWorld(t, "a")
	w.service("db", nil)
	w.service("mail", nil)
	w.enable("a", "web", "db", "mail")
	w.push("first", history.OutcomeDone)
	w.enable("a", "web")
	before := w.sessions("a")
	w.push("oops", history.OutcomeRefused)
	w.wantState("a", history.Refused, w.commits[0].Commit)
	if w.sessions("a") != before {
		t.Error("a refused host was contacted")
	}
	w.push("on purpose\n\nBellhop-Allow: prune a\n", history.OutcomeDone)
	w.wantState("a", history.Current, w.commits[2].Commit)
}

// A run says where the repo has moved to, since nothing else of it does.
func TestMovedRepoIsNoted(t *testing.T) {
	w := newWorld(t, "a")
	look := w.d.Sync
	w.d.Sync = func(ctx context.Context) (commits.Snapshot, error) {
		s, err := look(ctx)
		s.Moved = "https://forge.example/new/name"
		return s, err
	}
	run := w.push("first", history.OutcomeDone)
	if !slices.ContainsFunc(run.Notes, func(n string) bool { return strings.Contains(n, "moved to https://forge.example/new/name") }) {
		t.Errorf("notes = %q, want the new address", run.Notes)
	}
}

// What allows a prune may stand in any commit that came since the last deploy, and is used up
// by that deploy.
func TestPruneAllowedByAnEarlierCommit(t *testing.T) {
	w := newWorld(t, "a")
	since := map[string][]string{}
	w.d.Since = func(_ context.Context, last, head string) ([]string, error) { return since[last+head], nil }
	w.service("db", nil)
	w.service("mail", nil)
	w.enable("a", "web", "db", "mail")
	w.push("first", history.OutcomeDone)
	first := w.commits[0].Commit

	w.enable("a", "web")
	w.push("oops", history.OutcomeRefused)
	w.files["README.md"] = "more"
	later := w.commit("later")
	since[first+later] = []string{"later", "on purpose\n\nBellhop-Allow: prune a"}
	w.run(plan.Request{Cause: "push"}, history.OutcomeDone)
	w.wantState("a", history.Current, later)

	w.enable("a", "web", "db", "mail")
	w.push("again", history.OutcomeDone)
	w.enable("a", "web")
	w.push("oops again", history.OutcomeRefused)
}

func TestWholeCommitRefused(t *testing.T) {
	w := newWorld(t, "a")
	w.push("first", history.OutcomeDone)
	good := w.files["services/web/web.service"]
	w.files["services/web/rubbish.exe"] = "?"
	r := w.push("bad", history.OutcomeRefused)
	s, err := w.db.Status(t.Context())
	w.must(err)
	if *s.Commit != *r.Commit || len(r.Hosts) != 1 {
		t.Errorf("top is %s, hosts %s; want the refused commit and one host", *s.Commit, w.tell(r))
	}
	w.wantState("a", history.Refused, w.commits[0].Commit)
	if h := w.state("a"); h.Error == nil || !strings.Contains(*h.Error, "rubbish.exe") {
		t.Errorf("error of the host: %v, want it to name rubbish.exe", h.Error)
	}
	before := w.sessions("a")
	delete(w.files, "services/web/rubbish.exe")
	w.files["services/web/web.service"] = good
	r = w.push("good again", history.OutcomeNothing)
	w.wantState("a", history.Current, *r.Commit)
	if w.sessions("a") != before {
		t.Error("a host whose bundle never changed was contacted")
	}
}

// Promise 6: one bad secret stops its service alone.
func TestOneBadSecret(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.service("vault", map[string]string{"service.yaml": "keys: { token: { source: secrets/token.age } }\n"})
	w.files["secrets/token.age"] = "v"
	w.enable("b", "web", "vault")
	open := w.d.Loader.Open
	w.d.Loader.Open = func(tree fs.FS, path string) ([]byte, error) {
		if path == "secrets/token.age" {
			return nil, errors.New("no identity opens it")
		}
		return open(tree, path)
	}
	r := w.push("first", history.OutcomePartial)
	w.wantState("a", history.Current, *r.Commit)
	w.wantState("b", history.HeldBack, "")
	if !w.machines["b"].Active("web.service") {
		t.Error("the other service of b does not run")
	}
	if e := w.state("b").Error; e == nil || !strings.Contains(*e, "token") {
		t.Errorf("error of b: %v, want it to name the secret", e)
	}
}

func TestFailureIsNotTriedAgain(t *testing.T) {
	w := newWorld(t, "a")
	first := *w.push("first", history.OutcomeDone).Commit
	w.machines["a"].Fail("web.service")
	w.files["services/web/files/etc/web.conf"] = "bad\n"
	w.push("bad", history.OutcomeFailed)
	w.wantState("a", history.RolledBack, first)
	before := w.sessions("a")
	w.files["README.md"] = "x"
	w.push("a readme on top", history.OutcomeFailed)
	w.run(plan.Request{Cause: "start"}, history.OutcomeFailed)
	w.wantState("a", history.RolledBack, first)
	if n := w.sessions("a") - before; n != 0 {
		t.Errorf("%d sessions for a bundle that failed, want 0", n)
	}
	w.machines["a"].Mend("web.service")
	r := w.run(plan.Request{Cause: "deploy", Retry: true}, history.OutcomeDone)
	w.wantState("a", history.Current, *r.Commit)
}

func TestRevertAfterFailure(t *testing.T) {
	w := newWorld(t, "a")
	w.push("first", history.OutcomeDone)
	w.machines["a"].Fail("web.service")
	w.files["services/web/files/etc/web.conf"] = "bad\n"
	w.push("bad", history.OutcomeFailed)
	w.machines["a"].Mend("web.service")
	w.files["services/web/files/etc/web.conf"] = "hello\n"
	r := w.push("revert", history.OutcomeNothing)
	w.wantState("a", history.Current, *r.Commit)
}

func TestUnreachableHostIsPending(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.push("first", history.OutcomeDone)
	w.hosts["b"].Cut()
	w.files["services/web/files/etc/web.conf"] = "new\n"
	r := w.push("second", history.OutcomePartial)
	w.wantState("a", history.Current, *r.Commit)
	w.wantState("b", history.Pending, w.commits[0].Commit)
	w.must(w.hosts["b"].Mend())
	r = w.run(plan.Request{Cause: "b is back"}, history.OutcomeDone)
	w.wantState("b", history.Current, *r.Commit)
}

// What stands on a host wins over what is remembered.
func TestWipedHostIsRepaired(t *testing.T) {
	w := newWorld(t, "a")
	w.push("first", history.OutcomeDone)
	w.must(os.RemoveAll(w.machines["a"].Path("/var/lib/bellhop")), os.RemoveAll(w.machines["a"].Path("/etc/web.conf")))
	r := w.run(plan.Request{Cause: "deploy", All: true}, history.OutcomeDone)
	w.wantState("a", history.Current, *r.Commit)
	if got := read(t, w.machines["a"].Path("/etc/web.conf")); got != "hello\n" {
		t.Errorf("/etc/web.conf is %q", got)
	}
	w.run(plan.Request{Cause: "deploy", All: true}, history.OutcomeNothing)
}

func TestSecondDeployer(t *testing.T) {
	w := newWorld(t, "a")
	w.push("first", history.OutcomeDone)
	mine, db := w.d, w.db
	other, err := history.Open(filepath.Join(t.TempDir(), "other.db"))
	w.must(err)
	defer other.Close()
	w.db = other
	w.d = w.deployer("SHA256:two")
	w.run(plan.Request{Cause: "deploy"}, history.OutcomeRefused)
	w.wantState("a", history.Refused, "")
	w.files["services/web/files/etc/web.conf"] = "theirs\n"
	w.commit("theirs")
	w.run(plan.Request{Cause: "deploy", TakeOver: true}, history.OutcomeDone)

	// The first one had the host before: it notices, and repairs.
	w.d, w.db = mine, db
	w.files["services/web/files/etc/web.conf"] = "mine\n"
	r := w.push("mine", history.OutcomeDone)
	w.wantState("a", history.Current, *r.Commit)
	if got := read(t, w.machines["a"].Path("/etc/web.conf")); got != "mine\n" {
		t.Errorf("/etc/web.conf is %q, want mine", got)
	}
}

// A new server with the same identity finds every host current and changes nothing.
func TestLostState(t *testing.T) {
	w := newWorld(t, "a")
	keyed(w, "a", 3, 10)
	w.push("first", history.OutcomeDone)
	other, err := history.Open(filepath.Join(t.TempDir(), "other.db"))
	w.must(err)
	defer other.Close()
	w.machines["a"].ClearLog()
	w.db = other
	d := w.deployer(w.d.ID)
	d.Loader.KeyDigest = func(v []byte) string { return hex.EncodeToString(bundle.KeyMAC([]byte("a new digest-key"), v)) }
	w.d = d
	r := w.run(plan.Request{Cause: "start"}, history.OutcomeNothing)
	w.wantState("a", history.Current, *r.Commit)
	if jobs := w.machines["a"].Jobs(); len(jobs) != 0 {
		t.Errorf("jobs on the host: %v, want none", jobs)
	}
}

func TestRename(t *testing.T) {
	w := newWorld(t, "a")
	w.push("first", history.OutcomeDone)
	w.machines["a"].ClearLog()
	w.hosts["z"], w.machines["z"] = w.hosts["a"], w.machines["a"]
	delete(w.yaml, "a")
	w.enable("z", "web")
	r := w.push("rename", history.OutcomeNothing)
	w.wantState("z", history.Current, *r.Commit)
	if jobs := w.machines["z"].Jobs(); len(jobs) != 0 {
		t.Errorf("jobs on a renamed host: %v, want none", jobs)
	}
	if _, known := w.db.Host("a"); known {
		t.Error("history still knows the old name")
	}
}

func TestReleasedHost(t *testing.T) {
	w := newWorld(t, "a", "b")
	first := *w.push("first", history.OutcomeDone).Commit
	y := w.yaml["b"]
	delete(w.yaml, "b")
	before := w.sessions("b")
	w.push("b leaves", history.OutcomeNothing)
	w.wantState("b", history.Released, first)
	if w.sessions("b") != before || !w.machines["b"].Active("web.service") {
		t.Error("a released host was touched")
	}
	w.yaml["b"] = y
	r := w.push("b returns", history.OutcomeNothing)
	w.wantState("b", history.Current, *r.Commit)
}

// A host that was forgotten and comes back is a new one: what failed on it before is not held
// against it.
func TestForgottenHostIsTriedAgain(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.push("first", history.OutcomeDone)
	w.machines["b"].Fail("web.service")
	w.files["services/web/files/etc/web.conf"] = "new\n"
	w.push("second", history.OutcomePartial)
	w.wantState("b", history.RolledBack, w.commits[0].Commit)

	y := w.yaml["b"]
	delete(w.yaml, "b")
	w.push("b leaves", history.OutcomeNothing)
	w.must(w.db.Forget(t.Context(), "b"))
	w.machines["b"].Mend("web.service")
	w.yaml["b"] = y
	r := w.push("b returns", history.OutcomeDone)
	w.wantState("b", history.Current, *r.Commit)
}

// Where a jump host shows another key, the host behind it says whose key that is.
func TestHostKeyOfAJumpHostChanged(t *testing.T) {
	w := newWorld(t, "gate", "a")
	w.yaml["a"] += "    jump: gate\n"
	w.commit("first")
	w.must(w.hosts["gate"].NewHostKey())
	w.run(plan.Request{Cause: "push"}, history.OutcomeRefused)
	for _, h := range []struct{ name, word string }{{"gate", "pin the new one in the repo"}, {"a", "pin the new one of gate in the repo"}} {
		s := w.state(h.name)
		if s.State != history.Refused || s.Error == nil || !strings.Contains(*s.Error, h.word+": host_key: "+w.hosts["gate"].HostKey()) || strings.HasPrefix(*s.Error, h.name+": ") {
			t.Errorf("%s is %s (%v), want refused, and %q", h.name, s.State, s.Error, h.word)
		}
	}
	w.enable("gate", "web")
	r := w.push("the new key is pinned", history.OutcomeDone)
	w.wantState("a", history.Current, *r.Commit)
}

func TestHostKeyChangedIsAHardStop(t *testing.T) {
	w := newWorld(t, "a")
	w.commit("first")
	w.must(w.hosts["a"].NewHostKey())
	w.run(plan.Request{Cause: "push"}, history.OutcomeRefused)
	h := w.state("a")
	if h.State != history.Refused || h.Error == nil || !strings.Contains(*h.Error, "host key changed") || !strings.Contains(*h.Error, "host_key: "+w.hosts["a"].HostKey()) {
		t.Errorf("host is %s (%s), want refused by its host key, and the line that pins the new one", h.State, *h.Error)
	}
	if n := w.hosts["a"].Counts(); n.Logins != 0 || n.Connections != 1 {
		t.Errorf("%d connections and %d logins, want one and none", n.Connections, n.Logins)
	}
	w.enable("a", "web")
	r := w.push("the new key is pinned", history.OutcomeDone)
	w.wantState("a", history.Current, *r.Commit)
}

// A host that shows another key may be another machine: it is not current while nobody knows,
// although its bundle is the one that was deployed last.
func TestHostKeyChangedOnACurrentHost(t *testing.T) {
	w := newWorld(t, "a", "b")
	r := w.push("first", history.OutcomeDone)
	old := w.yaml["a"]
	w.must(w.hosts["a"].NewHostKey())
	w.pool.Drop("a")
	w.run(plan.Request{Cause: "deploy", On: "a", All: true}, history.OutcomeRefused)
	w.run(plan.Request{Cause: "push"}, history.OutcomeRefused)
	w.wantState("a", history.Refused, *r.Commit)
	w.wantState("b", history.Current, *r.Commit)
	w.enable("a", "web")
	if old == w.yaml["a"] {
		t.Fatal("the pin is the same")
	}
	r = w.push("the new key is pinned", history.OutcomeNothing)
	w.wantState("a", history.Current, *r.Commit)
}

// A host that is another machine from now on is looked at though its bundle is the same, also when
// that machine does not answer at once, and when the bundle failed on the former one.
func TestHostBecomesAnotherMachine(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.push("first", history.OutcomeDone)
	w.host("a", "web") // the new one, and nothing is there
	w.hosts["a"].Cut()
	w.push("a is replaced", history.OutcomeFailed)
	w.wantState("a", history.Pending, "")
	if n := w.sessions("b"); n != 1 {
		t.Errorf("%d sessions with b, whose lines are the same; want its first", n)
	}
	w.must(w.hosts["a"].Mend())
	r := w.run(plan.Request{Cause: "push"}, history.OutcomeDone)
	w.wantState("a", history.Current, *r.Commit)
	if p, err := os.ReadFile(w.machines["a"].Path("/etc/web.conf")); string(p) != "hello\n" {
		t.Errorf("/etc/web.conf of the new machine holds %q, %v", p, err)
	}

	w.machines["a"].Fail("web.service")
	w.files["services/web/web.service"] += "# changed\n"
	w.yaml["b"] = ""
	w.push("a fails", history.OutcomeFailed)
	w.wantState("a", history.RolledBack, *r.Commit)
	w.host("a", "web")
	r = w.push("a is replaced again", history.OutcomeDone)
	w.wantState("a", history.Current, *r.Commit)
}

// planDigest is the digest of the plan of TestPlanText: a golden one, since whoever compares two
// plans may have made them with two releases.
var planDigest = func() string {
	file := sha256.Sum256([]byte("hello\nworld\n"))
	blob := sha1.Sum([]byte("blob 5\x00other"))
	sum := sha256.Sum256(fmt.Appendf(nil, "a change file /etc/web.conf %x\nb change key key0 %x\n", file, blob))
	return hex.EncodeToString(sum[:])
}()

// A plan of another tree is held against what is deployed, and leaves nothing behind; a plan of
// the head has the same digest as one of the commit that it is.
func TestPlanOf(t *testing.T) {
	w := newWorld(t, "a", "b")
	keyed(w, "b", 1, 3)
	w.push("first", history.OutcomeDone)
	w.files["services/web/files/etc/web.conf"] = "hello\nworld\n"
	w.files["secrets/key0.age"] = "other"
	w.commit("second")
	p, err := w.d.PlanOf(t.Context(), plan.Request{}, w.commits[1])
	w.must(err)
	if p.Digest() != planDigest || !p.HasChanges() {
		t.Errorf("PlanOf(second) = %s, %s, want digest %s", p.Digest(), p.Sentence(), planDigest)
	}
	maker := preview.Maker{Loader: func() *fleet.Loader { return &fleet.Loader{} }}
	request, err := maker.Make(t.Context(), preview.Commit{Tree: w.commits[0].Tree}, preview.Commit{Tree: w.commits[1].Tree})
	w.must(err)
	if request.Digest != planDigest {
		t.Errorf("the plan of a request for second has digest %s, want that of the plan that is deployed, %s", request.Digest, planDigest)
	}
	if p, err = w.d.PlanOf(t.Context(), plan.Request{}, w.commits[0]); err != nil || p.HasChanges() {
		t.Errorf("PlanOf(first) = %s, %v, want no change", p.Sentence(), err)
	}
	bare := commits.Snapshot{Tree: fstest.MapFS{"bellhop.yaml": {Data: []byte("network: lab\nwrong: 1\n")}}}
	if _, err := w.d.PlanOf(t.Context(), plan.Request{}, bare); err == nil || !strings.Contains(err.Error(), "bellhop.yaml:2") {
		t.Errorf("PlanOf(a tree that is wrong) = %v, want its problem", err)
	}
	if p, err = w.d.Plan(t.Context(), plan.Request{}); err != nil || p.Digest() != planDigest {
		t.Errorf("Plan after all that = %s, %v", p.Sentence(), err)
	}
	if n := w.sessions("a"); n != 1 {
		t.Errorf("%d sessions with a, want the first push's", n)
	}
	w.run(plan.Request{Cause: "push"}, history.OutcomeDone)
}

func TestPlanText(t *testing.T) {
	w := newWorld(t, "a", "b")
	keyed(w, "b", 1, 3)
	w.push("first", history.OutcomeDone)
	w.files["services/web/files/etc/web.conf"] = "hello\nworld\n"
	w.files["secrets/key0.age"] = "other"
	w.commit("second")
	before := w.sessions("a")
	p, err := w.d.Plan(t.Context(), plan.Request{})
	w.must(err)
	var b strings.Builder
	w.must(w.d.WritePlan(t.Context(), &b, p))
	want := `a
  ~ file /etc/web.conf
    --- /etc/web.conf
    +++ /etc/web.conf
    @@ -1 +1,2 @@
     hello
    +world
  restart web.service

b
  ~ key key0: changed
  restart vault.service

wave 1: a
wave 2: b

plan ` + planDigest + `
2 of 2 hosts change, 2 units restart
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
	j, err := json.Marshal(p.JSON())
	w.must(err)
	if want := `{"v":1,"commit":"` + w.commits[1].Commit + `","digest":"` + planDigest + `","hosts":[{"name":"a","changes":[{"action":"change","kind":"file","name":"/etc/web.conf"}],"units":{"start":[],"stop":[],"restart":["web.service"],"reload":[]}},{"name":"b","changes":[{"action":"change","kind":"key","name":"key0"}],"units":{"start":[],"stop":[],"restart":["vault.service"],"reload":[]}}],"waves":[["a"],["b"]]}`; string(j) != want {
		t.Errorf("plan as JSON:\n got %s\nwant %s", j, want)
	}
	if w.sessions("a") != before {
		t.Error("a plan contacted a host")
	}
	// A plan that was only shown does not make the run overlook anything.
	w.run(plan.Request{Cause: "push"}, history.OutcomeDone)
}

// A drop-in for a unit of the distribution restarts that, when it comes, changes and leaves: the plan
// says so.
func TestPlanOfADropIn(t *testing.T) {
	w := newWorld(t, "a")
	w.push("first", history.OutcomeDone)
	const dropIn = "services/web/ssh.service.d/x.conf"
	for _, text := range []string{"[Service]\nEnvironment=X=1\n", "[Service]\nEnvironment=X=2\n", ""} {
		if w.files[dropIn] = text; text == "" {
			delete(w.files, dropIn)
		}
		w.commit("drop-in")
		p, err := w.d.Plan(t.Context(), plan.Request{})
		w.must(err)
		var b strings.Builder
		w.must(w.d.WritePlan(t.Context(), &b, p))
		if !strings.Contains(b.String(), "\n  restart ssh.service\n") {
			t.Errorf("with %q the plan is\n%s", text, b.String())
		}
		w.run(plan.Request{Cause: "push"}, history.OutcomeDone)
	}
}

// What is put right without another digest is tried again: here, an address that led to
// another host of the repo.
func TestTwoNamesForOneMachine(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.push("first", history.OutcomeDone)
	good := w.yaml["b"]
	delete(w.yaml, "b")
	w.hosts["c"], w.machines["c"] = w.hosts["a"], w.machines["a"]
	w.enable("c", "web")
	w.yaml["b"] = good
	w.machines["a"].ClearLog()
	// One address twice is a problem of the config, so a leaves its own to c's.
	w.yaml["a"] = strings.Replace(w.yaml["a"], w.hosts["a"].Address(), "127.0.0.1:1", 1)
	w.push("c is a", history.OutcomeRefused)
	if h := w.state("c"); h.State != history.Refused || h.Error == nil || !strings.Contains(*h.Error, "two names") {
		t.Fatalf("c is %s, want refused: two names for one machine", h.State)
	}
	if jobs := w.machines["a"].Jobs(); len(jobs) != 0 {
		t.Errorf("jobs on a: %v, want none", jobs)
	}
	w.host("c", "web")
	w.enable("a", "web")
	r := w.push("right again", history.OutcomeDone)
	w.wantState("c", history.Current, *r.Commit)
	w.wantState("a", history.Current, *r.Commit)
}
