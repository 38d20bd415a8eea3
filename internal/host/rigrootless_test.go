package host_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"bellhop/internal/bundle"
)

// asBox runs a line of shell as the user of the rootless stories, with the way to the user's own systemd.
func asBox(line string) string {
	return `cd / && id=$(id -u box) && setpriv --reuid=$id --regid=$id --init-groups env -i HOME=/srv/box PATH=$PATH XDG_RUNTIME_DIR=/run/user/$id DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/$id/bus sh -c '` + line + `'`
}

// rigBox is rootless on a real host.
func rigBox(image string) *load {
	l := rootless(image)
	text := "[Container]\nImage=" + image + "\nExec=run\nNetwork=host\nPodmanArgs=--stop-timeout=1\nVolume=data.volume:/data\n[Service]\nRestart=always\n[Install]\nWantedBy=default.target\n"
	at := slices.IndexFunc(l.Files, func(f bundle.File) bool { return strings.HasSuffix(f.Path, "/web.container") })
	l.Files = slices.Delete(l.Files, at, at+1)
	l.file(boxQuadlets+"/web.container", text).of("box")
	return l
}

// Containers of a user: refused while the host sets no ids aside, pulled and run by the user, restarted by what
// changes, left alone by an image that does not come, started by a boot, and gone with the service.
func TestRigRootless(t *testing.T) {
	r := newRig(t)
	if _, err := r.try("test -e /usr/lib/systemd/user-generators/podman-user-generator"); err != nil {
		t.Skip("this host has no podman")
	}
	clean := `id box >/dev/null 2>&1 && { systemctl stop user@$(id -u box); userdel box; }; rm -rf /srv/box; sed -i /^box:/d /etc/subuid /etc/subgid`
	r.try(clean)
	t.Cleanup(func() { r.try(clean) })
	r.sh("chmod 666 /dev/fuse") // as udev has it: the home is on an overlay, and there images need fuse-overlayfs
	// Units of a user wait up to 90 s for this target of the host's, which nothing else here asks for.
	r.sh("systemctl -q add-wants multi-user.target network-online.target; systemctl start network-online.target")
	t.Cleanup(func() {
		r.try("rm -f /etc/systemd/system/multi-user.target.wants/network-online.target; systemctl daemon-reload")
	})
	ip, _, _ := strings.Cut(r.sh("echo $SSH_CONNECTION"), " ")
	reg := newRegistry(t, ip)
	one, two := reg.push("tiny", "1", "1"), reg.push("tiny", "2", "2")

	got := r.deploy(rigBox(one), bundle.OutcomeRefused)
	line := regexp.MustCompile(`echo box:\d+:65536 \| tee -a /etc/subuid /etc/subgid`).FindString(got.res.Error)
	if line == "" {
		t.Fatalf("without ids: %s", got.res.Error)
	}
	r.sh(line)
	got = r.deploy(rigBox(one), bundle.OutcomeDone)
	wantList(t, "started", got.res.Started, boxWeb)
	image := func() string { return r.sh(asBox("podman ps --format {{.Image}} 2>/dev/null")) }
	if image() != one {
		t.Errorf("it runs %s, want %s", image(), one)
	}

	reg.fails(404)
	life := r.sh(asBox("systemctl --user show -P InvocationID web"))
	got = r.deploy(rigBox(strings.TrimSuffix(one, "1")+"3"), bundle.OutcomeRefused)
	if !strings.Contains(got.res.Error, "has no such image") || r.sh(asBox("systemctl --user show -P InvocationID web")) != life {
		t.Errorf("an image that is not there: %s", got.res.Error)
	}
	reg.fails(0)

	got = r.deploy(rigBox(two), bundle.OutcomeDone)
	wantList(t, "restarted", got.res.Restarted, boxWeb)
	if image() != two {
		t.Errorf("it runs %s, want %s", image(), two)
	}

	r.reboot()
	r.until("systemctl is-active user@$(id -u box)", "active")
	r.until(asBox("systemctl --user is-active web"), "active")
	if image() != two {
		t.Errorf("after a boot it runs %s, want %s", image(), two)
	}

	gone := newLoad().file("/etc/rigother", "x")
	o := gone.offer()
	o.AllowPrune = true
	o.Run = fmt.Sprintf("rig-%d", time.Now().UnixNano())
	if got := r.deployOffer(o, gone, bundle.OutcomeDone); !slices.Contains(got.res.Kept, "home /srv/box") {
		t.Errorf("it leaves, and keeps %q", got.res.Kept)
	}
	r.want("ls /var/lib/systemd/linger; test -e "+boxQuadlets+"/web.container || systemctl is-active user@$(id -u box) || :", "inactive")
}
