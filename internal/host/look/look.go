// Package look reads a host between runs, and changes nothing on it.
//
// It compares everything that the host's record says bellhop owns with what is there: files, links, folders,
// packages, units, accounts and keys. It tells which units failed, and whether the host wants a reboot. A
// person who edits a host by hand sees that in what Host returns; a run puts it back, a look never does.
//
// The words: drift is one thing that differs from what bellhop put in place. A stamp is what a file is known
// by again without being read.
//
// The promise: a look takes no lock, waits for no run, and no file is read that has the stamp which it had
// when bellhop wrote it. A path is walked as a run walks it, so no planted link is followed. The value of a
// key does not leave the host.
package look

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"bellhop/internal/bundle"
	"bellhop/internal/host/confirm"
	"bellhop/internal/host/state"
)

// maxTries is how often a look is begun again when a run began or ended meanwhile.
const maxTries = 3

// Host looks at the host whose state directory m is. It returns an error where the record can't be read,
// systemd does not answer, or more is asked for than a look brings.
func Host(ctx context.Context, m state.Dir, ask bundle.Look) (*bundle.Seen, error) {
	if len(ask.Contents) > bundle.MaxLookPaths {
		return nil, fmt.Errorf("the bytes of %d files are wanted, and one look brings those of %d", len(ask.Contents), bundle.MaxLookPaths)
	}

	boot, err := m.BootID()
	if err != nil {
		return nil, err
	}

	for range maxTries {
		b, err := basisOf(m)
		if err != nil {
			return nil, err
		}
		s := &bundle.Seen{BootID: boot, Working: b.working}
		s.RebootReason = rebootReason(m)
		s.RebootRequired = s.RebootReason != ""
		if b.working {
			break
		}

		l := &looker{ctx: ctx, m: m, ask: ask, now: b.now, seen: s, room: maxDriftText}
		if err := l.everything(); err != nil {
			return nil, err
		}
		if b.stands(m) {
			return s, nil
		}
	}

	reason := rebootReason(m)
	return &bundle.Seen{BootID: boot, Working: true, RebootReason: reason, RebootRequired: reason != ""}, nil
}

// A basis is what a host is compared with.
type basis struct {
	now     state.Generation
	open    string      // the run that is applied, and waits to be confirmed
	record  os.FileInfo // of the record; nil when there is none
	working bool        // a run is at work
}

// stands says that no run began or ended since b was read.
func (b basis) stands(m state.Dir) bool {
	record, err := os.Stat(m.At(bundle.RecordPath))
	sameRecord := err != nil && b.record == nil
	if err == nil && b.record != nil {
		sameRecord = os.SameFile(record, b.record) && record.ModTime().Equal(b.record.ModTime())
	}

	j, err := m.ReadJournal()
	if err != nil || !sameRecord {
		return false
	}
	if b.open == "" {
		return j == nil || j.Run == b.now.Run
	}
	return j != nil && j.Run == b.open && confirm.Waits(m.Runs().Folder(b.open))
}

// basisOf reads what the host should hold at this moment: while a run waits to be confirmed, what that run
// has put in place.
func basisOf(m state.Dir) (basis, error) {
	j, err := m.ReadJournal()
	if err != nil {
		return basis{}, err
	}
	record, err := os.Stat(m.At(bundle.RecordPath))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return basis{}, err
	}
	now, err := m.Current()
	if err != nil {
		return basis{}, err
	}

	switch {
	case now.GaveUp:
		return basis{record: record}, nil // the host was given back
	case j == nil || j.Run == now.Run:
		return basis{now: now, record: record}, nil
	case !confirm.Waits(m.Runs().Folder(j.Run)):
		return basis{working: true}, nil
	}

	next, err := m.Next(j.Run)
	if errors.Is(err, state.ErrNextLost) {
		return basis{working: true}, nil // it ended, or goes back, just now
	}
	return basis{now: next, open: j.Run, record: record}, err
}

// maxDriftText is how many bytes of text the drift of one look has.
const maxDriftText = 200 << 10

// A looker is one look at work.
type looker struct {
	ctx  context.Context
	m    state.Dir
	ask  bundle.Look
	now  state.Generation // that the host is compared with
	seen *bundle.Seen
	room int             // bytes of text that drift may still have
	gone map[string]bool // paths that are missing

	stoppedByUndo state.UnitsStoppedByUndo // units that a run which was undone left so
}

func (l *looker) everything() error {
	if !l.now.Exists {
		return l.contents()
	}

	l.seen.Generation = l.now.Generation
	for _, step := range []func() error{l.paths, l.units, l.stacks, l.accounts, l.keys, l.system, l.contents} {
		if err := step(); err != nil {
			return err
		}
		if err := l.ctx.Err(); err != nil {
			return err
		}
	}

	slices.SortFunc(l.seen.Drift, func(a, b bundle.Drift) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.What, b.What), cmp.Compare(a.Is, b.Is))
	})
	return nil
}

// drift notes a thing that differs.
func (l *looker) drift(kind, name, what string) {
	l.differs(bundle.Drift{Kind: kind, Name: name, What: what})
}

// differs notes a thing that differs, with how it should be and how it is.
func (l *looker) differs(d bundle.Drift) {
	const longest = 256 // bytes of Want and Is
	d.Want, d.Is = d.Want[:min(len(d.Want), longest)], d.Is[:min(len(d.Is), longest)]

	size := len(d.Kind) + len(d.Name) + len(d.What) + len(d.Want) + len(d.Is)
	if len(l.seen.Drift) == bundle.MaxDrift || size > l.room {
		l.seen.DriftMore++
		return
	}

	l.room -= size
	l.seen.Drift = append(l.seen.Drift, d)
}
