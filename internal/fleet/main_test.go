package fleet

import (
	"fmt"
	"os"
	"testing"

	"bellhop/internal/confine"
)

// TestMain makes the test binary a loader's process too, when a test starts one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "load" {
		in, err := confine.Enter(os.Args[2:])
		if err == nil {
			err = ServeLoader(in)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// ConfinedTest starts this test binary as a loader's process.
var ConfinedTest = &confine.Config{Argv: []string{"/proc/self/exe", "load"}}
