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

// nixos is what the twin of a NixOS host knows beside its files. The zero value is that of another host.
type nixos struct {
	m       *Machine
	systems map[string]Toplevel // valid store paths
	boots   string              // what the boot loader starts: set by switch and boot
	settles bool                // the system has bellhop-settle.service, which starts after all else
	actions []string            // what was switched to, as "switch /nix/store/…"
}

const systemProfile = "/nix/var/nix/profiles/system"

// MakeNixOS makes the machine a NixOS host that runs a system, as generation 1 of its profile.
func (nx *nixos) MakeNixOS(system string, top Toplevel) {
	nx.AddSystem(system, top)
	if err := nx.m.Plant("/etc/NIXOS", ""); err != nil {
		panic(fmt.Sprintf("lab: make NixOS: %v", err))
	}
	nx.m.set(func() {
		nx.set(system)
		nx.boots = system
		nx.bootSystem()
		nx.m.systemd.Reload()
		nx.m.systemd.Transact("start", unitNames(top))
	})
}

// HasSettleModule says whether systems of this host have bellhop's module, whose unit settles an open
// journal at boot.
func (nx *nixos) HasSettleModule(has bool) { nx.m.set(func() { nx.settles = has }) }

// AddSystem puts a system into the store, as copying its closure does.
func (nx *nixos) AddSystem(system string, top Toplevel) {
	files := map[string]string{"/bin/switch-to-configuration": "#!", "/nixos-version": "26.05"}
	if top.Inhibitors != "" {
		files["/switch-inhibitors"] = top.Inhibitors
	}
	for p, text := range files {
		if err := nx.m.Plant(system+p, text); err != nil {
			panic(fmt.Sprintf("lab: add system: %v", err))
		}
	}
	if top.Kernel != "" {
		os.Symlink(top.Kernel, nx.m.Path(system+"/kernel"))
	}
	nx.m.set(func() {
		if nx.systems == nil {
			nx.systems = map[string]Toplevel{}
		}
		nx.systems[system] = top
	})
}

// Generations lists the generations of the system profile, as "1 /nix/store/…", and the profile's own
// number at the end.
func (nx *nixos) Generations() (all []string) {
	for n, system := range nx.generations() {
		all = append(all, fmt.Sprintf("%d %s", n, system))
	}
	slices.Sort(all)
	target, _ := os.Readlink(nx.m.Path(systemProfile))
	return append(all, "at "+target)
}

// CurrentSystem is what /run/current-system leads to.
func (nx *nixos) CurrentSystem() string {
	target, _ := os.Readlink(nx.m.Path("/run/current-system"))
	return target
}

// BootsSystem is what the boot loader starts next.
func (nx *nixos) BootsSystem() string {
	nx.m.mu.Lock()
	defer nx.m.mu.Unlock()
	return nx.boots
}

// Switched lists what switch-to-configuration was run for, as "switch /nix/store/…".
func (nx *nixos) Switched() []string {
	nx.m.mu.Lock()
	defer nx.m.mu.Unlock()
	return slices.Clone(nx.actions)
}

var (
	nixCommand    = regexp.MustCompile(`(?m)^exec (nix-env|nix-store) (.+)$`)
	switchCommand = regexp.MustCompile(`(?m)^exec (/nix/store/[^/]+)/bin/switch-to-configuration (switch|boot|test)$`)
)

// nixScript does what a command of Nix or of a system does, where text is one.
func (nx *nixos) nixScript(text string) (s Script, is bool) {
	nx.m.mu.Lock()
	defer nx.m.mu.Unlock()
	if c := switchCommand.FindStringSubmatch(text); c != nil {
		return nx.switchTo(c[1], c[2]), true
	}
	if c := nixCommand.FindStringSubmatch(text); c != nil {
		if err := nx.nix(strings.Fields(c[2])); err != nil {
			return Script{Exit: 1, Says: []string{"error: " + err.Error()}}, true
		}
		return Script{}, true
	}
	return Script{}, false
}

// nix is what nix-env and nix-store do.
func (nx *nixos) nix(args []string) error {
	if args[0] == "--check-validity" {
		if _, valid := nx.systems[args[1]]; !valid {
			return fmt.Errorf("path '%s' is not valid", args[1])
		}
		return nil
	}
	if len(args) < 4 || args[0] != "--profile" || args[1] != systemProfile {
		return fmt.Errorf("unknown arguments %q", args)
	}

	switch verb := args[2]; verb {
	case "--set":
		if _, valid := nx.systems[args[3]]; !valid {
			return fmt.Errorf("path '%s' is not valid", args[3])
		}
		nx.set(args[3])
		return nil
	case "--switch-generation":
		number, _ := strconv.Atoi(args[3])
		return nx.point(number)
	case "--delete-generations":
		return nx.delete(args[3:])
	default:
		return fmt.Errorf("unknown flag %s", verb)
	}
}

// set makes a generation, unless the newest is of that path.
func (nx *nixos) set(system string) {
	all := nx.generations()
	newest := 0
	for number := range all {
		newest = max(newest, number)
	}
	if all[newest] != system {
		newest++
		os.MkdirAll(nx.m.Path(path.Dir(systemProfile)), 0o755)
		os.Symlink(system, nx.m.Path(generationPath(newest)))
	}
	nx.point(newest)
}

