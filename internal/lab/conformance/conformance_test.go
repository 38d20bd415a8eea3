package conformance_test

import (
	"os"
	"testing"
	"time"

	"bellhop/internal/host/machine"
	"bellhop/internal/host/real"
	"bellhop/internal/lab"
	"bellhop/internal/lab/conformance"
)

// TestMain: on a real host this binary is also what the transient unit runs, "apply RUN". It
// fails after a while, as a helper does that finds no such run.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "apply" {
		time.Sleep(200 * time.Millisecond)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestTwin(t *testing.T) {
	conformance.Run(t, func(t *testing.T) *machine.Machine {
		m := lab.NewMachine(t.TempDir())
		t.Cleanup(func() { m.WaitApply(time.Minute) })
		return m.Host()
	})
}

// TestReal is for a host that may be played with: go test -c, copy, and run there as root
// with BELLHOP_CONFORMANCE=1.
func TestReal(t *testing.T) {
	if os.Getenv("BELLHOP_CONFORMANCE") != "1" {
		t.Skip("BELLHOP_CONFORMANCE=1 runs it on the host itself, as root")
	}
	conformance.Run(t, func(t *testing.T) *machine.Machine {
		m, err := real.Machine()
		if err != nil {
			t.Fatal(err)
		}
		return m
	})
}
