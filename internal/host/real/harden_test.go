package real

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain: under this name the test binary is a process that was hardened.
func TestMain(m *testing.M) {
	if os.Getenv("BELLHOP_TEST_HARDEN") != "" {
		harden()
		dumpable, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		var core unix.Rlimit
		unix.Getrlimit(unix.RLIMIT_CORE, &core)
		status, _ := os.ReadFile("/proc/self/status")
		_, locked, _ := strings.Cut(string(status), "VmLck:")
		fmt.Println(dumpable, core.Cur, core.Max, strings.Fields(locked)[0] != "0")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestHarden(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "BELLHOP_TEST_HARDEN=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	want := "0 0 0 true\n"
	if os.Geteuid() != 0 {
		want = want[:len("0 0 0 ")] // memory can be locked by root alone
	}
	if !strings.HasPrefix(string(out), want) {
		t.Errorf("dumpable, core soft, core hard, locked = %q, want %q", out, want)
	}
}
