package gitsync

// The clone on disk: a bare repository that plain git can read too, changed only in ways
// that a kill at any moment leaves whole.
//
//	objects/pack/          one pack per fetch, written beside and renamed by go-git
//	refs/heads/BRANCH      the head that the last Sync accepted
//	refs/bellhop/COMMIT    commits that kept generations came from
//
// Renewing: DIR.new is cloned; what must be kept and is not in it is copied over from the
// old clone; DIR becomes DIR.old and DIR.new becomes DIR. A kill between the two renames is
// repaired by open.

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// errDamaged marks an error that a fresh clone would cure.
var errDamaged = errors.New("the clone is damaged")

// damaged says whether err is of that kind.
func damaged(err error) bool {
	return errors.Is(err, errDamaged) || errors.Is(err, plumbing.ErrObjectNotFound)
}

// A store is one handle on a clone's objects. go-git's handles are not safe to share between
// one that fetches and one that reads, so each has its own.
type store struct{ *filesystem.Storage }

func openStore(dir string) *store {
	return &store{filesystem.NewStorageWithOptions(osfs.New(dir), cache.NewObjectLRU(16*cache.MiByte),
		filesystem.Options{KeepDescriptors: true})}
}

func (s *store) close() {
	if s != nil {
		s.Storage.ObjectStorage.Close()
	}
}

// haves lists commits to offer to the remote: from each start its newest ancestors.
func (s *store) haves(starts []plumbing.Hash) []plumbing.Hash {
	const most = 64
	var haves []plumbing.Hash
	seen := map[plumbing.Hash]bool{plumbing.ZeroHash: true}
	for queue := slices.Clone(starts); len(queue) > 0 && len(haves) < most; queue = queue[1:] {
		h := queue[0]
		if seen[h] {
			continue
		}
		seen[h] = true
		c, err := object.GetCommit(s, h)
		if err != nil {
			continue
		}
		haves = append(haves, h)
		queue = append(queue, c.ParentHashes...)
	}
	return haves
}

// writePack stores a pack as it comes, at most limit bytes of it.
func (s *store) writePack(pack io.Reader, limit int64) error {
	r := &capped{r: pack, left: limit}
	if err := packfile.WritePackfileToObjectStorage(s, r); err != nil {
		return fmt.Errorf("store pack: %w", err)
	}
	return nil
}

// capped fails, instead of ending, when more comes than it lets through.
type capped struct {
	r    io.Reader
	left int64
}

func (c *capped) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.left -= int64(n); c.left < 0 {
		return 0, errors.New("the remote sends more than is allowed for one fetch: is it the right repo?")
	}
	return n, err
}

