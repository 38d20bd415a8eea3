package deploy_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bellhop/deploy/drift"
	"bellhop/deploy/plan"
	"bellhop/internal/history"
	"bellhop/internal/mask"
)

// drift asks all hosts what differs there.
func (w *world) drift(req drift.Request) map[string]drift.HostDrift {
	w.t.Helper()
	hosts, err := w.d.Looker().Drift(w.t.Context(), req)
	w.must(err)
	all := map[string]drift.HostDrift{}
	for _, h := range hosts {
		all[h.Name] = h
	}
	return all
}

// things are what differs on a host, in words.
func things(h drift.HostDrift) string {
	var all []string
	for _, one := range h.Drift {
		all = append(all, one.Kind+" "+one.Name+" "+one.What)
	}
	return strings.Join(all, ", ")
}

func (w *world) edit(host, path, text string) {
	w.t.Helper()
	w.must(w.machines[host].Plant(path, text))
}

// What somebody did on a host is told, shown in status, and put back by the next push alone.
func TestLookFindsWhatWasDoneByHand(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.top = atOnce
	w.push("one", history.OutcomeDone)
	if s := w.state("a"); s.Drift != nil || s.RebootRequired != nil || s.LookedAt != nil {
		t.Errorf("before any look status has %+v", s)
	}
	was := w.sessions("b")
	if h := w.drift(drift.Request{})["b"]; h.State != drift.OK || h.Differs() {
		t.Errorf("right after a push: %+v", h)
	}
	if n := w.sessions("b") - was; n != 1 {
		t.Errorf("a look took %d sessions, want 1", n)
	}

	w.edit("a", "/etc/web.conf", "hello\nedited\n")
	w.edit("a", "/run/reboot-required", "")
	w.must(w.machines["a"].Stop("web.service"))
	all := w.drift(drift.Request{Diff: true})
	h := all["a"]
	if got, want := things(h), "file /etc/web.conf changed, unit web.service stopped"; got != want {
		t.Errorf("drift of a: %s\nwant %s", got, want)
	}
	if !h.RebootRequired || all["b"].Differs() {
		t.Errorf("reboot required on a: %v; b differs: %v", h.RebootRequired, all["b"].Differs())
	}
	want := "--- /etc/web.conf\n+++ /etc/web.conf\n@@ -1 +1,2 @@\n hello\n+edited\n"
	if d := h.Drift[0].Diff; d == nil || *d != want {
		t.Errorf("diff:\n%v\nwant\n%s", *d, want)
	}

	s := w.state("a")
	if *s.Drift != 2 || !*s.RebootRequired || len(s.Units.Failed) != 0 || s.LookedAt == nil || s.State != history.Current {
		t.Errorf("status: drift %d, %s", *s.Drift, s.State)
	}
	if runs, err := w.db.Runs(t.Context(), 0); err != nil || len(runs.Runs) != 1 {
		t.Errorf("%d runs, %v; a look is none", len(runs.Runs), err)
	}
	if b, err := os.ReadFile(w.machines["a"].Path("/etc/web.conf")); err != nil || string(b) != "hello\nedited\n" || w.machines["a"].Active("web.service") {
		t.Errorf("a look changed the host: %q, %v", b, err)
	}

	w.run(plan.Request{All: true}, history.OutcomeDone)
	if s := w.state("a"); *s.Drift != 1 {
		t.Errorf("after the push drift is %d, want the unit that somebody stopped", *s.Drift)
	}
	w.must(w.machines["a"].Start("web.service"))
	if h := w.drift(drift.Request{Verify: true})["a"]; h.Differs() {
		t.Errorf("after the push: %s", things(h))
	}
}

// How units do is known as soon as a host's first run ends, without a session that asks for it. What else only a look tells
// stays open until the first one.
func TestFirstRunTellsOfUnits(t *testing.T) {
	w := newWorld(t, "a")
	w.push("one", history.OutcomeDone)

	look, ok := w.db.Looks().Last("a")
	if got := look.Units["web.service"]; !ok || !look.IsOfRun() || got != "active (running)" {
		t.Errorf("after the first run web.service is %q, in %+v", got, look)
	}
	s := w.state("a")
	if s.Units == nil || s.Units.Running != 1 || len(s.Units.Failed) != 0 {
		t.Errorf("status: %+v, want one unit that runs", s.Units)
	}
	if s.Drift != nil || s.RebootRequired != nil || s.LookedAt != nil {
		t.Errorf("status: drift %v, reboot %v, looked at %v, of a host that nobody looked at", s.Drift, s.RebootRequired, s.LookedAt)
	}

	w.drift(drift.Request{})
	w.machines["a"].Crash("web.service")
	w.drift(drift.Request{})
	if s := w.state("a"); s.LookedAt == nil || len(s.Units.Failed) != 1 {
		t.Errorf("after a look: %+v", s)
	}
}

