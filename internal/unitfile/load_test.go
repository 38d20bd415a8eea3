package unitfile_test

import (
	"os/exec"
	"strings"
	"testing"

	"bellhop/internal/unitfile"
)

// wholeUnits are units, and whether systemd loads them, as systemd 252 and 257 both said.
var wholeUnits = []struct {
	name, text string
	loads      bool
}{
	{"x.service", "[Service]\nExecStart=/bin/true\n", true},
	{"x.service", "[Unit]\nDescription=x\n", false},
	{"x.service", "[Service]\nType=oneshot\n", false},
	{"x.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\n", false},
	{"x.service", "[Service]\nType=oneshot\nExecStop=/bin/true\n", false},
	{"x.service", "[Service]\nRemainAfterExit=yes\nExecStop=/bin/true\n", true},
	{"x.service", "[Service]\nType=simple\nExecStop=/bin/true\n", false},
	{"x.service", "[Unit]\nSuccessAction=reboot\n[Service]\nType=oneshot\n", true},
	{"x.service", "[Unit]\nSuccessAction=none\n[Service]\nType=oneshot\n", false},
	{"x.service", "[Service]\nExecStart=/bin/true\nExecStart=/bin/true\n", false},
	{"x.service", "[Service]\nExecStart=/bin/true ; /bin/true\n", false},
	{"x.service", "[Service]\nType=oneshot\nExecStart=/bin/true\nExecStart=/bin/true\n", true},
	{"x.service", "[Service]\nExecStart=/bin/false\nExecStart=\nExecStart=/bin/true\n", true},
	{"x.service", "[Service]\nExecStart=/bin/true\nExecStart=\n", false},
	{"x.service", "[Service]\nExecStart=-bin/true\n", false},
	{"x.service", "[Service]\nType=oneshot\nExecStart=/bin/true\nRestart=always\n", false},
	{"x.service", "[Service]\nType=oneshot\nExecStart=/bin/true\nRestart=on-success\n", false},
	{"x.service", "[Service]\nType=oneshot\nExecStart=/bin/true\nRestart=on-failure\n", true},
	{"x.service", "[Service]\nType=oneshot\nExecStart=/bin/true\nExitType=cgroup\n", false},
	{"x.service", "[Service]\nType=dbus\nExecStart=/bin/true\n", false},
	{"x.service", "[Service]\nBusName=org.x\nExecStart=/bin/true\n", true},
	{"x.service", "[Service]\nExecStart=/bin/true\nPAMName=login\nKillMode=process\n", false},
	{"x.timer", "[Timer]\nPersistent=yes\n", false},
	{"x.timer", "[Timer]\nOnClockChange=yes\n", true},
	{"x.timer", "[Timer]\nOnCalendar=daily\nOnCalendar=\n", false},
	{"x.path", "[Path]\nMakeDirectory=yes\n", false},
	{"x.path", "[Path]\nPathExists=/x\n", true},
	{"x.socket", "[Socket]\nAccept=no\n", false},
	{"x.socket", "[Socket]\nListenFIFO=/x\n", true},
	{"x.socket", "[Socket]\nListenStream=9\nAccept=yes\nService=y.service\n", false},
	{"x.mount", "[Mount]\nWhat=/dev/sda\nWhere=/y\n", false},
	{"x.mount", "[Mount]\nWhat=/dev/sda\n", true},
	{`srv-a\x2db-c.d.mount`, "[Mount]\nWhat=/dev/sda\nWhere=/srv/a-b/c.d/\n", true},
	{"x.automount", "[Automount]\nWhere=/y\n", false},
	{"x.target", "[Unit]\nDescription=x\n", true},
	{"x.slice", "[Slice]\nCPUWeight=10\n", true},
}

func TestWholeUnits(t *testing.T) {
	for _, c := range wholeUnits {
		ps := unitfile.CheckUnit(c.name, unitfile.Read([]byte(c.text)))
		if loads := len(ps) == 0; loads != c.loads {
			t.Errorf("CheckUnit(%s, %q) = %v, and systemd loads it: %v", c.name, c.text, ps, c.loads)
		}
	}
}

// What was recorded is what the systemd of this machine says.
func TestWholeUnitsAsSystemd(t *testing.T) {
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed: compared where it is")
	}
	for _, c := range wholeUnits {
		said := analyze(t, tool, c.name, c.text)
		refused := false
		for line := range strings.Lines(said) {
			ofIt := strings.HasPrefix(line, "Unit "+c.name) || strings.HasPrefix(line, c.name)
			bad := strings.Contains(line, "bad unit file setting") || strings.Contains(line, "Refusing.")
			refused = refused || ofIt && bad
		}
		if refused == c.loads {
			t.Errorf("%s %q: recorded that systemd loads it: %v; it says:\n%s", c.name, c.text, c.loads, said)
		}
	}
}
