package owned

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// A Place is a folder by what it is, not by name.
type Place struct{ dev, ino uint64 }

// PlaceOf is the folder that st is of.
func PlaceOf(st *unix.Stat_t) Place { return Place{st.Dev, st.Ino} }

// Reach is the path that the folder dir means: every link on the way followed, and what is one of
// known under another name, as a bind mount gives it, called by its name. Folders that are missing
// keep their names.
func (t *Tree) Reach(dir string, known map[Place]string) (string, error) {
	root, err := os.Open(t.Root)
	if err != nil {
		return "", err
	}

	w := &walker{t: t, folders: []*os.File{root}}
	defer func() {
		for _, f := range w.folders {
			f.Close()
		}
	}()

	err = w.walk(dir, false)
	missing := errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
	if err != nil && !missing {
		return "", fmt.Errorf("open %s: %w", dir, err)
	}

	for i := len(w.names); i > 0; i-- {
		var st unix.Stat_t
		if err := unix.Fstat(int(w.folders[i].Fd()), &st); err != nil {
			return "", err
		}
		if name, ok := known[PlaceOf(&st)]; ok {
			return path.Join(slices.Concat([]string{name}, w.names[i:], w.rest)...), nil
		}
	}

	return path.Join("/", path.Join(w.names...), path.Join(w.rest...)), nil
}
