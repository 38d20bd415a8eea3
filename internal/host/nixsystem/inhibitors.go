package nixsystem

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"bellhop/internal/host/machine"
)

// A system may say that a change to it must not be made while another runs, since parts change that
// only a boot can exchange: systemd, D-Bus. bellhop asks before it switches, since
// switch-to-configuration then refuses, and makes such a system that of the next boot.

// maxFacts is how much is read of one file that says so, bytes.
const maxFacts = 1 << 20

// inhibited says why the system to can't be switched to while from runs; "" when it can.
func inhibited(m *machine.Machine, from, to string) string {
	if a, b := facts(m, from, "init-interface-version"), facts(m, to, "init-interface-version"); a != "" && b != "" && a != b {
		return "its init differs"
	}

	was, will := inhibitors(facts(m, from, "switch-inhibitors")), inhibitors(facts(m, to, "switch-inhibitors"))
	var differ []string
	for name, value := range will {
		if former, known := was[name]; known && former != value {
			differ = append(differ, name)
		}
	}
	if len(differ) == 0 {
		return ""
	}
	slices.Sort(differ)
	return "switch inhibitors differ: " + strings.Join(differ, ", ")
}

// inhibitors reads a file switch-inhibitors: an object of JSON, or, as first releases of NixOS wrote
// it, store paths, one a line, whose names are those of their packages.
func inhibitors(text string) map[string]string {
	all := map[string]string{}
	if json.Unmarshal([]byte(text), &all) == nil {
		return all
	}

	all = map[string]string{}
	for _, line := range strings.Fields(text) {
		all[packageName(line)] = line
	}
	return all
}

// packageName is systemd of /nix/store/HASH-systemd-257.9.
func packageName(storePath string) string {
	_, name, _ := strings.Cut(filepath.Base(storePath), "-")
	for i := 0; i+1 < len(name); i++ {
		if isDigit := name[i+1] >= '0' && name[i+1] <= '9'; name[i] == '-' && isDigit {
			return name[:i]
		}
	}
	return name
}

// facts is the text of a small file of a system; "" where it has none. Such a file may be a link to
// another store path.
func facts(m *machine.Machine, system, file string) string {
	p := inSystem(m, system, file)
	if target, err := os.Readlink(p); err == nil && filepath.IsAbs(target) {
		p = m.At(target)
	}

	f, err := os.Open(p)
	if err != nil {
		return ""
	}
	defer f.Close()

	text, err := io.ReadAll(io.LimitReader(f, maxFacts))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// RebootReason says why a NixOS host wants a reboot; "" when it does not, or is none. A kernel that was
// brought runs from the next boot on, and so does a system that was not switched to.
func RebootReason(m *machine.Machine) string {
	l := ReadLinks(m)
	if l.Profile == "" || l.Booted == "" {
		return ""
	}

	var differ []string
	for _, part := range []string{"kernel", "initrd", "kernel-modules"} {
		was, errWas := os.Readlink(inSystem(m, l.Booted, part))
		will, errWill := os.Readlink(inSystem(m, l.Profile, part))
		if errors.Join(errWas, errWill) == nil && was != will {
			differ = append(differ, part)
		}
	}
	if len(differ) > 0 {
		return "the system has another " + strings.Join(differ, ", ") + " than it was booted with"
	}
	if waits := l.Current == l.Booted && l.Profile != l.Current; waits {
		return "the system that was brought starts with the next boot"
	}
	return ""
}
