// Package commits says where commits come from, and makes again what an older one asked of a host: its
// bundle, the values of its keys and its texts.
//
// A Source is where commits come from. An Archive reads older ones, each with a loader of its own, so that
// the one that plans keeps what it knows of the newest. A Standing is what a host holds, which may be composed
// of several commits: it is made again of the manifest that history remembers, and of each commit only the
// bytes and values that this names. A bundle that can't be made again exactly is an error, never another one.
package commits

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/plain"
	"bellhop/internal/push"
)

// An Archive makes again what older commits asked of a host: its bundle, the keys and the texts in it.
type Archive struct {
	Source
	Loader  *fleet.Loader
	History *history.DB
	Fleet   *fleet.Fleet // of the newest plan; nil: none yet
	Log     *slog.Logger
}

// arch is the remembered architecture of a host.
func (a Archive) arch(host string) string { return ArchOf(a.History, host) }

// LastManifest is the manifest that a host holds, as far as is known, and its digest: as it was sent,
// or made again from the commit that it came from. It is nil when nothing is known.
func (a Archive) LastManifest(ctx context.Context, last history.Host) (*bundle.Manifest, string, error) {
	m, digest, err := a.History.Manifest(last.Name)
	if err != nil || !last.Had {
		return nil, "", err
	}

	if last.Digest != "" && digest != last.Digest && a.At != nil {
		if b, err := a.Held(ctx, last); err == nil && b.Digest == last.Digest {
			return &b.Manifest, b.Digest, nil
		}
	}

	return m, digest, nil
}

// Held is the bundle that a host holds, made again from the commit, or the commits, that it came from.
func (a Archive) Held(ctx context.Context, last history.Host) (*fleet.Bundle, error) {
	if g, ok := a.Generation(last.Name, last.Digest); ok && len(g.Origins) > 0 {
		return a.ComposedAt(ctx, last.Name, g)
	}
	return a.bundleAt(ctx, a.CommitOf(last), last.Name, func(digest string) bool { return digest == last.Digest })
}

// BundleOnHost is the bundle of the generation that a host holds: keys are opened from the
// commit that it came from, never from a newer one that the host does not hold yet.
func (a Archive) BundleOnHost(ctx context.Context, host string, rec *bundle.HostRecord) (*fleet.Bundle, error) {
	if f := a.Fleet; f != nil {
		if _, ok := f.Host(host); ok {
			if b, err := f.Bundle(host); err == nil && (rec.Digest.Is(b.Digest) || rec.Digest.Is(bundle.HeldDigest(b.Digest))) {
				return b, nil
			}
		}
	}

	known, g, err := a.generationOf(ctx, host, rec)
	if err != nil {
		return nil, err
	}

	var tried error
	if len(g.Origins) > 0 && a.At != nil {
		b, err := a.ComposedAt(ctx, host, g)
		if err == nil && rec.Digest.Is(b.Digest) {
			return b, nil
		}
		tried = err
	}

	for _, commit := range a.commitsOf(host, known, g.Commit) {
		b, err := a.bundleAt(ctx, commit, host, rec.Digest.Is)
		if err == nil && rec.Digest.Is(b.Digest) {
			return b, nil
		}
		tried = errors.Join(tried, err)
	}

	if tried != nil {
		return nil, fmt.Errorf("open the keys of generation %d: %w", rec.Generation, tried)
	}

	return nil, push.Final(fmt.Errorf("no commit is known that generation %d came from", rec.Generation))
}

// generationOf is what a host holds by its record, and the digest of that: a generation that history knows, or else
// what a push brought whose end was not heard. Pushes since then, and a name that the host got, change nothing in that.
func (a Archive) generationOf(ctx context.Context, host string, rec *bundle.HostRecord) (known string, g history.Generation, err error) {
	known = a.KnownDigest(nil, host, rec.Digest)
	if g, ok := a.Generation(host, known); ok {
		return known, g, nil
	}

	lost, err := a.History.LostAnywhere(ctx, rec.Digest.Is)
	if err != nil || lost.Digest == "" {
		return known, history.Generation{}, err
	}
	return lost.Digest, history.Generation{Digest: lost.Digest, Commit: lost.Commit, Origins: lost.Origins}, nil
}

// commitsOf are the commits that the bundle of that digest can be made from, the best first: the
// newest that the host satisfies, whose secrets are sealed as they are today, and then those that
// its generations came from, and also.
func (a Archive) commitsOf(host, digest, also string) (commits []string) {
	if a.At == nil {
		return nil
	}

	if h, ok := a.History.Host(host); ok && h.Digest == digest {
		commits = append(commits, h.Commit)
	}

	for _, g := range a.History.Generations(host) {
		if g.Digest == digest {
			commits = append(commits, g.Commit)
		}
	}

	if hold := a.History.Holds().Of(host); hold != nil && hold.Digest == digest {
		commits = append(commits, hold.Commit)
	}

	commits = slices.DeleteFunc(append(commits, also), func(c string) bool { return c == "" })
	return slices.Compact(commits)
}

// bundleAt is a host's bundle at an older commit, with a loader of its own: the one that
// plans keeps what it knows of the newest. A commit that this release refuses, or of which it makes a
// bundle that is not the one wanted, is read as the release before did: that one may have deployed it.
func (a Archive) bundleAt(ctx context.Context, commit, host string, wanted func(digest string) bool) (*fleet.Bundle, error) {
	snap, err := a.At(ctx, commit)
	if err != nil {
		return nil, err
	}

	b, err := a.bundleOf(ctx, snap, commit, host, false)
	if err == nil {
		if same, ok := asDeployed(b, wanted); ok {
			return same, nil
		}
	}

	if former, e := a.bundleOf(ctx, snap, commit, host, true); e == nil && wanted(former.Digest) {
		return former, nil
	}

	return b, err
}