// A unit that failed is in status until it runs again.
func TestLookFindsFailedUnits(t *testing.T) {
	w := newWorld(t, "a")
	w.push("one", history.OutcomeDone)
	w.machines["a"].Crash("web.service")
	h := w.drift(drift.Request{})["a"]
	if len(h.Failed) != 1 || h.Failed[0].Name != "web.service" || h.Failed[0].Result == "" {
		t.Fatalf("failed: %+v", h.Failed)
	}
	if u := w.state("a").Units; len(u.Failed) != 1 || u.Running != 0 {
		t.Errorf("status: %+v", u)
	}
	unit := func() string {
		look, _ := w.db.Looks().Last("a")
		return look.Units["web.service"]
	}
	if got := unit(); got != "failed" {
		t.Errorf("the failed unit is %q", got)
	}

	w.files["services/web/files/etc/web.conf"] = "hello again\n"
	w.push("two", history.OutcomeDone)
	if got := unit(); got != "active (running)" {
		t.Errorf("after a deploy that started it the unit is %q", got)
	}
	if u := w.state("a").Units; len(u.Failed) != 0 || u.Running != 1 {
		t.Errorf("status after a deploy that started it: %+v", u)
	}

	w.drift(drift.Request{})
	if got := unit(); got != "active (running)" {
		t.Errorf("at the next look the unit is %q", got)
	}
}

// After a reboot, or when keys are gone, a look leads to what any contact does: keys come back. Nothing
// else is restored, and no run begins.
func TestLookPutsKeysBack(t *testing.T) {
	w := newWorld(t)
	w.host("a", "web")
	keyed(w, "a", 2, 40)
	w.enable("a", "vault", "web")
	w.push("one", history.OutcomeDone)
	for name, lose := range map[string]func() error{
		"reboot": w.machines["a"].Reboot,
		"gone":   func() error { return os.Remove(w.machines["a"].Path("/run/keys/key1")) },
	} {
		w.must(lose())
		w.edit("a", "/etc/web.conf", "edited\n")
		if h := w.drift(drift.Request{})["a"]; len(h.KeysMissing) == 0 {
			t.Errorf("%s: no key was missed", name)
		}
		if h := w.drift(drift.Request{})["a"]; len(h.KeysMissing) != 0 || things(h) != "file /etc/web.conf changed" {
			t.Errorf("%s: after that %v are missing, and %s", name, h.KeysMissing, things(h))
		}
		if s := w.state("a"); s.Keys.Present != 2 || *s.BootID != w.machines["a"].BootID() {
			t.Errorf("%s: status has %d keys in boot %s", name, s.Keys.Present, *s.BootID)
		}
	}
	if w.syncs != 1 {
		t.Errorf("the repo was read %d times, want once", w.syncs)
	}
}

// A host that is away is told, and costs the others nothing.
func TestLookAtHostsThatAreAway(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.top = atOnce
	w.push("one", history.OutcomeDone)
	w.host("new", "web")
	w.commit("new is not deployed yet")
	w.pool.Drop("a")
	w.hosts["a"].Cut()
	all := w.drift(drift.Request{})
	if all["a"].State != drift.Away || all["a"].Error == nil || all["b"].State != drift.OK {
		t.Errorf("a is %s, b %s", all["a"].State, all["b"].State)
	}
	if s := w.state("a"); s.AwaySince == nil || s.State != history.Current {
		t.Errorf("status of a: %s, away since %v", s.State, s.AwaySince)
	}
	if _, err := w.d.Looker().Drift(t.Context(), drift.Request{On: "nobody"}); err == nil {
		t.Error("a host that is not there is no error")
	}
}

