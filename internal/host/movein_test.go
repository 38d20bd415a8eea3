package host_test

import (
	"slices"
	"testing"

	"bellhop/internal/bundle"
)

// A unit that ran before bellhop came, and is brought as it is, goes on running. One that differs is
// restarted once, and its file stands there again when the service leaves.
func TestMovingIn(t *testing.T) {
	const same = "[Service]\nExecStart=/bin/app\n[Install]\nWantedBy=multi-user.target\n"
	for text, restarted := range map[string]bool{same: false, "# by hand\n" + same: true} {
		b := newBox(t)
		b.write("/etc/systemd/system/app.service", text)
		b.write("/etc/app.conf", "x")
		b.loaded["app.service"], b.active["app.service"], b.ran["app.service"], b.enabled["app.service"] = true, true, true, true

		got := b.deploy(newLoad().service("app.service", same, "file:/etc/app.conf").file("/etc/app.conf", "x"), bundle.OutcomeDone)
		if slices.Contains(got.res.Restarted, "app.service") != restarted {
			t.Errorf("%q: restarted %v, jobs %q; want restarted %v", text, got.res.Restarted, b.jobs, restarted)
		}

		b.deploy(newLoad().file("/etc/other", "y"), bundle.OutcomeDone)
		if back := b.read("/etc/systemd/system/app.service"); back != text {
			t.Errorf("the unit file is %q after the service left, was %q", back, text)
		}
	}
}
