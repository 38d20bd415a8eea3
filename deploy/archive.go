package deploy

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

// An archive makes again what older commits asked of a host: its bundle, the keys and the texts in it.
type archive struct {
	Source
	loader  *fleet.Loader
	history *history.DB
	fleet   *fleet.Fleet // of the newest plan; nil: none yet
	log     *slog.Logger
}

func (d *Deployer) archive() archive {
	d.knowArch()
	return archive{Source: d.Source, loader: d.Loader, history: d.History, fleet: d.planner.lastFleet(), log: d.log()}
}

// arch is the remembered architecture of a host.
func (a archive) arch(host string) string { return archOf(a.history, host) }

// lastManifest is the manifest that a host holds, as far as is known, and its digest: as it was sent,
// or made again from the commit that it came from. It is nil when nothing is known.
func (a archive) lastManifest(ctx context.Context, last history.Host) (*bundle.Manifest, string, error) {
	m, digest, err := a.history.Manifest(last.Name)
	if err != nil || !last.Had {
		return nil, "", err
	}
	if last.Digest != "" && digest != last.Digest && a.At != nil {
		if b, err := a.held(ctx, last); err == nil && b.Digest == last.Digest {
			return &b.Manifest, b.Digest, nil
		}
	}
	return m, digest, nil
}

// held is the bundle that a host holds, made again from the commit, or the commits, that it came from.
func (a archive) held(ctx context.Context, last history.Host) (*fleet.Bundle, error) {
	if g, ok := a.generation(last.Name, last.Digest); ok && len(g.Origins) > 0 {
		return a.composedAt(ctx, last.Name, g)
	}
	return a.bundleAt(ctx, a.commitOf(last), last.Name, func(digest string) bool { return digest == last.Digest })
}

// bundleOnHost is the bundle of the generation that a host holds: keys are opened from the
// commit that it came from, never from a newer one that the host does not hold yet.
func (a archive) bundleOnHost(ctx context.Context, host string, rec *bundle.HostRecord) (*fleet.Bundle, error) {
	if f := a.fleet; f != nil {
		if _, ok := f.Host(host); ok {
			if b, err := f.Bundle(host); err == nil && (rec.Digest.Is(b.Digest) || rec.Digest.Is(bundle.HeldDigest(b.Digest))) {
				return b, nil
			}
		}
	}

	var tried error
	known := a.knownDigest(nil, host, rec.Digest)
	if g, ok := a.generation(host, known); ok && len(g.Origins) > 0 && a.At != nil {
		b, err := a.composedAt(ctx, host, g)
		if err == nil && rec.Digest.Is(b.Digest) {
			return b, nil
		}
		tried = err
	}
	for _, commit := range a.commitsOf(host, known) {
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

// commitsOf are the commits that the bundle of that digest can be made from, the best first: the
// newest that the host satisfies, whose secrets are sealed as they are today, and then those that
// its generations came from.
func (a archive) commitsOf(host, digest string) (commits []string) {
	if a.At == nil {
		return nil
	}

	if h, ok := a.history.Host(host); ok && h.Digest == digest {
		commits = append(commits, h.Commit)
	}

	for _, g := range a.history.Generations(host) {
		if g.Digest == digest {
			commits = append(commits, g.Commit)
		}
	}

	if hold := a.history.Holds().Of(host); hold != nil && hold.Digest == digest {
		commits = append(commits, hold.Commit)
	}

	commits = slices.DeleteFunc(commits, func(c string) bool { return c == "" })
	return slices.Compact(commits)
}

// bundleAt is a host's bundle at an older commit, with a loader of its own: the one that
// plans keeps what it knows of the newest. A commit that this release refuses, or of which it makes a
// bundle that is not the one wanted, is read as the release before did: that one may have deployed it.
func (a archive) bundleAt(ctx context.Context, commit, host string, wanted func(digest string) bool) (*fleet.Bundle, error) {
	snap, err := a.At(ctx, commit)
	if err != nil {
		return nil, err
	}

	b, err := a.bundleOf(ctx, snap, commit, host, false)
	if err == nil && wanted(b.Digest) {
		return b, nil
	}

	if former, e := a.bundleOf(ctx, snap, commit, host, true); e == nil && wanted(former.Digest) {
		return former, nil
	}
	return b, err
}

func (a archive) bundleOf(ctx context.Context, snap Snapshot, commit, host string, former bool) (*fleet.Bundle, error) {
	l := a.loader.Fresh()
	l.Arch, l.Former = a.arch, former
	f, err := l.Load(ctx, snap.Tree)
	if err != nil {
		return nil, err
	}
	if _, ok := f.Host(host); !ok {
		return nil, fmt.Errorf("commit %s has no host %s", short(commit), host)
	}
	return f.Bundle(host)
}

// anyDigest accepts every bundle that a commit makes.
func anyDigest(string) bool { return true }

// texts returns the bytes behind a digest.
type texts func(digest string) ([]byte, bool)

// oldTexts returns where the old texts of a host come from. Each commit is loaded once, with
// a loader that opens no secret: a file that names one is a key, and keys are never shown.
func (a archive) oldTexts(ctx context.Context) func(*HostPlan) texts {
	fleets := map[string]*fleet.Fleet{}
	return func(h *HostPlan) texts {
		none := func(string) ([]byte, bool) { return nil, false }
		commit := a.commitOf(h.last)
		if commit == "" || a.At == nil {
			return none
		}
		f, ok := fleets[commit]
		if !ok {
			if snap, err := a.At(ctx, commit); err == nil {
				l := a.loader.Fresh()
				l.Open, l.KeyDigest, l.Arch = nil, nil, a.arch
				f, _ = l.Load(ctx, snap.Tree)
			}
			fleets[commit] = f
		}
		if f == nil {
			return none
		}
		b, err := f.Bundle(h.Name)
		if err != nil || b == nil {
			return none
		}
		return func(digest string) ([]byte, bool) {
			p, err := b.File(digest)
			return p, err == nil
		}
	}
}

// commitOf is the commit of the generation that a host holds, "" when that is not known.
func (a archive) commitOf(last history.Host) string {
	for _, g := range a.history.Generations(last.Name) {
		if g.Generation == last.Generation && g.Digest == last.Digest {
			return g.Commit
		}
	}
	return last.Commit
}

// keysAt opens the keys of the bundle that an open run was about.
func (a archive) keysAt(ctx context.Context, o history.Interrupted) func() (map[string][]byte, error) {
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

// formerKeys opens the keys that a host holds, where history remembers others than b has.
func (a archive) formerKeys(ctx context.Context, host string, b *fleet.Bundle) func() (map[string][]byte, error) {
	return func() (map[string][]byte, error) {
		last, known := a.history.Host(host)
		holdsB := b != nil && last.Digest == b.Digest
		if !known || !last.Had || holdsB {
			return nil, nil
		}
		m, _, err := a.history.Manifest(host)
		if err != nil {
			return nil, err
		}
		if m == nil || !hasOtherKeys(m, b) {
			return nil, nil
		}
		if a.At == nil {
			return nil, errors.New("no older commit can be had")
		}

		old, err := a.held(ctx, last)
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

// knownDigest is the digest that a host named, where it is one of a bundle that was made for
// this host, or one of also. Else it is "": what the host holds is not known.
func (a archive) knownDigest(f *fleet.Fleet, host string, named plain.Foreign, also ...string) string {
	h, _ := a.history.Host(host)
	known := append(also, h.Wanted, h.Digest)
	if hold := a.history.Holds().Of(host); hold != nil {
		known = append(known, hold.Digest)
	}
	for _, g := range a.history.Generations(host) {
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
