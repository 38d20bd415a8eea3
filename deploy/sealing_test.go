package deploy_test

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"bellhop/deploy/plan"
	"bellhop/deploy/routes"
	"bellhop/internal/history"
	"bellhop/internal/link"
)

// A host whose systemd can't seal is told in the plan, by key, and not contacted; one that was
// never met is refused by its own word.
func TestTooOldASystemdToSeal(t *testing.T) {
	w := newWorld(t, "a")
	w.machines["a"].SetVersion(249)
	keyed(w, "a", 1, 5)
	w.push("not sealed", history.OutcomeDone)
	before := w.sessions("a")
	w.files["services/vault/service.yaml"] = "keys:\n  key0: { source: secrets/key0.age, persist: sealed }\n"
	w.host("b", "vault")
	w.machines["b"].SetVersion(249)
	c := w.commit("sealed")

	p, err := w.d.Plan(t.Context(), plan.Request{Cause: "plan"})
	w.must(err)
	var text bytes.Buffer
	w.must(w.d.WritePlan(t.Context(), &text, p))
	if !strings.Contains(text.String(), "a: refused: service vault stays at 000000000000: key key0: persist: sealed needs systemd 250, and the host had 249") {
		t.Errorf("the plan says:\n%s", text.String())
	}
	w.run(plan.Request{Cause: "push"}, history.OutcomeRefused)
	if got := w.sessions("a") - before; got != 0 {
		t.Errorf("a was contacted in %d sessions", got)
	}
	for _, name := range []string{"a", "b"} {
		h := w.state(name)
		if h.State != history.Refused || h.Error == nil || !strings.Contains(*h.Error, "key0") || !strings.Contains(*h.Error, "249") {
			t.Errorf("%s: %+v, want refused, naming key and version", name, h)
		}
	}
	if w.machines["b"].Starts("vault.service") != 0 {
		t.Error("b was touched")
	}

	for _, name := range []string{"a", "b"} {
		w.machines[name].SetVersion(252)
	}
	w.run(plan.Request{Cause: "deploy", Retry: true}, history.OutcomeDone)
	w.wantState("a", history.Current, c)
	w.wantState("b", history.Current, c)
}

// A sealed copy that somebody deleted is there again after the next contact, whatever that is for,
// and nothing restarts.
func TestLostSealedCopy(t *testing.T) {
	w := newWorld(t, "a")
	keyed(w, "a", 2, 5)
	w.files["services/vault/service.yaml"] = "keys:\n  key0: { source: secrets/key0.age, persist: sealed }\n  key1: { source: secrets/key1.age }\n"
	w.push("sealed", history.OutcomeDone)
	m := w.machines["a"]
	for _, contact := range []struct {
		name string
		do   func()
	}{
		{"a push of something else", func() {
			w.files["services/web/files/etc/web.conf"] += "more\n"
			w.enable("a", "vault", "web")
			w.push("else", history.OutcomeDone)
		}},
		{"a second one, offered early", func() {
			w.files["services/web/files/etc/web.conf"] += "more\n"
			w.push("else", history.OutcomeDone)
		}},
		{"deploy --all", func() { w.run(plan.Request{Cause: "deploy", All: true}, history.OutcomeDone) }},
		{"key push", func() {
			ks, err := w.d.Keys().Push(t.Context(), "a")
			w.must(err)
			if len(ks) != 1 || ks[0].Error != nil {
				t.Errorf("PushKeys: %+v", ks)
			}
		}},
		{"a reboot", func() {
			w.must(m.Reboot())
			if _, err := os.Stat(m.Path("/run/keys/key0")); err == nil {
				t.Error("key0 came back without its copy")
			}
			_, err := w.d.Keys().Push(t.Context(), "a")
			w.must(err)
		}},
	} {
		copyAt := m.Path("/var/lib/bellhop/sealed/key0")
		w.must(os.Remove(copyAt))
		m.ClearLog()
		contact.do()
		if !m.Host().Mounts.Opens(t.Context(), "key0", []byte("value 0 xxxxx")) {
			t.Errorf("after %s the sealed copy is not back", contact.name)
		}
		if n := m.Count("restart", "vault.service"); n != 0 {
			t.Errorf("%s restarted vault.service", contact.name)
		}
		if t.Failed() {
			break
		}
	}
}

