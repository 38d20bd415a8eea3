// Package gitsync keeps a bare clone of the config repo, and hands out commits as read-only
// trees.
//
// A snapshot is one commit: who made it, what it says, and its tree as an fs.FS that is
// served straight from the object store. There is no checkout, so no link, "..", filter or
// hook of the repo can touch the machine that bellhop runs on.
//
// The remote is asked for the head of one branch; something is fetched only when the clone
// lacks that commit. Each fetch leaves a pack; when they pile up a fresh clone is made beside
// the old one and renamed into its place. A clone that turns out to be damaged is put aside,
// for people to look at, and cloned anew. Commits named to Keep survive both.
package gitsync

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"golang.org/x/crypto/ssh"

	"bellhop/gitsync/bare"
	"bellhop/gitsync/objects"
	"bellhop/gitsync/protocol"
	"bellhop/gitsync/refs"
	"bellhop/internal/plain"
)

// What callers branch on. Errors that wrap one of these also say what to do.
var (
	ErrNoBranch    = errors.New("the branch is not there yet")
	ErrRewritten   = errors.New("history was rewritten")
	ErrAuth        = errors.New("the remote does not let us in")
	ErrHostKey     = errors.New("the remote's host key is not the pinned one")
	ErrUnreachable = protocol.ErrUnreachable
	ErrUnknown     = errors.New("no such commit")
)

// Rewritten says what to do when the branch no longer holds the commit seen before.
type Rewritten string

// The policies.
const (
	Follow Rewritten = "follow" // go on with the new history, and say so in the Snapshot
	Refuse Rewritten = "refuse" // stay where we are: ErrRewritten
)

// Config says which branch of which repo is followed, and how the remote is reached.
type Config struct {
	URL         string        // https://…, ssh://…, git@host:path, or a path
	Branch      string        // "": main
	Path        string        // folder of the repo that holds the config; "" and "." are its root
	Dir         string        // where the bare clone lives
	Token       string        // for https; sent to the URL's own host and to no other
	Signer      ssh.Signer    // for ssh: the deploy key
	KeyFile     string        // for ssh: the deploy key's file, used when Signer is nil
	HostKeys    []string      // for ssh: pinned keys, as lines of authorized_keys or known_hosts
	Rewritten   Rewritten     // "": Follow
	Timeout     time.Duration // of one Sync; 0 is 5 min
	MaxPacks    int           // more packs than this are renewed as one; 0 is 20: each costs time at every fetch
	MaxPack     int64         // bytes that one fetch may bring; 0 is 1 GiB
	MaxInflated int64         // bytes of what one fetch brings, unpacked; 0 is 16 GiB
}

// limits bound what comes over a wire.
func (c Config) limits() objects.Limits {
	return objects.Limits{Packed: c.MaxPack, Inflated: c.MaxInflated}
}

// A Repo is the clone of one branch. Its methods may be called from many goroutines, and
// trees may be read while a fetch goes on; one process at a time owns the directory.
type Repo struct {
	cfg    Config
	remote remote
	blobs  atomic.Int64
	asked  atomic.Int64

	branches atomic.Value // digest of all branches, as the newest look found them
	heads    atomic.Value // these branches: map[string]plumbing.Hash

	work      sync.Mutex // held by whoever changes the clone
	renewNext int
	incurable time.Time  // when a fresh clone was as damaged as the one before
	opening   sync.Mutex // held to open the store for the first time

	lately sync.Mutex
	recent []plumbing.Hash // commits handed out lately: a renewed clone keeps them

	reading sync.Mutex // held while the store is read, and to swap it
	store   *bare.Store
	age     int // how often store was swapped
}

// Open prepares a Repo. It does not speak to the remote; the first Sync does.
func Open(cfg Config) (*Repo, error) {
	if cfg.Branch == "" {
		cfg.Branch = "main"
	}

	if err := refs.CheckName(cfg.Branch); err != nil {
		return nil, err
	}

	if cfg.Path == "" {
		cfg.Path = "."
	}

	cfg.Path = strings.TrimSuffix(filepath.ToSlash(filepath.Clean(cfg.Path)), "/")
	if !fs.ValidPath(cfg.Path) {
		return nil, fmt.Errorf("path %q does not lie in the repo: name a folder such as infra/bellhop", cfg.Path)
	}

	switch cfg.Rewritten {
	case "":
		cfg.Rewritten = Follow
	case Follow, Refuse:
	default:
		return nil, fmt.Errorf("rewritten history: policy %q is neither follow nor refuse", cfg.Rewritten)
	}

	if cfg.Dir == "" {
		return nil, errors.New("gitsync: no directory for the clone")
	}

	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Minute
	}

	if cfg.MaxPacks == 0 {
		cfg.MaxPacks = 20
	}

	rem, err := newRemote(cfg)
	if err != nil {
		return nil, err
	}

	return &Repo{cfg: cfg, remote: rem, renewNext: cfg.MaxPacks}, os.MkdirAll(filepath.Dir(cfg.Dir), 0o700)
}

