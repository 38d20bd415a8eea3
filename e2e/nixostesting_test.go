//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// profileLinks are where the profile of host3 leads to, its generations, and what boots.
func profileLinks(t testing.TB) string {
	t.Helper()
	return on(t, "host3", "cd /nix/var/nix/profiles && readlink -f system /nix/boots && for l in system*; do echo $l $(readlink $l); done")
}

// waitRuns waits until web of host3 runs a line, and chrysalis is in state.
func (w *world) waitRuns(line, state string) {
	w.t.Helper()
	eventually(w.t, time.Minute, "chrysalis is "+state+" and runs "+line, func() bool {
		got, err := tryOn("host3", "systemctl show -P ExecStart web; systemctl is-active web")
		return err == nil && strings.Contains(got, line) && strings.HasSuffix(got, "\nactive") && w.status().state("chrysalis") == state
	})
}

// toBranch pushes to testing-chrysalis, on top of main, a system whose web runs a line, and asks for a run.
func (w *world) toBranch(files map[string]string) {
	w.t.Helper()
	w.sh(w.work, "git switch -q -C testing-chrysalis main")
	w.write(files)
	w.sh(w.work, "git add -A && git -c core.hooksPath=/dev/null commit -qm 'try it' && git push -qf origin testing-chrysalis && git switch -q main")
	w.try("deploy") // exit 3: chrysalis is held
}

// nixosTriesABranch has a branch run on its host alone: the profile stays, what fails goes back, a reboot ends it, and
// so does the end of the branch.
func (w *world) nixosTriesABranch() {
	t := w.t
	t.Helper()
	links, profile, web := systemLinks(t), profileLinks(t), on(t, "host3", "systemctl show -P ExecStart web")
	w.stop()
	w.flags = append(w.flags, "--testing")
	w.start()

	w.toBranch(systemWith(map[string]string{"web": "exec sleep 1021"}))
	w.waitRuns("sleep 1021", "held")
	if now := profileLinks(t); now != profile {
		t.Errorf("while a branch is tried the profile is:\n%s\nbefore:\n%s", now, profile)
	}
	if out := w.bellhop("status"); !strings.Contains(out, "test: chrysalis is to run ") || !strings.Contains(out, "of branch testing-chrysalis") {
		t.Errorf("status does not say what is tried:\n%s", out)
	}
	if s := w.status().state("lufta"); s != "current" {
		t.Errorf("lufta is %s", s)
	}

	tried := systemLinks(t)
	w.toBranch(systemWith(map[string]string{"web": "exec sleep 1022", "comes": "echo it does not work; exit 7"}))
	w.waitRuns("sleep 1021", "rolled-back")
	if now := systemLinks(t); now != tried {
		t.Errorf("after a test that failed:\n%s\nbefore:\n%s", now, tried)
	}

	w.bellhop("reboot", "chrysalis")
	if now := systemLinks(t); now != links {
		t.Errorf("after a reboot:\n%s\nbefore the tests:\n%s", now, links)
	}

	w.toBranch(systemWith(map[string]string{"web": "exec sleep 1023"}))
	w.waitRuns("sleep 1023", "held")
	w.sh(w.work, "git push -q origin --delete testing-chrysalis && git branch -qD testing-chrysalis")
	w.bellhop("deploy")
	if now := systemLinks(t); now != links || w.status().state("chrysalis") != "current" {
		t.Errorf("after the branch, chrysalis is %s with:\n%s\nbefore:\n%s", w.status().state("chrysalis"), now, links)
	}
	if now := on(t, "host3", "systemctl show -P ExecStart web"); strings.Contains(now, "102") {
		t.Errorf("after the branch web runs %s, before %s", now, web)
	}
}

// nixosOneIsBroken has one of three hosts be without a system: the others get what the commit brings them.
func (w *world) nixosOneIsBroken() {
	t := w.t
	t.Helper()
	rig(t, "wipe", "host1")
	becomesNixOS(t, "host1")
	first := on(t, "host1", "readlink -f /run/current-system")
	config, err := os.ReadFile(filepath.Join(w.work, "bellhop.yaml"))
	if err != nil {
		t.Fatal(err)
	}

	w.bellhop("host", "add", "kosmos", "root@"+addr("host1"))
	w.edit("bellhop.yaml", "  kosmos:\n", "  kosmos:\n    nixos: .#kosmos\n")

	for line, broken := range map[string]string{
		"sleep 1031": `abort "it ends the process"`,
		"sleep 1032": systemThat("nixos-system-kosmos", "./nixos/system.nix", "", nil, "echo it ends the build; exit 3"),
	} {
		files := systemWith(map[string]string{"web": "exec " + line})
		files["flake.nix"] = strings.Replace(files["flake.nix"], "{ self }: { ", "{ self }: { nixosConfigurations.kosmos.config.system.build.toplevel = "+broken+"; ", 1)
		w.write(files)
		if out := w.deployBoth(line, "current"); !strings.Contains(out, "it ends the ") {
			t.Errorf("nobody is told why kosmos has no system:\n%s", out)
		}
		if s := w.status().state("kosmos"); s != "failed" {
			t.Errorf("kosmos is %s", s)
		}
		if got := on(t, "host3", "systemctl show -P ExecStart web"); !strings.Contains(got, line) {
			t.Errorf("beside a host without a system, web runs %s", got)
		}
		if now := on(t, "host1", "readlink -f /run/current-system"); now != first {
			t.Errorf("without a system kosmos runs %s", now)
		}
	}

	w.write(map[string]string{"bellhop.yaml": string(config)}) // kosmos leaves with the next commit
}
