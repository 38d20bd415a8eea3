package helper

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/host/check"
	"bellhop/internal/host/keyfiles"
	"bellhop/internal/host/owned"
	"bellhop/internal/host/state"
)

// A stage is where a session puts what it brings: blobs on disk by digest, keys in RAM. It
// is locked while the session lives, so that the next session sweeps only what was left by
// one that died.
type stage struct {
	m    state.Dir
	o    *bundle.Offer
	id   string // of this session: a former one of the same run may hang on a cut line
	lock *os.File
	// wanted are the digests that were asked for, by kind; nothing else is taken.
	wanted map[string]bool
	came   bool // something was brought
	// writeErr is why the host could not keep what came: a disk that is full. The rest is read
	// all the same, since who is still sending does not listen.
	writeErr error
	keys     *keyfiles.Root // open from the first key on
}

// newStage opens the staging folder of o for the session that began then, and sweeps what earlier
// sessions left.
func newStage(m state.Dir, o *bundle.Offer, began int64) (*stage, error) {
	end, err := m.Claim(began, true)
	if err != nil {
		return nil, err
	}
	defer end()

	sweepStages(m)
	id := o.Run + "." + strings.ToLower(rand.Text()[:8])
	dir := filepath.Join(m.At(state.StagingDir), id)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}

	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}

	return &stage{m: m, o: o, id: id, lock: f, wanted: map[string]bool{}}, nil
}

func (st *stage) close() {
	if st.keys != nil {
		st.keys.Close()
	}
	st.lock.Close()
}

// drop forgets what was brought.
func (st *stage) drop() {
	st.m.Unstage(st.id)
	keyfiles.Of(st.m).Drop(st.id, nil)
}

// handOver gives what was brought the name of its run, under which Apply looks for it. Nothing
// that another session handed over is touched.
func handOver(m state.Dir, id, run string) error {
	if m.Ordered(run) {
		return check.Refuse(bundle.RefusedBusy, "another session of run %s began it", run)
	}

	m.Unstage(run)
	if err := keyfiles.Of(m).HandOver(id, run); err != nil {
		return err
	}
	return os.Rename(filepath.Join(m.At(state.StagingDir), id), filepath.Join(m.At(state.StagingDir), run))
}

// sweepStages removes what no session and no run needs any more. It does nothing while
// somebody is at work.
func sweepStages(m state.Dir) {
	unlock, err := m.Lock(0)
	if err != nil {
		return
	}
	defer unlock()

	live := map[string]bool{} // runs of sessions that are there
	names, _ := os.ReadDir(m.At(state.StagingDir))
	for _, e := range names {
		live[state.RunOf(e.Name())] = true
	}

	keyfiles.Of(m).Sweep(live)
	for _, e := range names {
		f, err := os.Open(filepath.Join(m.At(state.StagingDir), e.Name()))
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			m.Unstage(e.Name())
			keyfiles.Of(m).Drop(e.Name(), nil)
		}

		f.Close()
	}
}

// want says what the host lacks. Content counts wherever it is: in the store, or in place.
func (st *stage) want(ctx context.Context) (*bundle.Want, error) {
	w := &bundle.Want{}
	if len(st.o.Manifest.Keys) > 0 {
		if _, err := st.m.Mounts.Keys(ctx); err != nil {
			return nil, fmt.Errorf("mount %s: %w", bundle.KeyDir, err)
		}
	}
	if st.o.Mode == bundle.ModeDeploy {
		if err := st.wantBlobs(ctx, w); err != nil {
			return nil, err
		}
	}

	l := keyfiles.Of(st.m).Reader()
	defer l.Close()

	for _, k := range st.o.Manifest.Keys {
		st.wanted[bundle.BlobKey+k.Name] = true
		if mac := l.MAC(k, st.o.Nonce); mac != nil {
			if w.Keys == nil {
				w.Keys = map[string][]byte{}
			}
			w.Keys[k.Name] = mac
		}
	}

	return w, nil
}

func (st *stage) wantBlobs(ctx context.Context, w *bundle.Want) error {
	in := st.m.Tree().Looker(ctx)
	defer in.Close()

	for _, f := range st.o.Manifest.Files {
		if st.wanted[bundle.BlobFile+f.Digest] || st.m.Blobs().Has(f.Digest) {
			continue
		}
		if is, err := in.Look(f.Path, f.Size); err == nil && is.Digest == f.Digest {
			continue
		}

		st.wanted[bundle.BlobFile+f.Digest] = true
		w.Files = append(w.Files, f.Digest)
	}

	for _, p := range st.o.Manifest.Packages {
		if st.wanted[bundle.BlobPackage+p.Digest] || st.m.Packages().Has(p) {
			continue
		}

		st.wanted[bundle.BlobPackage+p.Digest] = true
		w.Packages = append(w.Packages, p.Digest)
	}

	return nil
}

