package drift

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/pmezard/go-difflib/difflib"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/history/looks"
	"bellhop/internal/plain"
	"bellhop/internal/push"
	"bellhop/internal/textdiff"
)

// A Request asks chosen hosts what differs there.
type Request struct {
	On     string `json:"on,omitempty"`     // hosts, as people choose them; "" is all
	Verify bool   `json:"verify,omitempty"` // read every file, also one that looks as it was written
	Diff   bool   `json:"diff,omitempty"`   // bring what was edited in files
}

// HostDrift is what differs on one host from what bellhop put in place. Its JSON is a contract.
type HostDrift struct {
	Name string `json:"name"`
	// State is ok where the host was looked at; else away, working (a run is at work there), unknown (its
	// helper is of a release that can't look), never (nothing was deployed there) or failed, and what follows is empty.
	State          string             `json:"state"`
	Error          *string            `json:"error"`
	Generation     *int64             `json:"generation"`
	Drift          []Difference       `json:"drift"`
	More           int                `json:"more"` // that are not listed
	Failed         []looks.FailedUnit `json:"failed"`
	KeysMissing    []string           `json:"keys_missing"`
	RebootRequired bool               `json:"reboot_required"`
	RebootReason   *string            `json:"reboot_reason"`
}

// A Difference is one path, unit, account or key that is not as it was deployed.
type Difference struct {
	Kind string  `json:"kind"`
	Name string  `json:"name"`
	What string  `json:"what"`
	Want *string `json:"want"` // of modes, owners, targets, groups and homes; null for others
	Is   *string `json:"is"`
	Diff *string `json:"diff"` // unified, of a file that changed, from what bellhop put there to what is there; null when it was not asked for
	Why  *string `json:"why"`  // why there is no diff
}

// States of a HostDrift.
const (
	OK      = "ok"
	Away    = "away"
	Working = "working"
	Unknown = "unknown"
	Never   = "never"
	Failed  = "failed"
)

// Differs says whether something on the host is not as it should be.
func (h HostDrift) Differs() bool { return len(h.Drift)+h.More+len(h.KeysMissing) > 0 }

// Drift asks the chosen hosts now what differs there, one session each, and with Diff one more where a
// file was edited. What came of a host is in its HostDrift.
func (l Looker) Drift(ctx context.Context, req Request) ([]HostDrift, error) {
	f, err := l.Load(ctx)
	if err != nil {
		return nil, err
	}
	hosts, err := f.Select(req.On)
	if err != nil {
		return nil, fmt.Errorf("choose hosts by %q: %w", req.On, err)
	}

	all := make([]HostDrift, len(hosts))
	places := make(chan struct{}, lookParallel)
	var looks sync.WaitGroup
	for i, h := range hosts {
		looks.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			all[i] = l.driftOf(ctx, f, h, req)
		})
	}

	looks.Wait()
	return all, nil
}

func (l Looker) driftOf(ctx context.Context, f *fleet.Fleet, h *fleet.Host, req Request) HostDrift {
	out := HostDrift{Name: h.Name, State: Never, Drift: []Difference{}, Failed: []looks.FailedUnit{}, KeysMissing: []string{}}
	if last, _ := l.History.Host(h.Name); !last.Had {
		return out
	}

	ctx, cancel := context.WithTimeoutCause(ctx, l.Limit, push.ErrDeadline)
	defer cancel()
	found, err := l.at(ctx, f, h, bundle.Look{Verify: req.Verify})
	if err != nil {
		out.State, out.Error = driftState(err), some(l.why(ctx, err, f, h))
		return out
	}

	out.take(found.seen)
	if req.Diff && out.State == OK {
		l.diffs(ctx, f, h, &out)
	}

	return out
}

// driftState is the state of a host that could not be looked at.
func driftState(err error) string {
	switch {
	case errors.Is(err, errWanted):
		return Working
	case push.IsAway(err):
		return Away
	}
	return Failed
}

// why is the text of an error of a look.
func (l Looker) why(ctx context.Context, err error, f *fleet.Fleet, h *fleet.Host) string {
	b, _ := f.Bundle(h.Name)
	return l.Reveal(ctx, err, h.Name, b)
}