// Sync asks the remote for the branch's head, fetches it if the clone lacks it, and returns
// it.
func (r *Repo) Sync(ctx context.Context) (Snapshot, error) {
	r.work.Lock()
	defer r.work.Unlock()
	return r.syncLocked(ctx, looking{move: true})
}

// SyncRewritten is Sync for who accepts a history that was rewritten, once, whatever Config.Rewritten says.
func (r *Repo) SyncRewritten(ctx context.Context) (Snapshot, error) {
	r.work.Lock()
	defer r.work.Unlock()
	return r.syncLocked(ctx, looking{move: true, accept: true})
}

// Look is Sync for who only wants to see: the next Sync tells of a rewritten history as if
// nobody had looked.
func (r *Repo) Look(ctx context.Context) (Snapshot, error) {
	r.work.Lock()
	defer r.work.Unlock()
	return r.syncLocked(ctx, looking{})
}

// A looking is how the remote is looked at.
type looking struct {
	move   bool // what is found becomes the commit that was seen last
	accept bool // also when history was rewritten and that is refused
}

func (r *Repo) syncLocked(ctx context.Context, how looking) (Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	s, err := r.sync(ctx, how)
	if damaged(err) && !r.isIncurable() {
		if rerr := r.renew(ctx, r.asideName()); rerr != nil {
			return Snapshot{}, fmt.Errorf("sync %s: the clone in %s is damaged (%w) and could not be cloned anew: %w", r.cfg.Branch, r.cfg.Dir, err, rerr)
		}
		if s, err = r.sync(ctx, how); damaged(err) {
			r.incurable = time.Now()
		}
	}

	if damaged(err) {
		err = fmt.Errorf("a fresh clone is as damaged as this one, so the remote is: git fsck there tells how: %w", err)
	}

	if err != nil {
		return Snapshot{}, fmt.Errorf("sync %s: %w", r.cfg.Branch, err)
	}

	return s, nil
}

// sync is one look at the remote.
func (r *Repo) sync(ctx context.Context, how looking) (Snapshot, error) {
	if err := r.open(); err != nil {
		return Snapshot{}, err
	}

	conn, err := r.remote.dial(ctx)
	if err != nil {
		return Snapshot{}, err
	}

	defer conn.close()
	r.asked.Add(1)
	r.saw(conn.Refs())
	head, err := headOf(conn, r.cfg.Branch)
	if err != nil {
		return Snapshot{}, err
	}

	old := r.ref()
	if err := r.fetch(ctx, conn, head, old); err != nil {
		return Snapshot{}, err
	}

	s, err := r.snapshot(head)
	if err != nil {
		return Snapshot{}, err
	}

	s.Moved = conn.moved()
	s.Rewritten, err = r.rewritten(ctx, old, head)
	if errors.Is(err, ErrRewritten) && how.accept {
		s.Rewritten, err = true, nil
	}
	if err != nil {
		return Snapshot{}, err
	}

	if !how.move {
		return s, nil
	}

	if head != old {
		if err := bare.WriteRef(r.cfg.Dir, "refs/heads/"+r.cfg.Branch, head); err != nil {
			return Snapshot{}, err
		}
	}

	r.renewMaybe(ctx)
	return s, nil
}

// fetch brings head into the clone, unless it is there.
func (r *Repo) fetch(ctx context.Context, conn conn, head, old plumbing.Hash) error {
	switch err := r.hasCommit(head); {
	case err == nil:
		return nil
	case !errors.Is(err, plumbing.ErrObjectNotFound):
		return err
	case head == old: // our own ref says it is there
		return fmt.Errorf("%w: %w", errDamaged, err)
	}

	if err := conn.fetch(ctx, r.cfg.Dir, head, append(bare.KeptRefs(r.cfg.Dir), old)); err != nil {
		return fmt.Errorf("fetch %s: %w", head.String()[:10], err)
	}

	r.swap(bare.Open(r.cfg.Dir))
	return r.hasCommit(head)
}

// rewritten says whether history was rewritten, or refuses it.
func (r *Repo) rewritten(ctx context.Context, old, head plumbing.Hash) (bool, error) {
	if old.IsZero() || old == head {
		return false, nil
	}

	holds, err := r.holds(ctx, head, old)
	if err != nil || holds {
		return false, err
	}

	if r.cfg.Rewritten == Refuse {
		return false, fmt.Errorf("%w: %s is not in the history of %s; push the old commit back, or accept this one with: bellhop deploy --allow-rewritten",
			ErrRewritten, old.String()[:10], head.String()[:10])
	}

	return true, nil
}

