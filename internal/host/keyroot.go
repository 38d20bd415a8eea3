package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/host/owned"
)

// A keyRoot is bundle.KeyDir, open to be written: for everybody else, and by its path, it is
// read-only. Whoever changes anything in it does so through one of these, and only by it: a
// rename can't lead from one mount to another.
type keyRoot struct {
	m   *Machine
	dir *os.File
}

func (m *Machine) openKeyRoot(ctx context.Context) (*keyRoot, error) {
	dir, err := m.Mounts.Writable(ctx)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", bundle.KeyDir, err)
	}
	return &keyRoot{m, dir}, nil
}

func (k *keyRoot) close() { k.dir.Close() }

// at is where a path below bundle.KeyDir can be written.
func (k *keyRoot) at(p string) string {
	return fmt.Sprintf("/proc/self/fd/%d%s", k.dir.Fd(), strings.TrimPrefix(p, bundle.KeyDir))
}

// parent opens the folder that p lies in, and returns p's last component.
func (k *keyRoot) parent(p string, create bool) (*owned.Folder, string, error) {
	dir, name := path.Split(p)
	f, err := k.m.tree().FolderBelow(k.dir, strings.TrimPrefix(dir, bundle.KeyDir), create)
	return f, name, err
}

// removeFolders removes those of dirs that are empty; the deepest come first.
func (k *keyRoot) removeFolders(dirs []string) {
	for _, d := range dirs {
		if up, name, err := k.parent(d, false); err == nil {
			unix.Unlinkat(up.FD(), name, unix.AT_REMOVEDIR)
			up.Close()
		}
	}
}

// withKeyRoot does something to the place for keys, unless there is none.
func (m *Machine) withKeyRoot(do func(*keyRoot) error) error {
	if _, err := os.Lstat(m.at(bundle.KeyDir)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	k, err := m.openKeyRoot(context.Background())
	if err != nil {
		return err
	}
	defer k.close()
	return do(k)
}
