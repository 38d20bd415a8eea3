// Package real puts together the machine that this program runs on: systemd over D-Bus, the
// place for keys, and accounts as the host has them.
//
// It is the other half of what the lab's twin imitates; one conformance suite runs on both.
// The promise: nothing here takes a word from a bundle for more than a name or a path. Every
// program is called with a fixed argv and no shell.
package real

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"bellhop/internal/host/keys"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/probes"
	"bellhop/internal/host/systemd"
	"bellhop/internal/host/usersystemd"
)

// Machine opens the host that this process runs on. It needs root.
func Machine() (*machine.Machine, error) {
	harden()
	// In a session of sudo the PATH may lack what is only root's.
	if err := os.Setenv("PATH", withSane(os.Getenv("PATH"))); err != nil {
		return nil, err
	}

	sd, err := systemd.New()
	if err != nil {
		return nil, err
	}

	exe, err := executable()
	if err != nil {
		return nil, err
	}

	_, nixos := os.Stat("/etc/NIXOS")
	sd.Exec, sd.Runtime = helper(exe), nixos == nil
	accounts := Accounts{}
	return &machine.Machine{
		Root: "/", Systemd: usersystemd.New(sd, &users{host: sd, accounts: accounts}), Accounts: accounts, Mounts: keys.New(sd, accounts), Prober: &probes.Prober{Commands: sd}, Journal: Journal{}, Commands: sd, Programs: Programs{},
		Clock: time.Now, BootID: BootID, Helper: strings.Join(helper(current(exe)), " "),
	}, nil
}

// BootID names the running boot, as the kernel does.
func BootID() (string, error) {
	p, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(p)), nil
}

func executable() (string, error) {
	exe, err := os.Executable()
	if err == nil {
		exe, err = filepath.EvalSymlinks(exe)
	}
	if err != nil {
		return "", fmt.Errorf("find the helper: %w", err)
	}
	return exe, nil
}

// current is the link that outlives the sweep of old helpers: beside the running one, or in
// the usual place.
func current(exe string) string {
	beside := filepath.Join(filepath.Dir(exe), "current")
	if _, err := os.Lstat(beside); err == nil {
		return beside
	}
	return "/usr/local/libexec/bellhop/current"
}

func helper(path string) []string {
	if len(os.Args) > 1 && os.Args[1] == machine.Hidden {
		return []string{path, machine.Hidden}
	}
	return []string{path}
}

// sane is where programs of a Debian, Fedora, Arch or NixOS host are.
const sane = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin:/run/wrappers/bin"

// withSane adds to a PATH what it lacks of sane. What is not absolute is dropped.
func withSane(path string) string {
	var dirs []string
	seen := map[string]bool{}
	for _, d := range append(filepath.SplitList(path), filepath.SplitList(sane)...) {
		if filepath.IsAbs(d) && !seen[d] {
			seen[d] = true
			dirs = append(dirs, d)
		}
	}

	return strings.Join(dirs, ":")
}
