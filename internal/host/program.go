package host

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/state"
	"bellhop/internal/unitfile"
)

// execFailed is the status by which systemd says that it could not start a program.
const execFailed = 203

// program says which program of a unit could not be started, and why, for the end of a message; ""
// when that can't be told.
func (r *run) program(name string, s machine.UnitState) string {
	if s.Exit.Status != execFailed || s.Exit.Signal != 0 {
		return ""
	}

	i := slices.IndexFunc(r.offer.Manifest.Units, func(u bundle.Unit) bool { return u.Name == name })
	if i < 0 {
		return ""
	}

	unit := r.w.WantedUnit(r.offer.Manifest.Units[i])
	for _, value := range unit.Values("Service", cmp.Or(s.Exit.Line, "ExecStart")) {
		commands, _ := unitfile.Commands(value)
		for _, c := range commands {
			if !path.IsAbs(c.Path) || strings.Contains(c.Path, "%") {
				continue
			}
			if why := notStartable(r.m, c.Path); why != "" {
				return ": " + why
			}
		}
	}

	return ""
}

// notStartable says what is wrong with the program at p; "" when nothing is seen.
func notStartable(m state.Dir, p string) string {
	st, err := os.Stat(m.At(p))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return p + " is not there" + packageHas(m, p)
	case err != nil:
		return ""
	case st.IsDir():
		return p + " is a folder"
	case st.Mode()&0o111 == 0:
		return fmt.Sprintf("%s is not executable (mode %04o)", p, st.Mode().Perm())
	}

	interpreter := interpreter(m, p)
	if interpreter == "" {
		return ""
	}
	if _, err := os.Stat(m.At(interpreter)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Sprintf("%s needs %s, which is not there", p, interpreter)
	}

	return ""
}

// interpreter is the program behind the #! of a script; "" for what is none.
func interpreter(m state.Dir, p string) string {
	f, err := os.Open(m.At(p))
	if err != nil {
		return ""
	}
	defer f.Close()

	line, _ := bufio.NewReaderSize(f, 256).ReadSlice('\n')
	rest, script := strings.CutPrefix(string(line), "#!")
	if words := strings.Fields(rest); script && len(words) > 0 && path.IsAbs(words[0]) {
		return words[0]
	}

	return ""
}

// packageHas lists what stands where a program of a package is missing.
func packageHas(m state.Dir, p string) string {
	rest, inPackage := strings.CutPrefix(p, bundle.PackageDir+"/")
	if !inPackage || !strings.Contains(rest, "/") {
		return ""
	}

	for dir := path.Dir(p); dir != bundle.PackageDir; dir = path.Dir(dir) {
		entries, err := os.ReadDir(m.At(dir))
		if err != nil {
			continue
		}

		var names []string
		for _, e := range entries[:min(len(entries), 8)] {
			name := e.Name()
			if e.IsDir() {
				name += "/"
			}

			names = append(names, name)
		}

		if len(entries) > len(names) {
			names = append(names, "…")
		}

		return fmt.Sprintf("; %s has %s", dir, strings.Join(names, ", "))
	}

	return ""
}
