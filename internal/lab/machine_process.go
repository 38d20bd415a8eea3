package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
)

// An exited is a program that ended otherwise than by status 1.
type exited machine.Exit

func (e exited) Error() string { return machine.Exit(e).String() }

func exitOf(err error) machine.Exit {
	var e exited
	if errors.As(err, &e) {
		return machine.Exit(e)
	}
	return machine.Exit{Status: 1}
}

// exec is what a unit's ExecStart does, as far as the twin knows.
func (m *Machine) exec(name string, d *unitDef) error {
	if m.failing[name] {
		return errors.New("told to fail")
	}
	if name == bundle.KeyMountUnit {
		return m.mountKeys()
	}
	if port := m.ports[name]; port != 0 {
		for other, p := range m.ports {
			if other != name && p == port && m.unit(other).up() {
				return fmt.Errorf("port %d is held by %s", port, other)
			}
		}
	}
	if d.last("Service.ExecStartPre") == "/bin/false" {
		return exited{Status: 1, Line: "ExecStartPre"}
	}
	start := d.last("Service.ExecStart")
	if start == "/bin/false" {
		return errors.New("exit status 1")
	}
	if strings.HasPrefix(start, "/nonexistent/") {
		return exited{Status: 203}
	}
	if strings.HasSuffix(name, "-key.service") && testFile.MatchString(start) {
		return m.execKey(start)
	}
	return nil
}

func (m *Machine) execKey(start string) error {
	if _, err := os.Lstat(m.Path(testFile.FindStringSubmatch(start)[1])); err == nil {
		return nil
	}
	seal := unsealTo.FindStringSubmatch(start)
	move := moveTo.FindStringSubmatch(start)
	if seal == nil || move == nil {
		return errors.New("the key has not come since this boot")
	}
	value, err := m.unseal(filepath.Base(seal[1]), seal[2])
	if err != nil {
		return err
	}
	mode := uint64(0o400)
	if c := chmodTo.FindStringSubmatch(start); c != nil {
		mode, _ = strconv.ParseUint(c[1], 8, 32)
	}
	tmp := m.Path(seal[3])
	if err := os.WriteFile(tmp, value, 0o600); err != nil {
		return err
	}
	if c := chownTo.FindStringSubmatch(start); c != nil {
		if id, err := identify(unix.AT_FDCWD, tmp, 0); err == nil {
			m.owners[id] = owner{c[1], c[2]}
		}
	}
	if err := os.Chmod(tmp, os.FileMode(mode)); err != nil {
		return err
	}
	return os.Rename(tmp, m.Path(move[2]))
}