// Head asks the remote for the branch's head, and fetches nothing.
func (r *Repo) Head(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	conn, err := r.remote.dial(ctx)
	if err != nil {
		return "", err
	}

	defer conn.close()
	r.asked.Add(1)
	r.saw(conn.Refs())
	head, err := headOf(conn, r.cfg.Branch)
	if err != nil {
		return "", err
	}

	return head.String(), nil
}

var hex = regexp.MustCompile(`^[0-9a-f]{7,40}$`)

// At returns a commit by its id, or by the unambiguous start of one (7 digits at least). One
// that the clone lacks is looked for at the remote, in the branch.
func (r *Repo) At(ctx context.Context, commit string) (Snapshot, error) {
	if !hex.MatchString(commit) {
		return Snapshot{}, fmt.Errorf("%w: %q is not a commit id (7 to 40 digits 0-9a-f)", ErrUnknown, commit)
	}

	if err := r.open(); err != nil {
		return Snapshot{}, fmt.Errorf("commit %s: %w", commit, err)
	}

	// What is here is handed out while a Sync waits for a remote that does not answer.
	if h, err := r.resolve(commit); err == nil {
		return r.snapshot(h)
	}

	r.work.Lock()
	defer r.work.Unlock()
	h, err := r.resolve(commit)
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		if _, serr := r.syncLocked(ctx, looking{}); serr != nil && !errors.Is(serr, ErrRewritten) {
			return Snapshot{}, fmt.Errorf("commit %s: %w here, and %w", commit, ErrUnknown, serr)
		}
		h, err = r.resolve(commit)
	}

	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return Snapshot{}, fmt.Errorf("%w: %s is neither in the clone nor in branch %s", ErrUnknown, commit, r.cfg.Branch)
	}

	if err != nil {
		return Snapshot{}, fmt.Errorf("commit %s: %w", commit, err)
	}

	return r.snapshot(h)
}

// Keep says which commits must stay readable whatever happens to the branch: those that kept
// generations came from. Commits kept before and not named now may leave.
func (r *Repo) Keep(commits []string) error {
	r.work.Lock()
	defer r.work.Unlock()
	if err := r.open(); err != nil {
		return err
	}

	want := map[string]bool{}
	var errs []error
	for _, c := range commits {
		if !bare.IsID(c) {
			errs = append(errs, fmt.Errorf("keep: %q is not a full commit id", c))
			continue
		}
		want[c] = true
		h := plumbing.NewHash(c)
		if bare.HasRef(r.cfg.Dir, "refs/bellhop/"+c) {
			continue
		}
		if err := r.hasCommit(h); err != nil {
			errs = append(errs, fmt.Errorf("keep %s: %w", c[:10], err))
			continue
		}
		errs = append(errs, bare.WriteRef(r.cfg.Dir, "refs/bellhop/"+c, h))
	}

	for _, h := range bare.KeptRefs(r.cfg.Dir) {
		if !want[h.String()] {
			errs = append(errs, bare.RemoveRef(r.cfg.Dir, "refs/bellhop/"+h.String()))
		}
	}

	return errors.Join(errs...)
}

// Holds says whether old is commit or one of its ancestors. A commit that the clone has not
// got is no ancestor of anything in it. The walk ends after maxHistory commits with an error.
func (r *Repo) Holds(ctx context.Context, commit, old string) (bool, error) {
	for _, id := range []string{commit, old} {
		if !bare.IsID(id) {
			return false, fmt.Errorf("%w: %q is not a full commit id", ErrUnknown, plain.Line(id, 80))
		}
	}

	if err := r.open(); err != nil {
		return false, err
	}

	ancestor := plumbing.NewHash(old)
	switch err := r.hasCommit(ancestor); {
	case errors.Is(err, plumbing.ErrObjectNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("commit %s: %w", old[:10], err)
	}

	return r.holds(ctx, plumbing.NewHash(commit), ancestor)
}

// Last is the head that the last Sync stored; "" before the first.
func (r *Repo) Last() string {
	if h := r.ref(); !h.IsZero() {
		return h.String()
	}

	return ""
}

// BlobsRead counts the files whose content was read from the clone, in all trees together.
func (r *Repo) BlobsRead() int64 { return r.blobs.Load() }

// Asked counts how often the remote was asked for its head.
func (r *Repo) Asked() int64 { return r.asked.Load() }

// Close closes what is open. Trees open it again when they are read.
func (r *Repo) Close() error {
	r.work.Lock()
	defer r.work.Unlock()
	r.swap(nil)
	return nil
}

// ref is the head that was accepted last, or zero.
func (r *Repo) ref() plumbing.Hash { return bare.ReadRef(r.cfg.Dir, "refs/heads/"+r.cfg.Branch) }
