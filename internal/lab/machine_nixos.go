package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Toplevel is a NixOS system as the twin knows one.
type Toplevel struct {
	Units      map[string]string // unit files by name, with all that stands in them
	Users      []string          // users that it makes, each with a group of its name
	Kernel     string            // store path of its kernel; "": it has none
	Inhibitors string            // its file switch-inhibitors; "": it has none
	Exit       int               // what its switch-to-configuration ends with, where it is not for a unit that failed
	Takes      time.Duration     // how long its switch-to-configuration goes on once it has done its work
}

// nixos is what the twin of a NixOS host knows beside its files.
type nixos struct {
	systems map[string]Toplevel // valid store paths
	boots   string              // what the boot loader starts: set by switch and boot
	settles bool                // the system has bellhop-settle.service, which starts after all else
	actions []string            // what was switched to, as "switch /nix/store/…"
}

const systemProfile = "/nix/var/nix/profiles/system"

// MakeNixOS makes the machine a NixOS host that runs a system, as generation 1 of its profile.
func (m *Machine) MakeNixOS(system string, top Toplevel) {
	m.AddSystem(system, top)
	if err := m.Plant("/etc/NIXOS", ""); err != nil {
		panic(fmt.Sprintf("lab: make NixOS: %v", err))
	}
	m.set(func() {
		m.nixos.set(m, system)
		m.nixos.boots = system
		m.bootSystem()
		m.systemd.Reload()
		m.systemd.Transact("start", unitNames(top))
	})
}

// HasSettleModule says whether systems of this host have bellhop's module, whose unit settles an open
// journal at boot.
func (m *Machine) HasSettleModule(has bool) { m.set(func() { m.nixos.settles = has }) }

// AddSystem puts a system into the store, as copying its closure does.
func (m *Machine) AddSystem(system string, top Toplevel) {
	files := map[string]string{"/bin/switch-to-configuration": "#!", "/nixos-version": "26.05"}
	if top.Inhibitors != "" {
		files["/switch-inhibitors"] = top.Inhibitors
	}
	for p, text := range files {
		if err := m.Plant(system+p, text); err != nil {
			panic(fmt.Sprintf("lab: add system: %v", err))
		}
	}
	if top.Kernel != "" {
		os.Symlink(top.Kernel, m.Path(system+"/kernel"))
	}
	m.set(func() {
		if m.nixos.systems == nil {
			m.nixos.systems = map[string]Toplevel{}
		}
		m.nixos.systems[system] = top
	})
}

// Generations lists the generations of the system profile, as "1 /nix/store/…", and the profile's own
// number at the end.
func (m *Machine) Generations() (all []string) {
	for n, system := range generationsOf(m) {
		all = append(all, fmt.Sprintf("%d %s", n, system))
	}
	slices.Sort(all)
	target, _ := os.Readlink(m.Path(systemProfile))
	return append(all, "at "+target)
}

// CurrentSystem is what /run/current-system leads to.
func (m *Machine) CurrentSystem() string {
	target, _ := os.Readlink(m.Path("/run/current-system"))
	return target
}

// BootsSystem is what the boot loader starts next.
func (m *Machine) BootsSystem() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.nixos.boots
}

// Switched lists what switch-to-configuration was run for, as "switch /nix/store/…".
func (m *Machine) Switched() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.nixos.actions)
}

var (
	nixCommand    = regexp.MustCompile(`(?m)^exec (nix-env|nix-store) (.+)$`)
	switchCommand = regexp.MustCompile(`(?m)^exec (/nix/store/[^/]+)/bin/switch-to-configuration (switch|boot|test)$`)
)

// nixScript does what a command of Nix or of a system does, where text is one.
func (m *Machine) nixScript(text string) (s Script, is bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := switchCommand.FindStringSubmatch(text); c != nil {
		return m.switchTo(c[1], c[2]), true
	}
	if c := nixCommand.FindStringSubmatch(text); c != nil {
		if err := m.nixos.nix(m, strings.Fields(c[2])); err != nil {
			return Script{Exit: 1, Says: []string{"error: " + err.Error()}}, true
		}
		return Script{}, true
	}
	return Script{}, false
}

// nix is what nix-env and nix-store do.
func (n *nixos) nix(m *Machine, args []string) error {
	if args[0] == "--check-validity" {
		if _, valid := n.systems[args[1]]; !valid {
			return fmt.Errorf("path '%s' is not valid", args[1])
		}
		return nil
	}
	if len(args) < 4 || args[0] != "--profile" || args[1] != systemProfile {
		return fmt.Errorf("unknown arguments %q", args)
	}

	switch verb := args[2]; verb {
	case "--set":
		if _, valid := n.systems[args[3]]; !valid {
			return fmt.Errorf("path '%s' is not valid", args[3])
		}
		n.set(m, args[3])
		return nil
	case "--switch-generation":
		number, _ := strconv.Atoi(args[3])
		return n.point(m, number)
	case "--delete-generations":
		return n.delete(m, args[3:])
	default:
		return fmt.Errorf("unknown flag %s", verb)
	}
}

