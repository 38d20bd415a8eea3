//go:build e2e

package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A seen is what the last look at a host found, as status has it.
type seen struct {
	Drift          *int    `json:"drift"`
	RebootRequired *bool   `json:"reboot_required"`
	LookedAt       *string `json:"looked_at"`
	Units          *struct {
		Running int `json:"running"`
		Failed  []struct {
			Name   string `json:"name"`
			Result string `json:"result"`
		} `json:"failed"`
	} `json:"units"`
}

func (w *world) seen() seen {
	w.t.Helper()
	var s struct {
		Hosts []seen `json:"hosts"`
	}
	if err := json.Unmarshal([]byte(w.bellhop("status", "--json")), &s); err != nil || len(s.Hosts) != 1 {
		w.t.Fatalf("status --json: %v, %d hosts", err, len(s.Hosts))
	}
	return s.Hosts[0]
}

// hostPage is the page of a host.
func (w *world) hostPage(host string) string {
	w.t.Helper()
	resp, err := w.getAdmin("/hosts/" + host)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		w.t.Fatal(resp.Status, err)
	}
	return string(text)
}

// Somebody works on a host by hand. A server that looks tells what differs, changes nothing, and the edit
// comes into the repo by git apply; the next push puts back the rest.
func TestLooking(t *testing.T) {
	w := oneHost(t)
	w.edit("bellhop.yaml", "network:", "look: 10s\nnetwork:")
	w.edit("bellhop.yaml", "{ x: true }", "{ x: true, y: true }")
	w.write(map[string]string{
		"services/x/x.service": sleeper, "services/x/files/etc/x.conf": "one\n", "services/x/files/etc/other.conf": "other\n",
		"services/y/y.service": sleeper,
	})
	w.deploy("one", "current")
	defer on(t, "host1", "rm -f /run/reboot-required")

	on(t, "host1", `set -e; echo two >>/etc/x.conf; echo edited >/etc/other.conf; systemctl stop x; touch /run/reboot-required
		systemctl kill -s KILL y; for i in $(seq 50); do systemctl is-failed -q y && break; sleep 0.1; done; systemctl is-failed y`)
	began := time.Now()
	eventually(t, 40*time.Second, "a look finds it", func() bool {
		s := w.seen()
		return s.Drift != nil && *s.Drift == 3 && len(s.Units.Failed) == 1 && *s.RebootRequired
	})
	t.Logf("found after %v", time.Since(began).Round(time.Second))
	if f := w.seen().Units.Failed[0]; f.Name != "y.service" || f.Result != "signal" {
		t.Errorf("failed: %+v", f)
	}
	page := w.hostPage("chrysalis")
	for _, want := range []string{"✕</span> <code>y.service</code> failed (signal)", "○</span> <code>x.service</code> inactive (dead)"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page of the host lacks %s:\n%s", want, page)
		}
	}
	if got := on(t, "host1", "cat /etc/x.conf; systemctl is-active x || true"); got != "one\ntwo\ninactive" {
		t.Errorf("a look changed the host: %q", got)
	}

	text := w.bellhop("status")
	for _, line := range []string{"y.service failed (signal)", "3 things changed by hand: bellhop drift chrysalis", "reboot required: bellhop reboot chrysalis"} {
		if !strings.Contains(text, line) {
			t.Errorf("status does not say %q:\n%s", line, text)
		}
	}
	out, code := w.try("drift", "chrysalis", "--diff", "--exit-code")
	if code != 2 || !strings.Contains(out, "+two") || !strings.Contains(out, "unit x.service: stopped") || !strings.Contains(out, "3 things differ") {
		t.Errorf("drift --diff: exit %d\n%s", code, out)
	}
	if h := w.bellhop("history"); strings.Count(h, "deploy") != 1 {
		t.Errorf("history has more than the one run:\n%s", h)
	}

	git := exec.Command("git", "apply")
	git.Dir, git.Stdin = w.work, strings.NewReader(w.bellhop("host", "pull", "chrysalis", "/etc/x.conf"))
	if out, err := git.CombinedOutput(); err != nil {
		t.Fatalf("git apply: %v\n%s", err, out)
	}
	if got := w.read("services/x/files/etc/x.conf"); got != "one\ntwo\n" {
		t.Errorf("git apply left %q", got)
	}
	on(t, "host1", "systemctl start x")
	w.deploy("keep the edit", "current")
	if got := on(t, "host1", "cat /etc/x.conf /etc/other.conf"); got != "one\ntwo\nother" {
		t.Errorf("after the push: %q", got)
	}
	if s := w.seen(); *s.Drift != 0 {
		t.Errorf("drift after the push: %d", *s.Drift)
	}
	if out, code := w.try("drift", "--verify", "--exit-code"); code != 0 || !strings.Contains(out, "nothing differs") {
		t.Errorf("drift after the push: exit %d\n%s", code, out)
	}
}