// take fills in what a look saw; nil says that the helper can't look.
func (h *HostDrift) take(seen *bundle.Seen) {
	switch {
	case seen == nil:
		h.State, h.Error = Unknown, some(push.ErrCannotLook.Error())
		return
	case seen.Working:
		h.State, h.Error = Working, some(errWanted.Error())
		return
	}

	h.State, h.More = OK, seen.DriftMore
	h.RebootRequired, h.RebootReason = seen.RebootRequired, some(seen.RebootReason)
	h.KeysMissing = append(h.KeysMissing, seen.KeysMissing...)
	if seen.Generation > 0 {
		h.Generation = &seen.Generation
	}
	for _, u := range seen.FailedUnits {
		h.Failed = append(h.Failed, failedUnit(u))
	}
	for _, one := range seen.Drift {
		h.Drift = append(h.Drift, Difference{Kind: one.Kind, Name: one.Name, What: one.What, Want: some(one.Want), Is: some(one.Is)})
	}
}

// diffs adds what was edited in files, of as many as one look brings.
func (l Looker) diffs(ctx context.Context, f *fleet.Fleet, h *fleet.Host, out *HostDrift) {
	edited := map[string]*Difference{}
	var paths []string
	for i := range out.Drift {
		one := &out.Drift[i]
		isEdited := one.Kind == bundle.KindFile && one.What == bundle.DriftChanged
		if isEdited && len(paths) < bundle.MaxLookPaths {
			paths, edited[one.Name] = append(paths, one.Name), one
		} else if isEdited {
			one.Why = some(fmt.Sprintf("only the first %d files are compared", bundle.MaxLookPaths))
		}
	}

	if len(paths) == 0 {
		return
	}

	was, is, err := l.bytesOf(ctx, f, h, paths)
	for i, p := range paths {
		one := edited[p]
		if err != nil {
			one.Why = some(l.why(ctx, err, f, h))
			continue
		}
		diff, why := diffOf(p, p, was(p), is[i])
		one.Diff, one.Why = some(shownDiff(diff)), some(why)
	}
}

// bytesOf brings files of a host: what bellhop put there, nil where that can't be had, and what is there
// now, in the order of paths.
func (l Looker) bytesOf(ctx context.Context, f *fleet.Fleet, h *fleet.Host, paths []string) (was func(path string) []byte, is []bundle.Content, err error) {
	found, err := l.at(ctx, f, h, bundle.Look{Contents: paths})
	switch {
	case err != nil:
		return nil, nil, err
	case found.seen == nil:
		return nil, nil, push.ErrCannotLook
	case found.seen.Working:
		return nil, nil, errWanted
	case len(found.seen.Contents) != len(paths):
		return nil, nil, errors.New("the host sent none of them")
	}

	was = func(path string) []byte {
		if found.bundle == nil {
			return nil
		}
		one, ok := found.bundle.Manifest.FileAt(path)
		if !ok {
			return nil
		}
		data, err := found.bundle.File(one.Digest)
		if err != nil {
			return nil
		}
		return append([]byte{}, data...)
	}

	return was, found.seen.Contents, nil
}

// diffOf is the unified diff of a file as bellhop put it there and as it is, or why there is none.
func diffOf(from, to string, was []byte, is bundle.Content) (diff, why string) {
	switch {
	case is.Why != "":
		return "", shown(is.Why)
	case was == nil:
		return "", "what bellhop put there can't be had from the repo any more"
	case !textdiff.IsText(was) || !textdiff.IsText(is.Bytes):
		return "", fmt.Sprintf("it is no text: %d bytes, were %d", len(is.Bytes), len(was))
	}

	before, after := textdiff.Lines(was), textdiff.Lines(is.Bytes)
	if len(before)+len(after) > textdiff.MaxLines {
		return "", fmt.Sprintf("it is too long to compare: %d lines, were %d", len(after), len(before))
	}
	diff, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{A: before, B: after, FromFile: from, ToFile: to, Context: 3})
	if err != nil {
		return "", err.Error()
	}

	return diff, ""
}

// shownDiff is a diff with each line fit to be shown.
func shownDiff(diff string) string {
	var b strings.Builder
	for l := range strings.SplitAfterSeq(diff, "\n") {
		if l != "" {
			b.WriteString(plain.Text(strings.TrimSuffix(l, "\n"), 4096) + "\n")
		}
	}

	return b.String()
}

// some is s for JSON, null where it is "".
func some(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
