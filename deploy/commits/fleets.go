package commits

import (
	"context"
	"fmt"

	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/history/stops"
	"bellhop/internal/plain"
)

// A Fleets reads older commits, each once.
type Fleets struct {
	Archive
	read map[reading]*fleet.Fleet
}

// NewFleets reads the commits of a.
func NewFleets(a Archive) *Fleets {
	return &Fleets{Archive: a, read: map[reading]*fleet.Fleet{}}
}

// A reading names a reading of a commit. former: as the release before read it.
type reading struct {
	commit string
	former bool
}

// OfHold makes the bundle again that a hold names.
func (f *Fleets) OfHold(ctx context.Context, host string, hold *stops.Hold) (*fleet.Bundle, error) {
	if f.At == nil || hold.Commit == "" {
		return nil, fmt.Errorf("the commit of bundle %s is not known any more", plain.Short(hold.Digest))
	}
	if len(hold.Origins) > 0 {
		b, err := f.ComposedAt(ctx, host, history.Generation{Digest: hold.Digest, Commit: hold.Commit, Origins: hold.Origins})
		return sameBundle(b, err, host, hold)
	}

	var tried error
	for _, former := range []bool{false, true} {
		b, err := f.whole(ctx, host, reading{hold.Commit, former})
		if b, err = sameBundle(b, err, host, hold); err == nil {
			return b, nil
		}
		if tried == nil {
			tried = err
		}
	}

	return nil, tried
}

// sameBundle is b as that of the host, where it is the one that the hold names.
func sameBundle(b *fleet.Bundle, err error, host string, hold *stops.Hold) (*fleet.Bundle, error) {
	if err != nil {
		return nil, fmt.Errorf("make what it held again from commit %s: %w", plain.Short(hold.Commit), err)
	}
	b, isSame := asDeployed(b, func(digest string) bool { return digest == hold.Digest })
	if !isSame {
		return nil, fmt.Errorf("commit %s makes another bundle of it today than it did then", plain.Short(hold.Commit))
	}
	return b.As(host), nil
}

// whole is a host's bundle by a reading of a commit.
func (f *Fleets) whole(ctx context.Context, host string, of reading) (*fleet.Bundle, error) {
	past := f.read[of]
	if past == nil {
		snap, err := f.At(ctx, of.commit)
		if err != nil {
			return nil, err
		}
		l := f.Loader.Fresh()
		l.Arch, l.Former = f.arch, of.former
		if past, err = l.Load(ctx, snap.Tree); err != nil {
			return nil, err
		}
		f.read[of] = past
	}

	return f.wholeIn(past, of.commit, host)
}
