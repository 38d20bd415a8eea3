package deploy_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"bellhop/deploy/commits"
	"bellhop/deploy/plan"
	"bellhop/internal/history"
	"bellhop/internal/lab"
)

// formerRelease is what the first release left behind: a history, and three hosts. Its README
// says how it was made.
const formerRelease = "testdata/a7c53af"

// newFormerWorld is a world as a deployer finds it that was just upgraded: the former release's
// history and commits, and its hosts after a reboot.
func newFormerWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.files = map[string]string{}

	db, err := os.ReadFile(filepath.Join(formerRelease, "bellhop.db"))
	w.must(err)
	path := filepath.Join(t.TempDir(), "bellhop.db")
	w.must(os.WriteFile(path, db, 0o600), w.db.Close())
	w.db, err = history.Open(path)
	w.must(err)
	t.Cleanup(func() { w.db.Close() })
	w.d.History = w.db

	w.readFormerCommits()
	for _, name := range []string{"a", "b", "c"} {
		w.formerHost(name)
	}
	w.enable("a", "web", "site")
	w.enable("b", "web", "site")
	w.enable("c", "web", "site", "bad")
	return w
}

func (w *world) readFormerCommits() {
	data, err := os.ReadFile(filepath.Join(formerRelease, "commits.json"))
	w.must(err)
	var made []map[string]string
	w.must(json.Unmarshal(data, &made))

	for _, c := range made {
		tree := fstest.MapFS{}
		w.files = map[string]string{}
		for name, text := range c {
			if path, ok := strings.CutPrefix(name, "file:"); ok {
				tree[path] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
				w.files[path] = text
			}
		}
		w.commits = append(w.commits, commits.Snapshot{Commit: c["commit"], Author: "cadey", Subject: c["message"], Message: c["message"], Time: time.Now(), Tree: tree})
	}
}

// formerHost switches a host of the former release on.
func (w *world) formerHost(name string) {
	dir := w.t.TempDir()
	if out, err := exec.Command("tar", "-C", dir, "-xzf", filepath.Join(formerRelease, name+".tar.gz")).CombinedOutput(); err != nil {
		w.t.Fatalf("unpack %s: %v: %s", name, err, out)
	}
	m := lab.NewMachine(dir)
	w.must(m.Reboot())

	h, err := lab.NewHost(name, m)
	w.must(err)
	w.t.Cleanup(func() { h.Close() })
	seed := sha256.Sum256([]byte("lab host " + name))
	w.must(h.UseHostKey(ed25519.NewKeyFromSeed(seed[:])))
	w.machines[name], w.hosts[name] = m, h
}

// A commit that changes nothing for a host opens no session there, also when the release that
// deployed to it was the former one: digests are the same. What failed stays remembered.
func TestUpgradeTouchesNothing(t *testing.T) {
	w := newFormerWorld(t)

	w.push("only addresses changed", "failed") // c still is
	for _, name := range []string{"a", "b", "c"} {
		if n := w.sessions(name); n != 0 {
			t.Errorf("the first push after the upgrade opened %d sessions on %s, want 0", n, name)
		}
	}
	w.wantState("a", "current", w.commits[len(w.commits)-1].Commit)
	if got := w.state("c").State; got != "rolled-back" {
		t.Errorf("c is %s after the upgrade, want rolled-back", got)
	}
}

// The first contact after the upgrade reads the former release's record and finishes nothing
// anew: the host that holds the commit keeps its generation, and a run that a power cut stopped
// is undone and brought again.
func TestUpgradeReadsHosts(t *testing.T) {
	w := newFormerWorld(t)
	w.push("only addresses changed", "failed") // c still is
	if _, err := w.d.Keys().Push(t.Context(), "a,b"); err != nil {
		t.Fatalf("PushKeys after the upgrade: %v", err)
	}
	starts := w.machines["a"].Starts("web.service")
	w.d.Run(t.Context(), plan.Request{Cause: "deploy", All: true})

	w.wantState("a", "current", w.commits[len(w.commits)-1].Commit)
	if g := w.state("a").Generation; g == nil || *g != 2 {
		t.Errorf("a has generation %d after the upgrade, want 2", *g)
	}
	if n := w.machines["a"].Starts("web.service"); n != starts {
		t.Errorf("web.service of a was started %d times by a run that changes nothing", n-starts)
	}
	w.wantKeys("a")
	w.wantKeys("b")
	w.wantState("b", "current", w.commits[len(w.commits)-1].Commit)
	conf, err := os.ReadFile(w.machines["b"].Path("/etc/web.conf"))
	if w.must(err); string(conf) != "changed\n" {
		t.Errorf("/etc/web.conf of b is %q, want what the commit says", conf)
	}
	if s := w.machines["a"].Reloads(); s != 0 {
		t.Errorf("systemd of a was reloaded %d times, want never: nothing changed", s)
	}
}

// wantKeys wants the keys of the last former commit on a host.
func (w *world) wantKeys(name string) {
	w.t.Helper()
	for key, want := range map[string]string{"db": "hunter2-hunter2", "tok": "tok-rotated-rotated"} {
		if got, _ := os.ReadFile(w.machines[name].Path("/run/keys/" + key)); string(got) != want {
			w.t.Errorf("key %s of %s is wrong or missing after the upgrade", key, name)
		}
	}
}

// What the former release put aside comes back when its service leaves.
func TestUpgradeKeepsWhatWasThereBefore(t *testing.T) {
	w := newFormerWorld(t)
	w.enable("a")
	w.commit("web leaves a")
	w.d.Run(t.Context(), plan.Request{Cause: "push", AllowPrune: true})

	got, err := os.ReadFile(w.machines["a"].Path("/etc/web/extra.conf"))
	if err != nil || string(got) != "what stood there before\n" {
		t.Errorf("/etc/web/extra.conf of a is %q (%v), want what was there before bellhop", got, err)
	}
}
