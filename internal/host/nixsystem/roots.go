package nixsystem

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"bellhop/internal/host/machine"
	"bellhop/internal/host/state"
)

// rootsDir has a link to each system that a kept generation of bellhop names: Nix collects none of
// them, so a rollback needs nothing copied.
const rootsDir = "/nix/var/nix/gcroots/bellhop"

// derivationRoot is, in rootsDir, the root of what the host built last, for a host that builds its systems itself. The
// deployer makes it.
const derivationRoot = "derivation"

// addRoots keeps systems from being collected.
func addRoots(m *machine.Machine, systems ...string) error {
	if err := os.MkdirAll(m.At(rootsDir), 0o755); err != nil {
		return fmt.Errorf("keep systems from being collected: %w", err)
	}
	for _, s := range systems {
		if err := os.Symlink(s, rootOf(m, s)); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("keep %s from being collected: %w", s, err)
		}
	}
	return nil
}

func rootOf(m *machine.Machine, system string) string {
	return m.At(rootsDir + "/" + path.Base(system))
}

// KeepSystems keeps the systems of kept generations from being collected, and no others.
func KeepSystems(m state.Dir) error {
	if !m.NixOS() {
		return nil // all generations would be read for nothing
	}

	systems, err := m.Systems()
	if err != nil {
		return err
	}
	return KeepRoots(m.Machine, systems)
}

// KeepRoots keeps these systems, and no others, from being collected.
func KeepRoots(m *machine.Machine, systems []string) error {
	names, err := os.ReadDir(m.At(rootsDir))
	if errors.Is(err, fs.ErrNotExist) && len(systems) == 0 {
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}

	keep := map[string]bool{derivationRoot: len(systems) > 0}
	for _, s := range systems {
		keep[path.Base(s)] = true
	}
	for _, e := range names {
		if !keep[e.Name()] {
			err = errors.Join(err, os.Remove(m.At(rootsDir+"/"+e.Name())))
		}
	}
	if len(systems) == 0 {
		return errors.Join(err, os.Remove(m.At(rootsDir)))
	}
	return errors.Join(err, addRoots(m, systems...))
}
