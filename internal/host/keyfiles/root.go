package keyfiles

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

// A Root is bundle.KeyDir, open to be written: for everybody else, and by its path, it is
// read-only. Whoever changes anything in it does so through one of these, and only by it: a
// rename can't lead from one mount to another.
type Root struct {
	m   Store
	dir *os.File
}

func (m Store) OpenRoot(ctx context.Context) (*Root, error) {
	dir, err := m.Mounts.Writable(ctx)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", bundle.KeyDir, err)
	}
	return &Root{m, dir}, nil
}

func (k *Root) Close() { k.dir.Close() }

// At is where a path below bundle.KeyDir can be written.
func (k *Root) At(p string) string {
	return fmt.Sprintf("/proc/self/fd/%d%s", k.dir.Fd(), strings.TrimPrefix(p, bundle.KeyDir))
}

// parent opens the folder that p lies in, and returns p's last component.
func (k *Root) parent(p string, create bool) (*owned.Folder, string, error) {
	dir, name := path.Split(p)
	f, err := k.m.Tree().FolderBelow(k.dir, strings.TrimPrefix(dir, bundle.KeyDir), create)
	return f, name, err
}

// removeFolders removes those of dirs that are empty; the deepest come first.
func (k *Root) removeFolders(dirs []string) {
	for _, d := range dirs {
		if up, name, err := k.parent(d, false); err == nil {
			unix.Unlinkat(up.FD(), name, unix.AT_REMOVEDIR)
			up.Close()
		}
	}
}

// withRoot does something to the place for keys, unless there is none.
func (m Store) withRoot(do func(*Root) error) error {
	if _, err := os.Lstat(m.At(bundle.KeyDir)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}

	k, err := m.OpenRoot(context.Background())
	if err != nil {
		return err
	}
	defer k.Close()

	return do(k)
}
