package precommit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"bellhop/internal/child"
	"bellhop/internal/dirfile"
	"bellhop/internal/plain"
	"bellhop/secrets"
)

// A gitTree is what git's index or a commit holds below one folder, read through the git program
// that the person has anyway. It knows object ids (Hash) of files, so that a hook reads only what
// is new. For the deployer there is gitsync.
type gitTree struct {
	dir   string
	files map[string]gitFile  // by path
	dirs  map[string][]string // folder to the names in it, sorted
}

type gitFile struct {
	id   string
	mode fs.FileMode
}

// Staged gives the index of the repo that dir is in: what the next commit will hold below dir.
func Staged(dir string) (fs.FS, error) {
	out, err := git(dir, "ls-files", "--stage", "-z")
	if err != nil {
		return nil, fmt.Errorf("read the git index: %w", err)
	}
	t, odd := newGitTree(dir, out, func(meta []string) string { return meta[1] })
	for _, name := range odd { // elsewhere it can be no secret
		if strings.HasPrefix(name, secrets.Dir+"/") {
			return nil, fmt.Errorf("read the git index: %q: a path that is not UTF-8 can't be looked into; rename it", name)
		}
	}

	return t, nil
}

// Committed gives a commit's tree below dir (commit "HEAD", say); nil without an error if there is
// no such commit yet.
func Committed(dir, commit string) (fs.FS, error) {
	if _, err := git(dir, "rev-parse", "--verify", "--quiet", "--end-of-options", commit+"^{commit}"); err != nil {
		if _, err := git(dir, "rev-parse", "--git-dir"); err != nil {
			return nil, fmt.Errorf("read commit %s: %w", commit, err)
		}
		return nil, nil
	}

	out, err := git(dir, "ls-tree", "-r", "-z", commit)
	if err != nil {
		return nil, fmt.Errorf("read commit %s: %w", commit, err)
	}
	t, _ := newGitTree(dir, out, func(meta []string) string { return meta[2] }) // what is not readable there is new here
	return t, nil
}

// newGitTree reads "mode … id …TAB path NUL" records. Paths that no fs.FS can have are odd, and left out.
func newGitTree(dir string, out []byte, id func(meta []string) string) (t *gitTree, odd []string) {
	t = &gitTree{dir: dir, files: map[string]gitFile{}, dirs: map[string][]string{".": nil}}
	for rec := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if rec == "" {
			continue
		}
		meta, name, ok := strings.Cut(rec, "\t")
		fields := strings.Fields(meta)
		if !ok || len(fields) < 3 || !fs.ValidPath(name) {
			odd = append(odd, name)
			continue
		}

		t.add(name, gitFile{id(fields), gitMode(fields[0])})
	}

	for d := range t.dirs {
		slices.Sort(t.dirs[d])
		t.dirs[d] = slices.Compact(t.dirs[d]) // a conflict lists a path up to three times
	}

	return t, odd
}

func gitMode(s string) fs.FileMode {
	switch s {
	case "100644", "100664":
		return 0o644
	case "100755":
		return 0o755
	case "120000":
		return fs.ModeSymlink | 0o777
	}
	return fs.ModeIrregular // a submodule
}

func (t *gitTree) add(name string, f gitFile) {
	t.files[name] = f
	for child := name; child != "."; child = path.Dir(child) {
		d := path.Dir(child)
		_, known := t.dirs[d]
		t.dirs[d] = append(t.dirs[d], path.Base(child))
		if known && d != "." {
			break
		}
	}
}

// Hash gives the object id of a file.
func (t *gitTree) Hash(name string) (string, bool) {
	f, ok := t.files[name]
	return f.id, ok
}

// Open opens a file or folder.
func (t *gitTree) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if _, ok := t.dirs[name]; ok {
		stat := func() (fs.FileInfo, error) { return gitInfo{name, 0, fs.ModeDir | 0o755}, nil }
		return dirfile.Open(name, stat, func() ([]fs.DirEntry, error) { return t.entries(name), nil }), nil
	}

	f, ok := t.files[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if f.mode&fs.ModeIrregular != 0 {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}

	data, err := git(t.dir, "cat-file", "blob", f.id)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}

	return &gitBlob{Reader: bytes.NewReader(data), info: gitInfo{name, int64(len(data)), f.mode}}, nil
}

// git runs git in dir. What it says on standard error names paths and ids only.
func git(dir string, args ...string) ([]byte, error) {
	cmd := child.Git(context.Background(), dir, args...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		line, _, _ := strings.Cut(stderr.String(), "\n")
		if line != "" {
			return nil, errors.New(plain.Line(line, 200))
		}
		return nil, fmt.Errorf("git %s: %w", args[0], err)
	}

	return out.Bytes(), nil
}

type gitBlob struct {
	*bytes.Reader
	info gitInfo
}

func (b *gitBlob) Stat() (fs.FileInfo, error) { return b.info, nil }
func (b *gitBlob) Close() error               { return nil }

// entries lists a folder. A file's size is asked for only by Info.
func (t *gitTree) entries(dir string) []fs.DirEntry {
	var out []fs.DirEntry
	for _, base := range t.dirs[dir] {
		name := path.Join(dir, base)
		mode := fs.ModeDir | 0o755
		if f, ok := t.files[name]; ok {
			mode = f.mode
		}
		out = append(out, gitEntry{fs.FileInfoToDirEntry(gitInfo{name, 0, mode}), t, name})
	}
	return out
}

type gitEntry struct {
	fs.DirEntry
	t    *gitTree
	path string
}

func (e gitEntry) Info() (fs.FileInfo, error) { return fs.Stat(e.t, e.path) }

type gitInfo struct {
	path string
	size int64
	mode fs.FileMode
}

func (i gitInfo) Name() string       { return path.Base(i.path) }
func (i gitInfo) Size() int64        { return i.size }
func (i gitInfo) Mode() fs.FileMode  { return i.mode }
func (i gitInfo) ModTime() time.Time { return time.Time{} }
func (i gitInfo) IsDir() bool        { return i.mode.IsDir() }
func (i gitInfo) Sys() any           { return nil }