// Key status tells where keys stand when it is no ramfs.
func TestKeyStatusTellsThePlace(t *testing.T) {
	w := newWorld(t, "a", "b")
	keyed(w, "a", 1, 5)
	w.enable("b", "vault")
	w.machines["b"].RefuseRamfs(true)
	w.push("keys", history.OutcomeDone)
	hosts, err := w.d.Keys().Status(t.Context(), "")
	w.must(err)
	if len(hosts) != 2 || hosts[0].Place == nil || *hosts[0].Place != "ramfs" || hosts[0].Swaps {
		t.Errorf("a: %+v, want a ramfs", hosts)
	}
	if hosts[1].Place == nil || *hosts[1].Place != "tmpfs" || !hosts[1].Swaps {
		t.Errorf("b: %+v, want a tmpfs that swaps", hosts)
	}
	for _, h := range hosts {
		if h.BootID == nil || *h.BootID != w.machines[h.Name].BootID() || len(h.Keys) != 1 {
			t.Errorf("%+v, want one key and the boot id", h)
		} else if k := h.Keys[0]; !k.Expected || !k.Present || k.Since == nil || *k.Source != "pushed" || *k.Unit != "active" {
			t.Errorf("%s: %+v, want it expected, present, pushed", h.Name, k)
		}
	}
}

type gone struct {
	routes.Links
	w *world
}

func (g gone) Exec(_ context.Context, t link.Target, _ string) (int, error) {
	g.w.hosts[t.Name].Cut()
	return 0, link.ErrLost
}

// A host that does not come back is told when the time is over, and not later.
func TestRebootHasALimit(t *testing.T) {
	w := newWorld(t, "a")
	keyed(w, "a", 1, 5)
	w.push("first", history.OutcomeDone)
	w.d.Links = gone{w.d.Links, w}
	began := time.Now()
	err := w.d.Reboot(t.Context(), "a", 3*time.Second, func(string) {})
	if err == nil || !strings.Contains(err.Error(), "reboot a: it is not back in 3s") {
		t.Errorf("Reboot = %v, want that it is not back", err)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %v", took)
	}
}

// A unit with a key that the host's systemd does not know yet is refused for that host, by line, once the
// version is known; elsewhere it is deployed.
func TestTooOldASystemdForAUnit(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.machines["a"].SetVersion(252)
	w.machines["b"].SetVersion(257)
	w.push("first", history.OutcomeDone)
	before := w.sessions("a")

	w.files["services/web/web.service"] = strings.Replace(w.files["services/web/web.service"], "[Service]\n", "[Service]\nRestartSteps=5\n", 1)
	w.host("c", "web") // never met: it says its version in its hello
	w.machines["c"].SetVersion(252)
	c := w.commit("newer")
	w.run(plan.Request{Cause: "push"}, history.OutcomePartial)
	if h := w.state("c"); h.State != history.Refused || w.machines["c"].Starts("web.service") != 0 {
		t.Errorf("c: %+v, want refused and nothing started", h)
	}
	const want = "RestartSteps= needs systemd 254; the host has systemd 252"
	if h := w.state("a"); h.State != history.Refused || h.Error == nil || !strings.Contains(*h.Error, want) {
		t.Errorf("a: %+v, want refused: %s", h, want)
	}
	if got := w.sessions("a") - before; got != 0 {
		t.Errorf("a was contacted in %d sessions", got)
	}
	w.wantState("b", history.Current, c)

	w.machines["a"].SetVersion(254)
	w.machines["c"].SetVersion(254)
	w.run(plan.Request{Cause: "deploy", Retry: true}, history.OutcomeDone)
	w.wantState("a", history.Current, c)
}
