package real

import (
	"os"
	"os/exec"
	"os/user"
	"slices"
	"testing"

	"bellhop/internal/host/machine"
)

func TestBusy(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	sleep := exec.Command("sleep", "1000")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	has := func(pid int, name string) bool {
		all, err := Accounts{}.Busy(me.Username)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(all, func(p machine.Process) bool { return p.PID == pid && (name == "" || p.Name == name) })
	}
	if !has(os.Getpid(), "") {
		t.Error("Busy does not list this process")
	}
	if pid := sleep.Process.Pid; !has(pid, "sleep") && !has(pid, "coreutils") {
		t.Error("Busy does not list a sleep of this user")
	}
	sleep.Process.Kill()
	sleep.Wait()
	if has(sleep.Process.Pid, "") {
		t.Error("Busy lists a process that has ended")
	}
	if all, err := (Accounts{}).Busy("no-such-user"); len(all) != 0 || err != nil {
		t.Errorf("Busy of a user who is not there = %v, %v", all, err)
	}
}

func TestUnitOf(t *testing.T) {
	for cgroup, want := range map[string]string{
		"0::/system.slice/bot.service\n":                                                      "bot.service",
		"0::/system.slice/bot.service/sub\n":                                                  "bot.service",
		"0::/system.slice/system-foo.slice/foo@a.service\n":                                   "foo@a.service",
		"0::/user.slice/user-1000.slice/session-3.scope\n":                                    "session-3.scope",
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice/bot.service\n":            "user@1000.service",
		"4:memory:/x.service\n1:name=systemd:/system.slice/cron.service\n0::/other.service\n": "cron.service",
		"0::/\n": "",
	} {
		if got := unitOf([]byte(cgroup)); got != want {
			t.Errorf("unitOf(%q) = %q, want %q", cgroup, got, want)
		}
	}
}