func (a Archive) bundleOf(ctx context.Context, snap Snapshot, commit, host string, former bool) (*fleet.Bundle, error) {
	l := a.Loader.Fresh()
	l.Arch, l.Former = a.arch, former
	f, err := l.Load(ctx, snap.Tree)
	if err != nil {
		return nil, err
	}

	return a.wholeIn(f, commit, host)
}

// anyDigest accepts every bundle that a commit makes.
func anyDigest(string) bool { return true }

// Texts returns the bytes behind a digest.
type Texts func(digest string) ([]byte, bool)

// OldTexts returns where the old texts of a host come from. Each commit is loaded once, with
// a loader that opens no secret: a file that names one is a key, and keys are never shown.
func (a Archive) OldTexts(ctx context.Context) func(last history.Host) Texts {
	fleets := map[string]*fleet.Fleet{}
	return func(last history.Host) Texts {
		none := func(string) ([]byte, bool) { return nil, false }
		commit := a.CommitOf(last)
		if commit == "" || a.At == nil {
			return none
		}
		f, ok := fleets[commit]
		if !ok {
			if snap, err := a.At(ctx, commit); err == nil {
				l := a.Loader.Fresh()
				l.Open, l.KeyDigest, l.Arch = nil, nil, a.arch
				f, _ = l.Load(ctx, snap.Tree)
			}
			fleets[commit] = f
		}
		if f == nil {
			return none
		}
		b, err := a.wholeIn(f, commit, last.Name)
		if err != nil {
			return none
		}
		return func(digest string) ([]byte, bool) {
			p, err := b.File(digest)
			return p, err == nil
		}
	}
}

// MadeBefore is old, but for hosts that hold the bundle which f has for them: the texts of that are at hand, and what
// can't be read there any more comes from old. f may be nil.
func MadeBefore(f *fleet.Fleet, old func(history.Host) Texts) func(history.Host) Texts {
	return func(last history.Host) Texts {
		b := bundleIn(f, last)
		if b == nil {
			return old(last)
		}
		return func(digest string) ([]byte, bool) {
			if p, err := b.File(digest); err == nil {
				return p, true
			}
			return old(last)(digest)
		}
	}
}

// bundleIn is the bundle that a host holds, where f has it; else nil.
func bundleIn(f *fleet.Fleet, last history.Host) *fleet.Bundle {
	if f == nil {
		return nil
	}
	if _, is := f.Host(last.Name); !is {
		return nil
	}
	if b, err := f.Bundle(last.Name); err == nil && b.Digest == last.Digest {
		return b
	}
	return nil
}

// CommitOf is the commit of the generation that a host holds, "" when that is not known.
func (a Archive) CommitOf(last history.Host) string {
	for _, g := range a.History.Generations(last.Name) {
		if g.Generation == last.Generation && g.Digest == last.Digest {
			return g.Commit
		}
	}
	return last.Commit
}

// KeysAt opens the keys of the bundle that an open run was about.
func (a Archive) KeysAt(ctx context.Context, o history.Interrupted) func() (map[string][]byte, error) {
	return func() (map[string][]byte, error) {
		if a.At == nil || o.Commit == "" {
			return nil, errors.New("the commit of the run is not known")
		}
		b, err := a.bundleAt(ctx, o.Commit, o.Host, anyDigest)
		if err != nil {
			return nil, err
		}
		return push.OpenKeys(b)
	}
}

// FormerKeys opens the keys that a host holds, where history remembers others than b has.
func (a Archive) FormerKeys(ctx context.Context, host string, b *fleet.Bundle) func() (map[string][]byte, error) {
	return func() (map[string][]byte, error) {
		last, known := a.History.Host(host)
		holdsB := b != nil && last.Digest == b.Digest
		if !known || !last.Had || holdsB {
			return nil, nil
		}
		m, _, err := a.History.Manifest(host)
		if err != nil {
			return nil, err
		}
		if m == nil || !hasOtherKeys(m, b) {
			return nil, nil
		}
		if a.At == nil {
			return nil, errors.New("no older commit can be had")
		}

		old, err := a.Held(ctx, last)
		if err != nil {
			return nil, fmt.Errorf("open the keys on the host: %w", err)
		}
		return push.OpenKeys(old)
	}
}

// hasOtherKeys says whether old has a key with a value that b does not have.
func hasOtherKeys(old *bundle.Manifest, b *fleet.Bundle) bool {
	has := map[string]bool{}
	if b != nil {
		for _, k := range b.Keys {
			has[k.Digest] = true
		}
	}

	return slices.ContainsFunc(old.Keys, func(k bundle.Key) bool { return !has[k.Digest] })
}

// KnownDigest is the digest that a host named, where it is one of a bundle that was made for
// this host, or one of also. Else it is "": what the host holds is not known.
func (a Archive) KnownDigest(f *fleet.Fleet, host string, named plain.Foreign, also ...string) string {
	h, _ := a.History.Host(host)
	known := append(also, h.Wanted, h.Digest)
	if hold := a.History.Holds().Of(host); hold != nil {
		known = append(known, hold.Digest)
	}
	for _, g := range a.History.Generations(host) {
		known = append(known, g.Digest)
	}

	for _, digest := range known {
		if named.Is(digest) {
			return digest
		}
	}

	if f == nil {
		return ""
	}

	if b, err := f.Bundle(host); err == nil && b != nil && named.Is(b.Digest) {
		return b.Digest
	}

	return ""
}

func ArchOf(db *history.DB, host string) string {
	h, _ := db.Host(host)
	return h.Arch
}