// An edit becomes a patch that git apply takes, whatever is in the file.
func TestPullIsAPatch(t *testing.T) {
	w := newWorld(t, "a")
	w.files["services/web/files/etc/no newline"] = "one\ntwo"
	w.files["services/web/web.service.d/more.conf"] = "[Service]\nNice=1\n"
	w.push("one", history.OutcomeDone)

	for path, c := range map[string]struct{ source, text string }{
		"/etc/web.conf":                               {"services/web/files/etc/web.conf", "hello\nworld"},
		"/etc/no newline":                             {"services/web/files/etc/no newline", "one\r\n\ttwo é\n\n"},
		"/etc/systemd/system/web.service":             {"services/web/web.service", "[Service]\nExecStart=/bin/web --more\n[Install]\nWantedBy=multi-user.target\n"},
		"/etc/systemd/system/web.service.d/more.conf": {"services/web/web.service.d/more.conf", ""},
	} {
		if p, err := w.d.Looker().Pull(t.Context(), "a", path); err != nil || !p.Same || p.Patch != "" {
			t.Errorf("%s, before the edit: %+v, %v", path, p, err)
		}
		w.edit("a", path, c.text)
		p, err := w.d.Looker().Pull(t.Context(), "a", path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if p.Source != c.source || p.Template || string(p.Content) != c.text {
			t.Errorf("%s: %+v", path, p)
		}

		dir := w.workTree(t)
		git := exec.Command("git", "apply", "-")
		git.Dir, git.Stdin = dir, strings.NewReader(p.Patch)
		if out, err := git.CombinedOutput(); err != nil {
			t.Errorf("%s: git apply: %v\n%s\n%s", path, err, out, p.Patch)
		}
		if b, _ := os.ReadFile(filepath.Join(dir, c.source)); string(b) != c.text {
			t.Errorf("%s: after git apply %q, want %q", path, b, c.text)
		}
	}
}

// workTree is the repo as it is now, in a folder that git made.
func (w *world) workTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for p, text := range w.files {
		at := filepath.Join(dir, p)
		w.must(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(text), 0o644))
	}
	if out, err := exec.Command("git", "init", "-q", dir).CombinedOutput(); err != nil {
		t.Fatalf("git init: %v\n%s", err, out)
	}
	return dir
}

// What can't become a patch is told with its reason, and no value of a key leaves its host.
func TestPullRefuses(t *testing.T) {
	const secret = "correct horse battery staple"
	w := newWorld(t, "a")
	w.d.Filter = mask.Of
	w.files["services/web/service.yaml"] = "keys: { token: { source: secrets/token.age } }\n"
	w.files["services/web/files/etc/made.conf.tmpl"] = "host {{ .Host.Name }}\n"
	w.files["services/web/files/etc/with.conf.tmpl"] = "token {{ key \"token\" }}\n"
	w.files["services/web/files/etc/bin"] = "a\x00b"
	w.files["secrets/token.age"] = secret
	w.push("one", history.OutcomeDone)

	w.edit("a", "/etc/made.conf", "host a\nmore\n")
	p, err := w.d.Looker().Pull(t.Context(), "a", "/etc/made.conf")
	if err != nil || !p.Template || p.Patch != "" || p.Source != "services/web/files/etc/made.conf.tmpl" || !strings.Contains(p.Diff, "+more\n") {
		t.Errorf("of a template: %+v, %v", p, err)
	}
	w.edit("a", "/etc/bin", "a\x00c")
	if p, err := w.d.Looker().Pull(t.Context(), "a", "/etc/bin"); err != nil || p.Patch != "" || !bytes.Equal(p.Content, []byte("a\x00c")) {
		t.Errorf("of no text: %+v, %v", p, err)
	}

	pem := "-----BEGIN OPENSSH PRIVATE KEY-----\n" + strings.Repeat("b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtz\n", 4) + "-----END OPENSSH PRIVATE KEY-----\n"
	for i, c := range []struct{ path, text, want string }{
		{"/etc/web.conf", "hello\ntoken=" + secret + "\n", "the value of a key"},
		{"/etc/web.conf", pem, "a private key is in it"},
		{"/etc/with.conf", "", "a key is in it"},
		{"/run/keys/token", "", "a key is in it"},
		{"/etc/passwd", "", "bellhop put no such file there"},
		{"etc/web.conf", "", "want the whole path"},
	} {
		if c.text != "" {
			w.edit("a", c.path, c.text)
		}
		p, err := w.d.Looker().Pull(t.Context(), "a", c.path)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%d: Pull(%s) = %+v, %v; want %s", i, c.path, p, err, c.want)
		}
	}

	w.edit("a", "/etc/web.conf", "token="+secret+"\n")
	h := w.drift(drift.Request{Diff: true})["a"]
	if said := fmt.Sprintf("%+v", h); strings.Contains(said, secret) {
		t.Errorf("drift shows the value of a key: %s", said)
	}
	w.must(os.Remove(w.machines["a"].Path("/etc/web.conf")))
	if _, err := w.d.Looker().Pull(t.Context(), "a", "/etc/web.conf"); err == nil || !strings.Contains(err.Error(), "on the host it is not there") {
		t.Errorf("Pull of a file that is gone: %v", err)
	}
	if _, err := w.d.Looker().Pull(t.Context(), "nobody", "/etc/web.conf"); err == nil {
		t.Error("Pull of a host that is not there is no error")
	}
}
