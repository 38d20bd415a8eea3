//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// A services is how services stand on a host, by name, as status has it.
type services map[string]struct {
	Name   string  `json:"name"`
	Commit *string `json:"commit"`
	State  string  `json:"state"`
	Error  *string `json:"error"`
}

func (w *world) services(host string) services {
	w.t.Helper()
	var s struct {
		Hosts []struct {
			Name     string            `json:"name"`
			Services []json.RawMessage `json:"services"`
		} `json:"hosts"`
	}
	if err := json.Unmarshal([]byte(w.bellhop("status", "--json")), &s); err != nil {
		w.t.Fatal(err)
	}
	all := services{}
	for _, h := range s.Hosts {
		if h.Name != host {
			continue
		}
		for _, raw := range h.Services {
			one := all[""]
			if err := json.Unmarshal(raw, &one); err != nil {
				w.t.Fatal(err)
			}
			all[one.Name] = one
		}
	}
	return all
}

// twenty writes twenty services, s07 with the unit bad; two of them share a key, two a user. Their
// units write which version they are.
func (w *world) twenty(version, bad string) {
	w.t.Helper()
	files := map[string]string{}
	for i := range 20 {
		name := fmt.Sprintf("s%02d", i)
		files["services/"+name+"/"+name+".service"] = sleeper
		files["services/"+name+"/files/etc/"+name+".conf"] = version + "\n"
	}
	if bad != "" {
		files["services/"+bad+"/"+bad+".service"] = "[Service]\nExecStart=/bin/sh -c 'echo the database is gone >&2; exit 3'\n[Install]\nWantedBy=multi-user.target\n"
	}
	files["services/s10/service.yaml"], files["services/s11/service.yaml"] = "keys: [db]\n", "keys: [db]\n"
	files["services/s12/service.yaml"], files["services/s13/service.yaml"] = "user: app\n", "user: app\n"
	w.write(files)
}

// versions says which version of each of twenty services stands on host1, as "s00 one active".
func (w *world) versions(t *testing.T) map[string]string {
	t.Helper()
	got := map[string]string{}
	out := on(t, "host1", `for i in $(seq -w 0 19); do echo s$i $(cat /etc/s$i.conf 2>/dev/null || echo none) $(systemctl is-active s$i); done`)
	for line := range strings.Lines(out) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		got[name] = rest
	}
	return got
}

// Of twenty services on a real host one is bad, each of them in turn that has ties or none: the others
// come to the commit, and it runs as before.
func TestOneBadServiceOfTwenty(t *testing.T) {
	w := oneHost(t)
	var on20 []string
	for i := range 20 {
		on20 = append(on20, fmt.Sprintf("s%02d: true", i))
	}
	w.edit("bellhop.yaml", "{ x: true }", "{ "+strings.Join(on20, ", ")+" }")
	w.edit("bellhop.yaml", "network:", "confirm: 0s\nnetwork:")
	w.secret("db", "hunter2")
	w.twenty("one", "")
	w.deploy("one", "current")

	for i, tc := range []struct {
		bad  string
		held []string
	}{{"s07", []string{"s07"}}, {"s11", []string{"s10", "s11"}}, {"s12", []string{"s12", "s13"}}} {
		version, first := fmt.Sprintf("bad%d", i), *w.status().Hosts[0].Commit
		w.twenty(version, tc.bad)
		out := w.deploy(version, "held-back")
		isHeld := map[string]bool{}
		for _, name := range tc.held {
			isHeld[name] = true
		}
		for name, got := range w.versions(t) {
			want := version + " active"
			if isHeld[name] {
				want = "one active"
			}
			if got != want {
				t.Errorf("%s is %q while %s is bad, want %q", name, got, tc.bad, want)
			}
		}
		for name, s := range w.services("chrysalis") {
			if s.State == "held-back" != isHeld[name] {
				t.Errorf("%s is %s while %s is bad", name, s.State, tc.bad)
			}
			if isHeld[name] && *s.Commit != first {
				t.Errorf("%s stays at %s, want %s", name, *s.Commit, first)
			}
		}
		if !strings.Contains(out, "held-back") || !strings.Contains(out, "service "+tc.bad+" stays at "+first[:7]) {
			t.Errorf("deploy does not say that %s is held back:\n%s", tc.bad, out)
		}

		w.twenty("one", "")
		w.deploy("all good again", "current")
	}
}

// A service that is bad from its first day stays away with all of its files, and the others come. A
// secret that does not open holds back its service alone, which keeps its key through a reboot.
func TestBadFromTheFirstDay(t *testing.T) {
	w := oneHost(t)
	w.edit("bellhop.yaml", "{ x: true }", "{ a: true, b: true }")
	w.edit("bellhop.yaml", "network:", "confirm: 0s\nnetwork:")
	w.secret("db", "hunter2")
	w.write(map[string]string{
		"services/a/a.service": sleeper, "services/a/files/etc/a.conf": "one\n",
		"services/b/b.service": strings.Replace(sleeper, "/bin/sleep inf", "/bin/false", 1), "services/b/files/etc/b.conf": "one\n", "services/b/service.yaml": "keys: [db]\n",
	})
	w.deploy("b is bad", "held-back")
	if got := on(t, "host1", "cat /etc/a.conf; systemctl is-active a; ls /etc/b.conf /run/keys/db /etc/systemd/system/b.service 2>/dev/null || true"); got != "one\nactive" {
		t.Errorf("the host has:\n%s", got)
	}

	w.write(map[string]string{"services/b/b.service": sleeper})
	w.deploy("b is good", "current")

	w.sh(w.work, "age-keygen -o other.key 2>/dev/null && age -r $(age-keygen -y other.key) -o secrets/db.age services/a/a.service && rm other.key")
	w.write(map[string]string{"services/a/files/etc/a.conf": "two\n"})
	w.deploy("a secret that does not open", "held-back")
	if got := on(t, "host1", "cat /etc/a.conf /run/keys/db; systemctl is-active a b"); got != "two\nhunter2active\nactive" {
		t.Errorf("the host has:\n%s", got)
	}
	if s := w.services("chrysalis")["b"]; s.State != "held-back" || s.Error == nil || !strings.Contains(*s.Error, "secrets/db.age") {
		t.Errorf("b: %+v", s)
	}
}
