//go:build linux && (amd64 || arm64)

package confine

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// forbidden is a process that may not have a filter of its own, as below a SystemCallFilter= that does
// not name seccomp: it starts a child, which is killed for asking, and another.
func forbidden() error {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	err := install([]unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offNr},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_SECCOMP, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: retKill},
		{Code: unix.BPF_RET | unix.BPF_K, K: retAllow},
	})
	if err != nil {
		return err
	}

	cfg := Config{Argv: []string{"/proc/self/exe", "child"}, Memory: 256 << 20, CPU: 20 * time.Second}
	first, err := Start(cfg)
	if err != nil {
		return err
	}
	fmt.Println("first:", first.Again())
	first.Close()

	second, err := Start(cfg)
	if err != nil {
		return err
	}
	defer second.Close()
	fmt.Fprintln(second.In, "compute")
	var answer int
	if _, err := fmt.Fscan(second.Out, &answer); err != nil {
		return fmt.Errorf("%w: %s", err, second.Reason())
	}
	fmt.Println("second:", answer)
	return nil
}

// TestFilterForbidden: where a child may not have its filter, it does without.
func TestFilterForbidden(t *testing.T) {
	cmd := exec.Command(os.Args[0], "forbidden")
	out, err := cmd.CombinedOutput()
	if got := string(out); err != nil || !strings.Contains(got, "first: true\nsecond: 140\n") {
		t.Errorf("%v: %s", err, got)
	}
}
