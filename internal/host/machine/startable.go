package machine

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"bellhop/internal/bundle"
)

// NotStartable says what is wrong with the program at p; "" when nothing is seen.
func (m *Machine) NotStartable(p string) string {
	st, err := os.Stat(m.At(p))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return p + " is not there" + m.packageHas(p)
	case err != nil:
		return ""
	case st.IsDir():
		return p + " is a folder"
	case st.Mode()&0o111 == 0:
		return fmt.Sprintf("%s is not executable (mode %04o)", p, st.Mode().Perm())
	}

	interpreter := m.interpreter(p)
	if interpreter == "" {
		return ""
	}
	if _, err := os.Stat(m.At(interpreter)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Sprintf("%s needs %s, which is not there", p, interpreter)
	}

	return ""
}

// interpreter is the program behind the #! of a script; "" for what is none.
func (m *Machine) interpreter(p string) string {
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
func (m *Machine) packageHas(p string) string {
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
