package host_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bellhop/internal/bundle"
)

// A host with Nix is made a stand-in for a NixOS host: links, profile, and systems from derivations.

const sleeps = "[Service]\nExecStart=/bin/sleep "

func newRigNixOS(t *testing.T) (r *rig, one string) {
	r = newRig(t)
	if _, err := r.try("command -v nix-env"); err != nil {
		t.Skip("the host has no Nix")
	}
	for _, name := range []string{"switch.sh", "system.nix"} {
		text, err := os.ReadFile("testdata/nixos/" + name)
		if err != nil {
			t.Fatal(err)
		}
		r.put("/root/standin/"+name, string(text))
	}
	t.Cleanup(r.forgetNixOS)
	r.forgetNixOS()
	one = r.build("one", map[string]string{"web.service": sleeps + "1001\n", "leaves.service": sleeps + "1001\n"}, "")
	r.sh("touch /etc/NIXOS && nix-env -p /nix/var/nix/profiles/system --set " + one + " && " + one + "/bin/switch-to-configuration switch && ln -sfn " + one + " /run/booted-system")
	return r, one
}

func (r *rig) put(path, text string) {
	r.t.Helper()
	cmd := exec.Command(r.ssh[0], append(r.ssh[1:], fmt.Sprintf("mkdir -p $(dirname %[1]s) && cat >%[1]s", path))...)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("write %s: %v\n%s", path, err, out)
	}
}

// build builds a system on the host, and returns its store path.
func (r *rig) build(name string, units map[string]string, more string) string {
	r.t.Helper()
	script := more + "\n"
	for n, text := range units {
		script += fmt.Sprintf("printf '%%s' '%s' >$out/units/%s\n", text, n)
	}
	r.put("/root/standin/"+name+".nix", fmt.Sprintf("import ./system.nix { name = \"nixos-system-%s\"; make = ''\n%s''; }\n", name, script))
	out := r.sh("HOME=/root nix-build --no-out-link /root/standin/" + name + ".nix 2>/dev/null")
	return out[strings.LastIndexByte(out, '\n')+1:]
}

func (r *rig) forgetNixOS() {
	r.try("systemctl stop web leaves comes; for u in $(cat /nix/users); do userdel -f $u; done; rm -rf /nix/users /usr/local/lib/systemd/system /run/current-system /run/booted-system /nix/boots /etc/NIXOS /nix/var/nix/profiles/system* /nix/var/nix/gcroots/bellhop; systemctl daemon-reload; systemctl reset-failed")
}

// nixosState is all of the host that a run may change.
func (r *rig) nixosState() string {
	return r.sh("cd /nix/var/nix/profiles && for l in system*; do echo $l $(readlink $l); done; readlink /run/current-system /nix/boots; cd /usr/local/lib/systemd/system && grep -H ExecStart * | sort; for u in web leaves comes; do echo $u $(systemctl is-active $u); done")
}

func TestRigNixOS(t *testing.T) {
	r, one := newRigNixOS(t)
	first := r.nixosState()
	two := r.build("two", map[string]string{"web.service": sleeps + "1002\n", "comes.service": sleeps + "1002\n"}, "")
	bad := r.build("bad", map[string]string{"web.service": sleeps + "1003\n", "comes.service": "[Service]\nType=exec\nExecStart=/bin/sh -c \"echo it does not work; exit 7\"\n"}, "")

	// A unit that dies after the switch: all as before, and its journal is the evidence.
	l := systemLoad(bad, "")
	got := r.deploy(l, bundle.OutcomeRolledBack)
	if d := cmp.Diff(first, r.nixosState()); d != "" {
		t.Errorf("after a failed switch (-want +got):\n%s", d)
	}
	if e := got.res.Evidence; len(e) != 1 || e[0].Unit != "comes.service" || !strings.Contains(strings.Join(e[0].Lines, "\n"), "it does not work") {
		t.Errorf("evidence %+v", e)
	}

	l = systemLoad(two, "")
	r.deploy(l, bundle.OutcomeDone)
	second := r.nixosState()
	for _, want := range []string{"system-2-link " + two, "system system-2-link", "web active", "comes active", "leaves inactive", "sleep 1002"} {
		if !strings.Contains(second, want) {
			t.Errorf("after the switch there is no %q in\n%s", want, second)
		}
	}
	r.deploy(l, bundle.OutcomeNothing)

	// What the collector may take is not what a kept generation names.
	r.sh("nix-store --gc >/dev/null 2>&1; test -e " + two)

	// Killed in the middle of a switch.
	slow := r.build("slow", map[string]string{"web.service": sleeps + "1004\n"}, "echo 3 >$out/pause")
	go func() {
		for range 200 {
			if _, err := r.try("test $(readlink /run/current-system) = " + slow + " && systemctl kill -s KILL bellhop-apply.service"); err == nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	killed := r.deploy(systemLoad(slow, ""), bundle.OutcomeRolledBack)
	if d := cmp.Diff(second, r.nixosState()); d != "" || !killed.res.CutOff {
		t.Errorf("killed in the switch, cut off %v (-want +got):\n%s", killed.res.CutOff, d)
	}

	// Back to the first: a generation of its own, as that of any other push.
	r.deploy(systemLoad(one, ""), bundle.OutcomeDone)
	if s := r.nixosState(); !strings.Contains(s, "system system-3-link") || !strings.Contains(s, "leaves active") {
		t.Errorf("back at the first system:\n%s", s)
	}
}