// set makes a generation, unless the newest is of that path.
func (n *nixos) set(m *Machine, system string) {
	all := generationsOf(m)
	newest := 0
	for number := range all {
		newest = max(newest, number)
	}
	if all[newest] != system {
		newest++
		os.MkdirAll(m.Path(path.Dir(systemProfile)), 0o755)
		os.Symlink(system, m.Path(generationPath(newest)))
	}
	n.point(m, newest)
}

func (n *nixos) point(m *Machine, number int) error {
	if _, err := os.Lstat(m.Path(generationPath(number))); err != nil {
		return fmt.Errorf("profile version %d does not exist", number)
	}
	os.Remove(m.Path(systemProfile))
	return os.Symlink(filepath.Base(generationPath(number)), m.Path(systemProfile))
}

func (n *nixos) delete(m *Machine, numbers []string) error {
	now, _ := os.Readlink(m.Path(systemProfile))
	for _, text := range numbers {
		number, _ := strconv.Atoi(text)
		if now == filepath.Base(generationPath(number)) {
			return errors.New("cannot delete current version of profile")
		}
		os.Remove(m.Path(generationPath(number)))
	}
	return nil
}

func generationPath(number int) string { return fmt.Sprintf("%s-%d-link", systemProfile, number) }

func generationsOf(m *Machine) map[int]string {
	all := map[int]string{}
	names, _ := filepath.Glob(m.Path(systemProfile + "-*-link"))
	for _, p := range names {
		var number int
		if _, err := fmt.Sscanf(filepath.Base(p), "system-%d-link", &number); err == nil {
			all[number], _ = os.Readlink(p)
		}
	}
	return all
}

// switchTo is switch-to-configuration of a system.
func (m *Machine) switchTo(system, verb string) Script {
	m.nixos.actions = append(m.nixos.actions, verb+" "+system)
	top, valid := m.nixos.systems[system]
	if !valid {
		return Script{Exit: 127}
	}
	s := Script{Exit: top.Exit, Takes: top.Takes, Says: []string{"activating the configuration..."}}
	if verb != "test" {
		m.nixos.boots = system
	}
	if verb == "boot" || top.Exit == 100 {
		return s
	}

	failed := m.activate(system)
	if len(failed) > 0 && s.Exit == 0 {
		s.Exit = 4
		s.Says = append(s.Says, "warning: the following units failed: "+strings.Join(failed, ", "))
	}
	return s
}

// activate exchanges the units of the system that runs for those of another, and returns those that
// failed.
func (m *Machine) activate(system string) (failed []string) {
	was := m.nixos.systems[readlink(m.Path("/run/current-system"))].Units
	will := m.nixos.systems[system].Units

	var gone, restart []string
	for n, text := range was {
		if _, stays := will[n]; !stays {
			gone = append(gone, n)
		} else if will[n] != text && m.systemd.IsActive(n) {
			restart = append(restart, n)
		}
	}
	m.systemd.Transact("stop", gone)
	makeUsers(m, system)
	m.install(system, was)
	os.Remove(m.Path("/run/current-system"))
	os.Symlink(system, m.Path("/run/current-system"))

	m.systemd.Reload()
	m.systemd.Transact("restart", restart)
	m.systemd.Transact("start", unitNames(m.nixos.systems[system]))
	for _, n := range slices.Sorted(maps.Keys(will)) {
		if m.state(n).Active == "failed" {
			failed = append(failed, n)
		}
	}
	return failed
}

// makeUsers makes the users of a system, and removes those of all others.
func makeUsers(m *Machine, system string) {
	for _, top := range m.nixos.systems {
		for _, name := range top.Users {
			delete(m.users, name)
			delete(m.groups, name)
		}
	}
	for _, name := range m.nixos.systems[system].Users {
		m.addGroup(name)
		m.addUser(name, name, "/var/empty")
	}
}

// install puts the unit files of a system where /etc of that system has them.
func (m *Machine) install(system string, was map[string]string) {
	for n := range was {
		os.Remove(m.Path("/etc/systemd/system/" + n))
	}
	for n, text := range m.nixos.systems[system].Units {
		os.WriteFile(m.Path("/etc/systemd/system/"+n), []byte(text), 0o644)
	}
}

// bootSystem is what stage 2 of a boot does: /run and /etc are those of the system that the boot loader
// started.
func (m *Machine) bootSystem() {
	if _, err := os.Lstat(m.Path("/etc/NIXOS")); errors.Is(err, fs.ErrNotExist) {
		return
	}
	for _, top := range m.nixos.systems {
		for n := range top.Units {
			os.Remove(m.Path("/etc/systemd/system/" + n))
		}
	}
	makeUsers(m, m.nixos.boots)
	m.install(m.nixos.boots, nil)
	os.MkdirAll(m.Path("/run/systemd/system"), 0o755) // as systemd does itself
	for _, link := range []string{"/run/current-system", "/run/booted-system"} {
		os.Remove(m.Path(link))
		os.Symlink(m.nixos.boots, m.Path(link))
	}
}

func unitNames(top Toplevel) []string { return slices.Sorted(maps.Keys(top.Units)) }

func readlink(p string) string {
	target, _ := os.Readlink(p)
	return target
}