// receiveUnasked takes the files that follow an offer unasked, and takes them off want. What the
// host has by now is read, and dropped.
func (st *stage) receiveUnasked(in *wire.Reader, want *bundle.Want) error {
	for range st.o.Ahead {
		var b bundle.Blob
		if err := in.Expect(bundle.FrameBlob, &b); err != nil {
			return err
		}
		if b.Kind != bundle.BlobFile || b.Size < 0 || b.Size > bundle.MaxBlob {
			return fmt.Errorf("blob of kind %q and %d bytes came unasked", b.Kind, b.Size)
		}
		if !st.wanted[b.Kind+b.Name] {
			if err := in.Data(b, io.Discard); err != nil {
				return err
			}
			continue
		}

		delete(st.wanted, b.Kind+b.Name)
		st.came = true
		if err := st.take(in, b); err != nil {
			return err
		}
	}

	want.Files = slices.DeleteFunc(want.Files, func(d string) bool { return !st.wanted[bundle.BlobFile+d] })
	return st.writeErr
}

// receive takes blobs until End. Only what was asked for is taken, once, and its bytes must
// be those of its digest.
func (st *stage) receive(in *wire.Reader) error {
	for {
		kind, p, err := in.Next()
		if err != nil {
			return err
		}
		if kind == bundle.FrameEnd {
			return st.writeErr
		}
		if kind != bundle.FrameBlob {
			return fmt.Errorf("frame %q came where a blob belongs", kind)
		}

		var b bundle.Blob
		if err := bundle.Unmarshal(p, &b); err != nil {
			return fmt.Errorf("blob: %w", err)
		}
		if !st.wanted[b.Kind+b.Name] {
			return fmt.Errorf("blob of kind %q was not asked for", b.Kind)
		}

		delete(st.wanted, b.Kind+b.Name)
		st.came = true
		if err := st.take(in, b); err != nil {
			return err
		}
	}
}

func (st *stage) take(in *wire.Reader, b bundle.Blob) error {
	limit := int64(bundle.MaxBlob)
	if b.Kind == bundle.BlobKey {
		limit = bundle.MaxKey
	}
	if b.Size < 0 || b.Size > limit {
		return fmt.Errorf("blob of %d bytes", b.Size)
	}
	if b.Kind == bundle.BlobKey {
		return st.takeKey(in, b)
	}

	f := st.create(st.m.Staged(st.id, b.Name), 0)
	h := owned.NewDigest()
	if err := errors.Join(in.Data(b, io.MultiWriter(f, h)), st.closed(f)); err != nil {
		return err
	}
	if got := h.Hex(); got != b.Name {
		return fmt.Errorf("blob %.12s came with other bytes", b.Name)
	}

	return nil
}

// takeKey writes a value where only root can read it, and never to a disk: that the folder
// is in RAM was proven when the offer came.
func (st *stage) takeKey(in *wire.Reader, b bundle.Blob) error {
	f := &keptFile{}
	dir, err := st.keyFolder()
	if err == nil {
		f = st.create(filepath.Join(dir, keyfiles.FileName(b.Name)), unix.O_NOFOLLOW)
	}
	f.err = errors.Join(f.err, err)
	return errors.Join(in.Data(b, f), st.closed(f))
}

// keyFolder makes the folder in RAM where values wait.
func (st *stage) keyFolder() (string, error) {
	if st.keys == nil {
		var err error
		if st.keys, err = keyfiles.Of(st.m).OpenRoot(context.Background()); err != nil {
			return "", err
		}
	}

	dir := st.keys.At(keyfiles.NewFolder(st.id))
	return dir, os.MkdirAll(dir, 0o700)
}

// A keptFile is a file that takes every byte, also when it can't keep them.
type keptFile struct {
	f   *os.File
	err error // the first
}

func (k *keptFile) Write(p []byte) (int, error) {
	if k.err == nil {
		_, k.err = k.f.Write(p)
	}
	return len(p), nil
}

func (st *stage) create(name string, flags int) *keptFile {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|flags, 0o600)
	return &keptFile{f, err}
}

// closed ends a file. What could not be kept is the stage's writeErr, and no fault of the connection.
func (st *stage) closed(k *keptFile) error {
	if k.f != nil {
		k.err = errors.Join(k.err, k.f.Close())
	}
	if k.err != nil && st.writeErr == nil {
		st.writeErr = fmt.Errorf("keep what was sent: %w", k.err)
	}
	return nil
}
