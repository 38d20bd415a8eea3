// Package worktree reads a folder as git would commit it, and carries such a tree over a wire.
//
// A tree holds what the index holds and what git would add: files that are new and not ignored,
// with the bytes that lie on disk. What git ignores is not in it, since no deploy ever sees it.
// A folder that is in no git repository is taken as it is.
//
// Its promise: what is read, packed or unpacked has limits, and a link is followed only inside of
// the tree, as it is in a commit.
package worktree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"bellhop/internal/child"
	"bellhop/internal/plain"
)

// A Tree is a folder of files, as fs.FS. It is safe for many goroutines.
type Tree struct {
	// Ignored lists what git ignores below the folders that were asked for, by path; a folder
	// ends in "/".
	Ignored []string
	// Git says whether git chose the files.
	Git bool

	files map[string]*file
	dirs  map[string][]string // folder to the names in it, sorted
}

// A file is a regular file, a link or a submodule.
type file struct {
	mode fs.FileMode
	disk string // where its bytes lie; "" when they are data
	data []byte // of a link: where it points
	size int64
}

func newTree() *Tree {
	return &Tree{files: map[string]*file{}, dirs: map[string][]string{".": nil}}
}

// maxFiles is how many files a tree may hold.
const maxFiles = 200_000

func (t *Tree) add(name string, f *file) error {
	if len(t.files) >= maxFiles {
		return fmt.Errorf("it holds more than %d files", maxFiles)
	}

	if _, twice := t.files[name]; twice {
		return nil // a conflict lists a path up to three times
	}

	t.files[name] = f
	for at := name; at != "."; at = path.Dir(at) {
		dir := path.Dir(at)
		_, known := t.dirs[dir]
		t.dirs[dir] = append(t.dirs[dir], path.Base(at))
		if known {
			break
		}
	}

	return nil
}

func (t *Tree) sort() {
	for dir, names := range t.dirs {
		slices.Sort(names)
		t.dirs[dir] = slices.Compact(names)
	}
}

// ErrNoGit says that a folder is in no git work tree.
var ErrNoGit = errors.New("not in a git work tree")

// Read reads the folder dir as git would commit it. Below the folders named in tops it lists
// what git ignores. The error is ErrNoGit for a folder that git does not know: one that is in no
// work tree, that an outer repository ignores, or where there is no git program.
func Read(ctx context.Context, dir string, tops ...string) (*Tree, error) {
	if !inWorkTree(dir) {
		return nil, ErrNoGit
	}

	if _, err := exec.LookPath("git"); err != nil {
		return nil, fmt.Errorf("%w: there is no git program to ask", ErrNoGit)
	}

	out, err := git(ctx, dir, "rev-parse", "--is-inside-work-tree")
	switch {
	case err != nil && strings.Contains(err.Error(), "not a git repository"):
		return nil, ErrNoGit
	case err != nil:
		return nil, fmt.Errorf("ask git for the files of %s: %w", dir, err)
	case strings.TrimSpace(string(out)) != "true":
		return nil, ErrNoGit // inside of .git, or a bare repository
	}

	t := newTree()
	t.Git = true
	if err := t.readGit(ctx, dir); err != nil {
		return nil, fmt.Errorf("ask git for the files of %s: %w", dir, err)
	}

	if len(t.files) == 0 && isIgnored(ctx, dir) {
		return nil, ErrNoGit
	}

	if t.Ignored, err = ignored(ctx, dir, tops); err != nil {
		return nil, fmt.Errorf("ask git what it ignores in %s: %w", dir, err)
	}

	t.sort()
	return t, nil
}

// inWorkTree looks for a repository at or above dir without asking git, which may not be there.
func inWorkTree(dir string) bool {
	if os.Getenv("GIT_DIR") != "" {
		return true
	}

	at, err := filepath.Abs(dir)
	if err != nil {
		return true
	}

	if real, err := filepath.EvalSymlinks(at); err == nil {
		at = real
	}

	for ; ; at = filepath.Dir(at) {
		if _, err := os.Lstat(filepath.Join(at, ".git")); err == nil {
			return true
		}
		if at == filepath.Dir(at) {
			return false
		}
	}
}

// isIgnored says whether an outer repository ignores the folder as a whole.
func isIgnored(ctx context.Context, dir string) bool {
	_, err := git(ctx, dir, "check-ignore", "-q", ".")
	return err == nil
}

