package fleet_test

import (
	"strings"
	"testing"

	"bellhop/internal/fleet"
)

// A file that is no YAML has one problem: what is missing from it is no news.
func TestBrokenYAML(t *testing.T) {
	_, err := (&fleet.Loader{}).Load(t.Context(), tree(map[string]string{"bellhop.yaml": "network: n\nhosts:\n\tx: 1\n"}))
	if err == nil || strings.Count(err.Error(), "bellhop.yaml:") != 1 || !strings.Contains(err.Error(), "bellhop.yaml:3:1") {
		t.Errorf("Load = %v, want one problem, at 3:1", err)
	}
}

// systemd takes CR LF for one line end, and passes over a byte order mark.
func TestUnitFromWindows(t *testing.T) {
	b := mustBundle(t, mustLoad(t, small("", map[string]string{
		"services/svc/svc.service": "\ufeff[Service]\r\nExecStart=/bin/true\r\n[Install]\r\nWantedBy=multi-user.target\r\n",
	})), "a")
	if u := unit(t, b, "svc.service"); !u.Enable || !u.Start {
		t.Errorf("svc.service = %+v, want it enabled and started", u)
	}
}

// What systemd passes over is told with what was meant.
func TestUnknownSection(t *testing.T) {
	m := main2("{ svc: true }")
	m["services/svc/svc.service"] = "[Unit]\nDescription=x\n[Servce]\nExecStart=/bin/true\n[X-Ours]\na=b\n"
	const want = "services/svc/svc.service:3:1: unknown section [Servce]: systemd ignores everything in it; did you mean [Service]?\n    [Servce]"
	if _, err := (&fleet.Loader{}).Load(t.Context(), tree(m)); err == nil || err.Error() != want {
		t.Errorf("Load = %v, want %s", err, want)
	}
}

// systemd takes an empty unit file for a mask; an empty drop-in is nothing.
func TestEmptyUnit(t *testing.T) {
	m := main2("{ svc: true }")
	m["services/svc/new.timer"] = ""
	m["services/svc/svc.service.d/x.conf"] = ""
	_, err := (&fleet.Loader{}).Load(t.Context(), tree(m))
	if err == nil || !strings.Contains(err.Error(), "services/svc/new.timer: is empty") || strings.Contains(err.Error(), "x.conf") {
		t.Errorf("Load = %v, want that new.timer is empty", err)
	}
}

// What lies on a tmpfs is gone with the next boot.
func TestFilesThatABootTakesAway(t *testing.T) {
	for path, warns := range map[string]bool{"run/foo/x": true, "tmp/x": true, "etc/run/x": false, "var/tmp/x": false, "runner": false} {
		f, err := new(fleet.Loader).Load(t.Context(), small("", map[string]string{"services/svc/files/" + path: "x"}))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if got := len(f.Warnings) == 1 && strings.Contains(f.Warnings[0].Error(), "services/svc/files/"+path+": warning: /"+path[:3]+" is empty after a boot"); got != warns || len(f.Warnings) > 1 {
			t.Errorf("%s: warnings %v, want one: %v", path, f.Warnings, warns)
		}
	}
}
