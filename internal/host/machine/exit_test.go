package machine_test

import (
	"testing"

	"bellhop/internal/host/machine"
)

func TestExitString(t *testing.T) {
	for e, want := range map[machine.Exit]string{
		{Status: 203}:                       "status=203/EXEC",
		{Status: 1, Line: "ExecStartPre"}:   "status=1/FAILURE of ExecStartPre",
		{Status: 42}:                        "status=42",
		{Signal: 9}:                         "signal=KILL",
		{Signal: 64}:                        "signal=64",
		{Signal: 11, Line: "ExecStartPost"}: "signal=SEGV of ExecStartPost",
	} {
		if got := e.String(); got != want {
			t.Errorf("%#v.String() = %q, want %q", e, got, want)
		}
	}
}