// open makes the clone's directory, or repairs it, and opens the store.
func (r *Repo) open() error {
	r.reading.Lock()
	is := r.store != nil
	r.reading.Unlock()
	if is {
		return nil
	}
	old := r.cfg.Dir + ".old"
	if _, err := os.Lstat(r.cfg.Dir); errors.Is(err, fs.ErrNotExist) {
		if err := os.Rename(old, r.cfg.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := initBare(r.cfg.Dir, r.cfg.Branch); err != nil {
		return fmt.Errorf("make clone: %w", err)
	}
	os.RemoveAll(old)
	os.RemoveAll(r.cfg.Dir + ".new")
	leftovers, _ := filepath.Glob(filepath.Join(r.cfg.Dir, "objects", "pack", "tmp_pack_*"))
	for _, f := range leftovers {
		os.Remove(f)
	}
	r.swap(openStore(r.cfg.Dir))
	return nil
}

// initBare makes what is missing of an empty bare repository. Another branch than last time
// forgets the old one's head.
func initBare(dir, branch string) error {
	for _, d := range []string{"objects/pack", "objects/info", "refs/heads", "refs/bellhop"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return err
		}
	}
	head := filepath.Join(dir, "HEAD")
	want := "ref: refs/heads/" + branch + "\n"
	if got, err := os.ReadFile(head); err != nil || string(got) != want {
		if err == nil {
			os.RemoveAll(filepath.Join(dir, "refs", "heads"))
			if err := os.MkdirAll(filepath.Join(dir, "refs", "heads"), 0o700); err != nil {
				return err
			}
		}
		if err := replace(head, []byte(want)); err != nil {
			return err
		}
	}
	config := filepath.Join(dir, "config")
	if _, err := os.Stat(config); err == nil {
		return nil
	}
	return replace(config, []byte("[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n"))
}

// swap gives readers another handle.
func (r *Repo) swap(s *store) {
	r.reading.Lock()
	defer r.reading.Unlock()
	r.store.close()
	r.store = s
	r.age++
}

// read calls f with the readers' handle. An error that comes of it, but that there is no
// such object, tells of a damaged clone: go-git has no one kind of error for that.
func (r *Repo) read(f func(*store) error) error {
	r.reading.Lock()
	defer r.reading.Unlock()
	if r.store == nil {
		r.store = openStore(r.cfg.Dir)
	}
	err := f(r.store)
	if err == nil || errors.Is(err, plumbing.ErrObjectNotFound) || errors.Is(err, errSize) || transient(err) {
		return err
	}
	return fmt.Errorf("%w: %w", errDamaged, err)
}

func (r *Repo) commit(h plumbing.Hash) (c *object.Commit, err error) {
	err = r.read(func(s *store) error {
		c, err = object.GetCommit(s, h)
		return err
	})
	return c, err
}

// hasCommit proves that a commit and its root tree can be read.
func (r *Repo) hasCommit(h plumbing.Hash) error {
	c, err := r.commit(h)
	if err != nil {
		return err
	}
	if _, err := r.list(c.TreeHash); errors.Is(err, plumbing.ErrObjectNotFound) {
		return fmt.Errorf("%w: tree of %s is missing", errDamaged, h.String()[:10])
	} else if err != nil {
		return err
	}
	return nil
}

// maxHistory is how many commits a walk through history looks at.
const maxHistory = 200_000

// holds says whether old is head or one of its ancestors.
func (r *Repo) holds(ctx context.Context, head, old plumbing.Hash) (bool, error) {
	seen := map[plumbing.Hash]bool{}
	for queue := []plumbing.Hash{head}; len(queue) > 0; queue = queue[1:] {
		h := queue[0]
		if h == old {
			return true, nil
		}
		if seen[h] {
			continue
		}
		if len(seen) >= maxHistory {
			return false, fmt.Errorf("history of %s: %s is not among its newest %d commits", head.String()[:10], old.String()[:10], maxHistory)
		}
		seen[h] = true
		if err := ctx.Err(); err != nil {
			return false, err
		}
		c, err := r.commit(h)
		if err != nil {
			return false, fmt.Errorf("history of %s: %w", head.String()[:10], err)
		}
		queue = append(queue, c.ParentHashes...)
	}
	return false, nil
}

// resolve finds the commit whose id starts with prefix.
func (r *Repo) resolve(prefix string) (plumbing.Hash, error) {
	if len(prefix) == 40 {
		h := plumbing.NewHash(prefix)
		_, err := r.commit(h)
		return h, err
	}
	var found []plumbing.Hash
	err := r.read(func(s *store) error {
		raw := plumbing.NewHash(prefix[:len(prefix)&^1] + strings.Repeat("0", 40-len(prefix)&^1))
		all, err := s.HashesWithPrefix(raw[:len(prefix)/2])
		for _, h := range all {
			if strings.HasPrefix(h.String(), prefix) && !slices.Contains(found, h) {
				if _, err := object.GetCommit(s, h); err == nil {
					found = append(found, h)
				}
			}
		}
		return err
	})
	switch {
	case err != nil:
		return plumbing.ZeroHash, err
	case len(found) == 0:
		return plumbing.ZeroHash, plumbing.ErrObjectNotFound
	case len(found) > 1:
		return plumbing.ZeroHash, fmt.Errorf("%w: %s is the start of %d commits: give more digits", ErrUnknown, prefix, len(found))
	}
	return found[0], nil
}

// packs counts the packs of the clone.
func packs(dir string) int {
	all, _ := filepath.Glob(filepath.Join(dir, "objects", "pack", "pack-*.pack"))
	return len(all)
}

// renewMaybe renews a clone in which packs have piled up. It costs time, not truth, so a
// remote that cannot serve it now is asked again ten packs later.
func (r *Repo) renewMaybe(ctx context.Context) {
	n := packs(r.cfg.Dir)
	if n <= r.renewNext {
		return
	}
	if err := r.renew(ctx, ""); err != nil {
		r.renewNext = n + 10
		return
	}
	r.renewNext = max(r.cfg.MaxPacks, packs(r.cfg.Dir)+r.cfg.MaxPacks/2)
}

// asideName is where a damaged clone goes.
func (r *Repo) asideName() string {
	return r.cfg.Dir + ".damaged-" + time.Now().UTC().Format("20060102T150405.000")
}

// renew clones beside and renames. The old clone goes to aside, or away if that is "".
func (r *Repo) renew(ctx context.Context, aside string) error {
	fresh := r.cfg.Dir + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	defer os.RemoveAll(fresh)
	if err := r.cloneTo(ctx, fresh); err != nil {
		return err
	}
	old := r.cfg.Dir + ".old"
	if aside != "" {
		old = aside
		keepNewest(r.cfg.Dir+".damaged-*", 1)
	}
	r.reading.Lock()
	defer r.reading.Unlock()
	if err := os.Rename(r.cfg.Dir, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(fresh, r.cfg.Dir); err != nil {
		return errors.Join(err, os.Rename(old, r.cfg.Dir))
	}
	r.store.close()
	r.store = openStore(r.cfg.Dir)
	r.age++
	if aside == "" {
		return os.RemoveAll(old)
	}
	return nil
}

// cloneTo makes a fresh clone that holds the branch, and all that must be kept of the old.
func (r *Repo) cloneTo(ctx context.Context, dir string) error {
	conn, err := r.remote.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.close()
	head, err := headOf(conn, r.cfg.Branch)
	if err != nil {
		return err
	}
	if err := initBare(dir, r.cfg.Branch); err != nil {
		return err
	}
	w := openStore(dir)
	defer w.close()
	if err := conn.fetch(ctx, w, head, nil); err != nil {
		return err
	}
	src := openStore(r.cfg.Dir)
	defer src.close()
	last := r.ref()
	for _, h := range append([]plumbing.Hash{last}, r.recent...) {
		_ = copyCommit(ctx, w, src, h) // best effort: a damaged clone may lack it
	}
	for _, h := range keptRefs(r.cfg.Dir) {
		if err := copyCommit(ctx, w, src, h); err != nil {
			continue
		}
		if err := writeRef(dir, "refs/bellhop/"+h.String(), h); err != nil {
			return err
		}
	}
	if last.IsZero() {
		return nil
	}
	// What was accepted last stays what it was, or a rewritten history would pass unseen.
	return writeRef(dir, "refs/heads/"+r.cfg.Branch, last)
}

// heal renews a damaged clone while a tree of it is being read; age says which handle the
// reader used.
func (r *Repo) heal(age int, cause error) error {
	if transient(cause) || !damaged(cause) {
		return cause
	}
	r.work.Lock()
	defer r.work.Unlock()
	r.reading.Lock()
	now := r.age
	r.reading.Unlock()
	if now != age {
		return nil // swapped meanwhile: worth another try
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.cfg.Timeout)
	defer cancel()
	if err := r.renew(ctx, r.asideName()); err != nil {
		return fmt.Errorf("the clone in %s is damaged (%w) and could not be cloned anew: %w", r.cfg.Dir, cause, err)
	}
	return nil
}

// transient says whether an error tells of this process rather than of the clone.
func transient(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, fs.ErrPermission} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// keepNewest removes what matches a pattern, but for the newest n by name.
func keepNewest(pattern string, n int) {
	all, _ := filepath.Glob(pattern)
	slices.Sort(all)
	for len(all) > n {
		os.RemoveAll(all[0])
		all = all[1:]
	}
}

// copyCommit copies a commit and all it reaches that dst lacks. What dst has, it has whole:
// packs come in complete or not at all.
func copyCommit(ctx context.Context, dst *store, src storer.EncodedObjectStorer, want plumbing.Hash) error {
	if want.IsZero() {
		return nil
	}
	hashes, err := missing(ctx, dst, src, want)
	if err != nil || len(hashes) == 0 {
		return err
	}
	pr, pw := io.Pipe()
	go func() {
		buf := bufio.NewWriterSize(pw, 64<<10)
		_, err := packfile.NewEncoder(buf, src, false).Encode(hashes, 10)
		pw.CloseWithError(errors.Join(err, buf.Flush()))
	}()
	stop := context.AfterFunc(ctx, func() { pw.CloseWithError(ctx.Err()) })
	defer stop()
	err = dst.writePack(pr, 1<<40)
	pr.CloseWithError(io.ErrClosedPipe)
	return err
}

// missing lists the objects that want reaches in src and that dst lacks.
func missing(ctx context.Context, dst *store, src storer.EncodedObjectStorer, want plumbing.Hash) ([]plumbing.Hash, error) {
	var hashes []plumbing.Hash
	seen := map[plumbing.Hash]bool{}
	lacks := func(h plumbing.Hash) bool {
		if seen[h] || dst.HasEncodedObject(h) == nil {
			return false
		}
		seen[h] = true
		hashes = append(hashes, h)
		return true
	}
	var walk func(h plumbing.Hash) error
	walk = func(h plumbing.Hash) error {
		if !lacks(h) {
			return nil
		}
		t, err := object.GetTree(src, h)
		if err != nil {
			return err
		}
		for _, e := range t.Entries {
			switch e.Mode {
			case filemode.Submodule:
			case filemode.Dir:
				if err := walk(e.Hash); err != nil {
					return err
				}
			default:
				lacks(e.Hash)
			}
		}
		return nil
	}
	for queue := []plumbing.Hash{want}; len(queue) > 0; queue = queue[1:] {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !lacks(queue[0]) {
			continue
		}
		c, err := object.GetCommit(src, queue[0])
		if err != nil {
			return nil, err
		}
		if err := walk(c.TreeHash); err != nil {
			return nil, err
		}
		queue = append(queue, c.ParentHashes...)
	}
	return hashes, nil
}

// ref is the head that was accepted last, or zero.
func (r *Repo) ref() plumbing.Hash { return readRef(r.cfg.Dir, "refs/heads/"+r.cfg.Branch) }

func readRef(dir, name string) plumbing.Hash {
	b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	if b = bytes.TrimSpace(b); err != nil || len(b) != 40 || !hex.Match(b) {
		return plumbing.ZeroHash
	}
	return plumbing.NewHash(string(b))
}

func refExists(dir, name string) bool { return !readRef(dir, name).IsZero() }

func writeRef(dir, name string, h plumbing.Hash) error {
	file := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return replace(file, []byte(h.String()+"\n"))
}

func removeRef(dir, name string) error {
	return os.Remove(filepath.Join(dir, filepath.FromSlash(name)))
}

// keptRefs lists the commits below refs/bellhop.
func keptRefs(dir string) []plumbing.Hash {
	entries, _ := os.ReadDir(filepath.Join(dir, "refs", "bellhop"))
	var kept []plumbing.Hash
	for _, e := range entries {
		if len(e.Name()) == 40 && hex.MatchString(e.Name()) {
			kept = append(kept, plumbing.NewHash(e.Name()))
		}
	}
	return kept
}

// replace writes a small file beside its place and renames it there.
func replace(file string, content []byte) error {
	tmp := file + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, file)
}