func (nx *nixos) point(number int) error {
	if _, err := os.Lstat(nx.m.Path(generationPath(number))); err != nil {
		return fmt.Errorf("profile version %d does not exist", number)
	}
	os.Remove(nx.m.Path(systemProfile))
	return os.Symlink(filepath.Base(generationPath(number)), nx.m.Path(systemProfile))
}

func (nx *nixos) delete(numbers []string) error {
	now, _ := os.Readlink(nx.m.Path(systemProfile))
	for _, text := range numbers {
		number, _ := strconv.Atoi(text)
		if now == filepath.Base(generationPath(number)) {
			return errors.New("cannot delete current version of profile")
		}
		os.Remove(nx.m.Path(generationPath(number)))
	}
	return nil
}

func generationPath(number int) string { return fmt.Sprintf("%s-%d-link", systemProfile, number) }

// generations has the generations of the profile, by number.
func (nx *nixos) generations() map[int]string {
	all := map[int]string{}
	names, _ := filepath.Glob(nx.m.Path(systemProfile + "-*-link"))
	for _, p := range names {
		var number int
		if _, err := fmt.Sscanf(filepath.Base(p), "system-%d-link", &number); err == nil {
			all[number], _ = os.Readlink(p)
		}
	}
	return all
}

// switchTo is switch-to-configuration of a system.
func (nx *nixos) switchTo(system, verb string) Script {
	nx.actions = append(nx.actions, verb+" "+system)
	top, valid := nx.systems[system]
	if !valid {
		return Script{Exit: 127}
	}
	s := Script{Exit: top.Exit, Takes: top.Takes, Says: []string{"activating the configuration..."}}
	if verb != "test" {
		nx.boots = system
	}
	if verb == "boot" || top.Exit == 100 {
		return s
	}

	failed := nx.activate(system)
	if len(failed) > 0 && s.Exit == 0 {
		s.Exit = 4
		s.Says = append(s.Says, "warning: the following units failed: "+strings.Join(failed, ", "))
	}
	return s
}

// activate exchanges the units of the system that runs for those of another, and returns those that
// failed.
func (nx *nixos) activate(system string) (failed []string) {
	was := nx.systems[readlink(nx.m.Path("/run/current-system"))].Units
	will := nx.systems[system].Units

	var gone, restart []string
	for n, text := range was {
		if _, stays := will[n]; !stays {
			gone = append(gone, n)
		} else if will[n] != text && nx.m.systemd.IsActive(n) {
			restart = append(restart, n)
		}
	}
	nx.m.systemd.Transact("stop", gone)
	nx.makeUsers(system)
	nx.install(system, was)
	os.Remove(nx.m.Path("/run/current-system"))
	os.Symlink(system, nx.m.Path("/run/current-system"))

	nx.m.systemd.Reload()
	nx.m.systemd.Transact("restart", restart)
	nx.m.systemd.Transact("start", unitNames(nx.systems[system]))
	for _, n := range slices.Sorted(maps.Keys(will)) {
		if nx.m.state(n).Active == "failed" {
			failed = append(failed, n)
		}
	}
	return failed
}

// makeUsers makes the users of a system, and removes those of all others.
func (nx *nixos) makeUsers(system string) {
	for _, top := range nx.systems {
		for _, name := range top.Users {
			delete(nx.m.users, name)
			delete(nx.m.groups, name)
		}
	}
	for _, name := range nx.systems[system].Users {
		nx.m.addGroup(name)
		nx.m.addUser(name, name, "/var/empty")
	}
}

// install puts the unit files of a system where /etc of that system has them.
func (nx *nixos) install(system string, was map[string]string) {
	for n := range was {
		os.Remove(nx.m.Path("/etc/systemd/system/" + n))
	}
	for n, text := range nx.systems[system].Units {
		os.WriteFile(nx.m.Path("/etc/systemd/system/"+n), []byte(text), 0o644)
	}
}

// bootSystem is what stage 2 of a boot does: /run and /etc are those of the system that the boot loader
// started.
func (nx *nixos) bootSystem() {
	if _, err := os.Lstat(nx.m.Path("/etc/NIXOS")); errors.Is(err, fs.ErrNotExist) {
		return
	}
	for _, top := range nx.systems {
		for n := range top.Units {
			os.Remove(nx.m.Path("/etc/systemd/system/" + n))
		}
	}
	nx.makeUsers(nx.boots)
	nx.install(nx.boots, nil)
	os.MkdirAll(nx.m.Path("/run/systemd/system"), 0o755) // as systemd does itself
	for _, link := range []string{"/run/current-system", "/run/booted-system"} {
		os.Remove(nx.m.Path(link))
		os.Symlink(nx.boots, nx.m.Path(link))
	}
}

func unitNames(top Toplevel) []string { return slices.Sorted(maps.Keys(top.Units)) }

func readlink(p string) string {
	target, _ := os.Readlink(p)
	return target
}
