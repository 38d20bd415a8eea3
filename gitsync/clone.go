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
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/go-git/go-git/v5/plumbing"

	"bellhop/gitsync/bare"
	"bellhop/gitsync/objects"
)

// errDamaged marks an error that a fresh clone would cure.
var errDamaged = errors.New("the clone is damaged")

// damaged says whether err is of that kind.
func damaged(err error) bool {
	var large *objects.TooLarge
	switch {
	case err == nil, transient(err), errors.As(err, &large), errors.Is(err, objects.ErrLimit):
		return false
	case errors.Is(err, errName), errors.Is(err, objects.ErrMalformed), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	}

	return errors.Is(err, errDamaged) || errors.Is(err, objects.ErrDamaged) || errors.Is(err, plumbing.ErrObjectNotFound)
}

// open makes the clone's directory, or repairs it, and opens the store.
func (r *Repo) open() error {
	r.opening.Lock()
	defer r.opening.Unlock()

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

	if err := bare.Init(r.cfg.Dir, r.cfg.Branch); err != nil {
		return fmt.Errorf("make clone: %w", err)
	}

	os.RemoveAll(old)
	os.RemoveAll(r.cfg.Dir + ".new")
	leftovers, _ := filepath.Glob(filepath.Join(r.cfg.Dir, "objects", "pack", "tmp_*"))
	for _, f := range leftovers {
		os.Remove(f)
	}

	r.swap(bare.Open(r.cfg.Dir))
	return nil
}

// swap gives readers another handle.
func (r *Repo) swap(s *bare.Store) {
	r.reading.Lock()
	defer r.reading.Unlock()
	r.store.Close()
	r.store = s
	r.age++
}

// read calls f with the readers' handle.
func (r *Repo) read(f func(*bare.Store) error) error {
	r.reading.Lock()
	defer r.reading.Unlock()

	if r.store == nil {
		r.store = bare.Open(r.cfg.Dir)
	}

	return f(r.store)
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

	r.store.Close()
	r.store = bare.Open(r.cfg.Dir)
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

	if err := bare.Init(dir, r.cfg.Branch); err != nil {
		return err
	}

	if err := conn.fetch(ctx, dir, head, nil); err != nil {
		return err
	}

	last := r.ref()
	if err := r.copyKept(ctx, dir, last); err != nil {
		return err
	}

	if last.IsZero() {
		return nil
	}

	// What was accepted last stays what it was, or a rewritten history would pass unseen.
	return bare.WriteRef(dir, "refs/heads/"+r.cfg.Branch, last)
}

// copyKept copies to a fresh clone what must be kept of the old one and is not in it.
func (r *Repo) copyKept(ctx context.Context, dir string, last plumbing.Hash) error {
	src := bare.Open(r.cfg.Dir)
	defer src.Close()
	if err := bare.AddShallow(dir, src.Ends); err != nil {
		return err
	}

	for _, h := range append([]plumbing.Hash{last}, r.handedOutLately()...) {
		_ = bare.Copy(ctx, dir, src, h) // best effort: a damaged clone may lack it
	}

	for _, h := range bare.KeptRefs(r.cfg.Dir) {
		if err := bare.Copy(ctx, dir, src, h); err != nil {
			continue
		}
		if err := bare.WriteRef(dir, "refs/bellhop/"+h.String(), h); err != nil {
			return err
		}
	}

	return nil
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

	if r.isIncurable() {
		return cause
	}

	ctx, cancel := context.WithTimeout(context.Background(), r.cfg.Timeout)
	defer cancel()
	if err := r.renew(ctx, r.asideName()); err != nil {
		return fmt.Errorf("the clone in %s is damaged (%w) and could not be cloned anew: %w", r.cfg.Dir, cause, err)
	}

	return nil
}

// incurableFor is how long no fresh clone is tried after one that was damaged as well.
const incurableFor = time.Hour

// isIncurable says that a fresh clone did not help lately: then the damage is the remote's.
func (r *Repo) isIncurable() bool { return time.Since(r.incurable) < incurableFor }

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
