package gitsync

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	gitconfig "github.com/go-git/go-git/v5/plumbing/format/config"

	"bellhop/gitsync/bare"
	"bellhop/gitsync/protocol"
	"bellhop/gitsync/refs"
	"bellhop/internal/plain"
)

// A localRemote is a repository on this machine, read in process: no git program, and none of
// the hooks and settings that one would obey.
type localRemote struct{ dir string }

func local(dir string) (remote, error) {
	abs, err := filepath.Abs(dir)
	return localRemote{abs}, err
}

func (l localRemote) dial(context.Context) (conn, error) {
	dir, err := findGitDir(l.dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}

	common := dir
	if b, err := os.ReadFile(filepath.Join(dir, "commondir")); err == nil { // a worktree beside others
		common = beside(dir, strings.TrimSpace(string(b)))
	}

	if err := checkFormat(common); err != nil {
		return nil, fmt.Errorf("%w: repository %s: %w", ErrUnreachable, l.dir, err)
	}

	all, err := localRefs(common)
	if err != nil {
		return nil, fmt.Errorf("%w: read refs of %s: %w", ErrUnreachable, l.dir, err)
	}

	return &localConn{dir: common, all: all}, nil
}

func beside(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}

	return filepath.Join(dir, path)
}

// findGitDir finds the repository of a folder: the folder itself, its .git, or what a file
// named .git points to.
func findGitDir(dir string) (string, error) {
	for _, at := range []string{filepath.Join(dir, ".git"), dir, dir + ".git"} {
		info, err := os.Stat(at)
		if err != nil {
			continue
		}
		if !info.IsDir() {
			b, err := os.ReadFile(at)
			if err != nil {
				return "", fmt.Errorf("open repository: %w", err)
			}
			to, ok := strings.CutPrefix(strings.TrimSpace(string(b)), "gitdir: ")
			if !ok {
				continue
			}
			at = beside(dir, to)
		}
		if _, err := os.Stat(filepath.Join(at, "HEAD")); err != nil {
			if errors.Is(err, fs.ErrPermission) {
				return "", fmt.Errorf("open repository: %w", err)
			}
			continue
		}
		return at, nil
	}

	return "", fmt.Errorf("no git repository at %s", dir)
}

// checkFormat refuses a repository that is stored in a way not read here.
func checkFormat(dir string) error {
	f, err := os.Open(filepath.Join(dir, "config"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}

	if err != nil {
		return err
	}

	defer f.Close()
	cfg := gitconfig.New()
	if err := gitconfig.NewDecoder(io.LimitReader(f, 1<<20)).Decode(cfg); err != nil {
		return fmt.Errorf("read its config: %s", plain.Line(err.Error(), 200))
	}

	extensions := cfg.Section("extensions")
	if format := extensions.Option("objectformat"); format != "" && !strings.EqualFold(format, "sha1") {
		return fmt.Errorf("%w (its object format is %s)", protocol.ErrSHA256, plain.Line(format, 20))
	}

	if refs := extensions.Option("refstorage"); refs != "" && !strings.EqualFold(refs, "files") {
		return fmt.Errorf("it stores refs as %s, which bellhop does not read: git refs migrate --ref-format=files", plain.Line(refs, 20))
	}

	return nil
}

// localRefs reads branches and tags: one file each, or lines of packed-refs. A file goes
// before a line.
func localRefs(dir string) (refs.Set, error) {
	all := refs.New()
	if err := readPackedRefs(filepath.Join(dir, "packed-refs"), all); err != nil {
		return all, err
	}

	for _, kind := range []string{"refs/heads", "refs/tags"} {
		err := filepath.WalkDir(filepath.Join(dir, kind), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return skipMissing(err)
			}
			name, err := filepath.Rel(dir, path)
			if err != nil || strings.HasSuffix(name, ".lock") {
				return err
			}
			name = filepath.ToSlash(name)
			if h, ok := followRef(dir, name, all, 0); ok {
				if tag, is := strings.CutPrefix(name, "refs/tags/"); is {
					delete(all.Peeled, tag) // what the line said of another object
				}
				all.Add(name, h)
			}
			return nil
		})
		if err != nil {
			return all, err
		}
	}

	return all, nil
}

func skipMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}

	return err
}

// followRef reads a ref, which may name another: "ref: refs/heads/main".
func followRef(dir, name string, packed refs.Set, depth int) (plumbing.Hash, bool) {
	const deepest = 5
	if depth > deepest || !filepath.IsLocal(filepath.FromSlash(name)) {
		return plumbing.ZeroHash, false
	}

	b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil {
		h, ok := packed.Heads[strings.TrimPrefix(name, "refs/heads/")]
		return h, ok
	}

	text := strings.TrimSpace(string(b))
	if to, ok := strings.CutPrefix(text, "ref: "); ok {
		return followRef(dir, strings.TrimSpace(to), packed, depth+1)
	}

	if !bare.IsID(text) {
		return plumbing.ZeroHash, false
	}

	return plumbing.NewHash(text), true
}

// readPackedRefs reads lines "id name"; a line "^id" is the commit of the tag above it.
func readPackedRefs(file string, into refs.Set) error {
	f, err := os.Open(file)
	if err != nil {
		return skipMissing(err)
	}

	defer f.Close()
	name := ""
	lines := bufio.NewScanner(io.LimitReader(f, 64<<20))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if id, ok := strings.CutPrefix(line, "^"); ok && len(id) == 40 && name != "" {
			into.Add(name+"^{}", plumbing.NewHash(id))
			continue
		}
		var id string
		if id, name, _ = strings.Cut(line, " "); bare.IsID(id) {
			into.Add(name, plumbing.NewHash(id))
		}
	}

	return lines.Err()
}

type localConn struct {
	dir string
	all refs.Set
}

func (c *localConn) Refs() refs.Set { return c.all }
func (c *localConn) moved() string  { return "" }
func (c *localConn) close()         {}

// open opens the repository's objects. Temporary files are made in temp.
func (c *localConn) open(temp string) *bare.Store {
	return bare.OpenWith(c.dir, temp)
}

// peel is the commit of an id that may be a tag object's.
func (c *localConn) peel(ctx context.Context, id plumbing.Hash) plumbing.Hash {
	s := c.open(os.TempDir())
	defer s.Close()
	id, _ = s.Peel(ctx, id)
	return id
}

func (c *localConn) fetch(ctx context.Context, dir string, want plumbing.Hash, _ []plumbing.Hash) error {
	src := c.open(filepath.Join(dir, "objects", "pack"))
	defer src.Close()

	if commit, ok := src.Peel(ctx, want); ok {
		want = commit
	}

	err := bare.Copy(ctx, dir, src, want)
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return fmt.Errorf("read the repository: an object is missing in it: git -C %s fsck tells which", c.dir)
	}

	if err != nil {
		return protocol.Clean("read the repository", err)
	}

	dst := bare.Open(dir)
	defer dst.Close()
	return dst.KeepShallow(src.Ends)
}
