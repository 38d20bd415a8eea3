package host_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
	"bellhop/internal/lab"
)

// A program that can't be started is named by its path, with what stands in its place.
func TestProgramsThatDoNotStart(t *testing.T) {
	m := &machine.Machine{Root: t.TempDir()}
	write := func(name, text string, mode os.FileMode) {
		file := filepath.Join(m.Root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("/opt/bellhop/bot/bin/bot", hiProgram, 0o755)
	write("/opt/bellhop/bot/notes", "x", 0o644)
	write("/opt/bellhop/bot/script", "#!/usr/bin/python9 -u\nx\n", 0o755)
	write("/bin/sh", "", 0o755)

	for program, want := range map[string]string{
		"/opt/bellhop/bot/bin/bto":  "/opt/bellhop/bot/bin/bto is not there; /opt/bellhop/bot/bin has bot",
		"/opt/bellhop/bot/sbin/bot": "/opt/bellhop/bot/sbin/bot is not there; /opt/bellhop/bot has bin/, notes, script",
		"/opt/bellhop/other/bot":    "/opt/bellhop/other/bot is not there",
		"/usr/bin/bot":              "/usr/bin/bot is not there",
		"/opt/bellhop/bot/bin":      "/opt/bellhop/bot/bin is a folder",
		"/opt/bellhop/bot/notes":    "/opt/bellhop/bot/notes is not executable (mode 0644)",
		"/opt/bellhop/bot/script":   "/opt/bellhop/bot/script needs /usr/bin/python9, which is not there",
		"/opt/bellhop/bot/bin/bot":  "",
	} {
		if got := m.NotStartable(program); got != want {
			t.Errorf("%s: %q, want %q", program, got, want)
		}
	}
}

// The error of the run holds it.
func TestMissingProgramIsNamed(t *testing.T) {
	for service, want := range map[string]string{
		"ExecStart=/nonexistent/bot\n": "noexec): /nonexistent/bot is not there",
	} {
		m := lab.NewMachine(t.TempDir())
		l := newLoad().service("bot.service", "[Service]\n"+service+"[Install]\nWantedBy=multi-user.target\n")
		if got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeRolledBack); !strings.Contains(got.res.Error, want) {
			t.Errorf("%q: the error is %q, want %q in it", service, got.res.Error, want)
		}
	}
}
