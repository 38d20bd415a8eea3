package host_test

import (
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/lab"
)

// A unit that does not come up says how its program ended, and what that means.
func TestTwinSaysHowAUnitEnded(t *testing.T) {
	for service, want := range map[string]string{
		"ExecStart=/nonexistent/bot\n":                                "unit bot.service: it is failed (exit-code, status=203/EXEC): its program is not there",
		"ExecStart=/bin/false\n":                                      "unit bot.service: it is failed (exit-code, status=1/FAILURE)",
		"Type=oneshot\nExecStartPre=/bin/false\nExecStart=/bin/bot\n": "unit bot.service: it is failed (exit-code, status=1/FAILURE of ExecStartPre)",
		"ExecStart=/nonexistent/bot\nRestart=always\n":                "(exit-code, status=203/EXEC): its program is not there",
		"ExecStart=/nonexistent/bot\nRestart=always\nRestartSec=30\n": "it died, and waits to be restarted (exit-code, status=203/EXEC): its program is not there",
	} {
		m := lab.NewMachine(t.TempDir())
		l := newLoad().service("bot.service", "[Service]\n"+service+"[Install]\nWantedBy=multi-user.target\n")
		if got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeRolledBack); !strings.Contains(got.res.Error, want) {
			t.Errorf("%q: the error is %q, want %q in it", service, got.res.Error, want)
		}
	}
}
