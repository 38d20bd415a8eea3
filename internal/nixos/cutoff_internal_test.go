package nixos

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
)

// What an evaluation may take is bounded by the kernel.
func TestBound(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if err := bound(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}

	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"Max address space": cutOffMemory, "Max cpu time": cutOffCPU, "Max file size": cutOffFile, "Max core file size": 0} {
		if !regexp.MustCompile(fmt.Sprintf(`(?m)^%s +%d +%d `, name, want, want)).Match(limits) {
			t.Errorf("%s is not %d:\n%s", name, want, limits)
		}
	}
}

// A program that is cut off sees no network but its own, and stays who it is.
func TestCutOff(t *testing.T) {
	kinds := []string{"--net", "true"} // as root, who needs no namespace of users
	if os.Geteuid() != 0 {
		kinds = append([]string{"--user"}, kinds...)
	}
	if out, err := exec.Command("unshare", kinds...).CombinedOutput(); err != nil {
		t.Skipf("needs the right to make a network namespace: %s", out)
	}
	cmd := exec.Command("sh", "-c", "tail -n +3 /proc/net/dev; tail -n +2 /proc/net/route; id -u")
	var said bytes.Buffer
	cmd.Stdout, cmd.SysProcAttr = &said, &syscall.SysProcAttr{Setpgid: true}
	cutOff(cmd)
	if err := startCutOff(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(fmt.Sprintf(`^ +lo: [ 0]+\n%d\n$`, os.Getuid())).Match(said.Bytes()) {
		t.Errorf("it says\n%s\nwant one interface, no route, and user %d", said.String(), os.Getuid())
	}
}