// readGit adds what git would commit. In a list with tags, S marks a file that a sparse checkout
// leaves in the index.
func (t *Tree) readGit(ctx context.Context, dir string) error {
	out, err := git(ctx, dir, "ls-files", "-t", "--stage", "-z")
	if err != nil {
		return err
	}

	for rec := range records(out) {
		meta, name, _ := strings.Cut(rec, "\t")
		fields := strings.Fields(meta)
		if len(fields) != 4 {
			return fmt.Errorf("git ls-files says %q", plain.Line(rec, 80))
		}
		sparse, isModule := fields[0] == "S", fields[1] == "160000"
		switch {
		case isModule:
			err = t.add(name, &file{mode: fs.ModeIrregular})
		case sparse:
			err = t.addBlob(ctx, dir, name, fields[1], fields[2])
		default:
			err = t.addDisk(dir, name)
		}
		if err != nil {
			return err
		}
	}

	if out, err = git(ctx, dir, "ls-files", "--others", "--exclude-standard", "-z"); err != nil {
		return err
	}

	for name := range records(out) {
		if module, is := strings.CutSuffix(name, "/"); is { // a repository inside of this one
			err = t.add(module, &file{mode: fs.ModeIrregular})
		} else {
			err = t.addDisk(dir, name)
		}
		if err != nil {
			return err
		}
	}

	return nil
}

// addDisk adds a file as it lies on disk; one that is gone is not committed.
func (t *Tree) addDisk(dir, name string) error {
	at := filepath.Join(dir, filepath.FromSlash(name))
	info, err := os.Lstat(at)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotDir) {
		return nil
	}

	if err != nil {
		return err
	}

	switch mode := info.Mode(); {
	case mode.IsRegular():
		return t.add(name, &file{mode: filePerm(mode), disk: at, size: info.Size()})
	case mode&fs.ModeSymlink != 0:
		target, err := os.Readlink(at)
		if err != nil {
			return err
		}
		return t.add(name, &file{mode: fs.ModeSymlink | 0o777, data: []byte(target), size: int64(len(target))})
	case mode.IsDir(): // where the index has a file
		return nil
	}

	return nil // git takes no sockets and devices
}

// filePerm is what git keeps of a file's mode.
func filePerm(mode fs.FileMode) fs.FileMode {
	if mode&0o100 != 0 {
		return 0o755
	}

	return 0o644
}

// addBlob adds a file that is not on disk.
func (t *Tree) addBlob(ctx context.Context, dir, name, mode, id string) error {
	out, err := git(ctx, dir, "cat-file", "-s", id)
	if err != nil {
		return err
	}

	f := &file{mode: 0o644}
	if _, err := fmt.Sscanf(string(out), "%d", &f.size); err != nil {
		return err
	}

	switch mode {
	case "120000":
		f.mode = fs.ModeSymlink | 0o777
	case "100755":
		f.mode = 0o755
	}

	if f.size <= MaxFile {
		if f.data, err = git(ctx, dir, "cat-file", "blob", id); err != nil {
			return err
		}
	}

	return t.add(name, f)
}

// ignored lists what git ignores below some folders. Folders that are ignored as a whole are not
// looked into.
func ignored(ctx context.Context, dir string, tops []string) ([]string, error) {
	if len(tops) == 0 {
		return nil, nil
	}

	args := []string{"ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z", "--"}
	for _, top := range tops {
		args = append(args, ":(top,literal)"+top)
	}

	if prefix, err := git(ctx, dir, "rev-parse", "--show-prefix"); err == nil {
		for i := range tops {
			args[len(args)-len(tops)+i] = ":(top,literal)" + strings.TrimSuffix(string(prefix), "\n") + tops[i]
		}
	}

	out, err := git(ctx, dir, args...)
	if err != nil {
		return nil, err
	}

	all := slices.Sorted(records(out))
	var kept []string
	for i, name := range all { // a folder with nothing but ignored files in it is listed too
		if i+1 < len(all) && strings.HasSuffix(name, "/") && strings.HasPrefix(all[i+1], name) {
			continue
		}
		kept = append(kept, name)
	}

	return kept, nil
}

func records(out []byte) func(func(string) bool) {
	return func(yield func(string) bool) {
		for rec := range strings.SplitSeq(string(out), "\x00") {
			if rec != "" && !yield(rec) {
				return
			}
		}
	}
}

// git runs git in dir.
func git(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := child.Git(ctx, dir, args...)
	cmd.Env = append(cmd.Env, "LC_ALL=C") // one of its words is looked at
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &limited{w: &errs, left: 4 << 10}
	if err := cmd.Run(); err != nil {
		if text := plain.Line(strings.TrimSpace(errs.String()), 500); text != "" {
			return nil, fmt.Errorf("git %s: %s", args[0], text)
		}
		return nil, fmt.Errorf("git %s: %w", args[0], err)
	}

	return out.Bytes(), nil
}

// limited passes on the first bytes.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	l.w.Write(p[:n])
	return len(p), nil
}

// ReadAll reads the folder dir as it is: for one that git does not know. Folders named .git are
// left out.
func ReadAll(dir string) (*Tree, error) {
	t := newTree()
	err := filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == ".git" {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		name, err := filepath.Rel(dir, at)
		if err != nil || d.IsDir() {
			return err
		}
		return t.addDisk(dir, filepath.ToSlash(name))
	})
	t.sort()
	return t, err
}
