package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/lab/systemd"
)

// What a key unit's ExecStart does, as fleet writes it: the key is there, or its sealed copy
// opens and is put in place.
var (
	testFile = regexp.MustCompile(`test -[ef] '?"?([^\s'";&]+)`)
	unsealTo = regexp.MustCompile(`systemd-creds decrypt[^;]*--name='?"?([^\s'";&]+)'?"? '?"?([^\s'";&]+)'?"? '?"?([^\s'";&]+)`)
	chownTo  = regexp.MustCompile(`chown '?"?([^\s'":;&]+):([^\s'";&]+)'?"? '?"?([^\s'";&]*\.new)`)
	chmodTo  = regexp.MustCompile(`chmod '?"?([0-7]+)`)
	moveTo   = regexp.MustCompile(`mv (?:-T|-Tf|-f) '?"?([^\s'";&]+)'?"? '?"?([^\s'";&]+)`)
)

// exec is what a unit's ExecStart does, as far as the twin knows.
func (m *Machine) exec(name string, d *systemd.Def) error {
	if m.failing[name] {
		return errors.New("told to fail")
	}
	if name == bundle.KeyMountUnit {
		return m.mountKeys()
	}
	if port := m.ports[name]; port != 0 {
		for other, p := range m.ports {
			if other != name && p == port && m.systemd.IsUp(other) {
				return fmt.Errorf("port %d is held by %s", port, other)
			}
		}
	}
	if d.Last("Service.ExecStartPre") == "/bin/false" {
		return systemd.Exited{Status: 1, Line: "ExecStartPre"}
	}

	start := d.Last("Service.ExecStart")
	if start == "/bin/false" {
		return errors.New("exit status 1")
	}
	if strings.HasPrefix(start, "/nonexistent/") {
		return systemd.Exited{Status: 203}
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
