package nixos

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// A Unit is a unit whose files differ between two systems.
type Unit struct {
	Name   string `json:"name"`
	Action string `json:"action"` // added, removed or changed
}

const (
	maxUnitFile = 1 << 20
	maxUnits    = 100_000
)

// compareUnits compares the unit files of two systems, with their drop-ins, as they are in the store.
// Either may be "" for none.
func compareUnits(old, now string) ([]Unit, error) {
	before, err := unitsOf(old)
	if err != nil {
		return nil, err
	}
	after, err := unitsOf(now)
	if err != nil {
		return nil, err
	}

	names := map[string]bool{}
	for name := range before {
		names[name] = true
	}
	for name := range after {
		names[name] = true
	}

	var units []Unit
	for _, name := range slices.Sorted(maps.Keys(names)) {
		was, had := before[name]
		is, has := after[name]
		switch {
		case !had:
			units = append(units, Unit{name, "added"})
		case !has:
			units = append(units, Unit{name, "removed"})
		case !bytes.Equal(was, is):
			units = append(units, Unit{name, "changed"})
		}
	}

	return units, nil
}

// unitsOf reads the units of a system: the text of each, and that of its drop-ins.
func unitsOf(system string) (map[string][]byte, error) {
	units := map[string][]byte{}
	if system == "" {
		return units, nil
	}
	dir, err := filepath.EvalSymlinks(filepath.Join(system, "etc/systemd/system"))
	if errors.Is(err, fs.ErrNotExist) {
		return units, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}

	for _, e := range entries[:min(len(entries), maxUnits)] {
		path := filepath.Join(dir, e.Name())
		name, isDropIns := cutSuffix(e.Name(), ".d")
		info, err := os.Stat(path) // most are links to a path of their own
		switch {
		case err != nil: // masked by a link to a file that is not there
			continue
		case info.IsDir() && isDropIns:
			units[name] = append(units[name], dropInsOf(path)...)
		case info.Mode().IsRegular():
			units[e.Name()] = append(readUnit(path), units[e.Name()]...)
		}
	}

	return units, nil
}

func cutSuffix(s, suffix string) (string, bool) {
	if len(s) > len(suffix) && s[len(s)-len(suffix):] == suffix {
		return s[:len(s)-len(suffix)], true
	}
	return s, false
}

func dropInsOf(dir string) []byte {
	var all []byte
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		all = append(all, "\x00"+e.Name()+"\x00"...)
		all = append(all, readUnit(filepath.Join(dir, e.Name()))...)
	}

	return all
}

// readUnit is the text of a unit file; "" for one that can't be read, which differs from none by its name.
func readUnit(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	text, _ := io.ReadAll(io.LimitReader(f, maxUnitFile))
	return text
}
