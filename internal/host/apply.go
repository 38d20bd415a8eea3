package host

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/blame"
	"bellhop/internal/host/check"
	"bellhop/internal/host/keyfiles"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/owned"
	"bellhop/internal/host/plan"
	"bellhop/internal/host/quadlets"
	"bellhop/internal/host/runs"
	"bellhop/internal/host/stacks"
	"bellhop/internal/host/stamps"
	"bellhop/internal/host/state"
)

// lockWait is how long Apply and Settle wait for whoever is at work, who is about to end.
const lockWait = 20 * time.Second

// retryTime is how long an undo that could not be ended rests before it is tried again: what is in
// its way, a full disk or a path that can't be written, does not pass in the blink of an eye.
const retryTime = 2 * time.Second

// A run is one apply at work.
type run struct {
	*task
	units units

	giveUp bool           // the host is given back: bellhop leaves whole
	begun  *state.Journal // as it was opened

	next      *state.Generation // what stands when the run is done, once that is known
	confirmed bool              // the deployer was told that the run stays
	written   stamps.Written    // files that it put in place
	stacks    []*stack          // compose projects that it touches
	quadlets  *quadlets.Images  // of those that it touches; nil until it pulls images
}

// retryPause is how long a process waits before it ends with what the next one tries again.
func retryPause(m state.Dir) time.Duration { return cmp.Or(m.RetryPause, retryTime) }

// Apply makes the machine hold what was staged under run; it is what bellhop-apply.service
// runs. What came of it stands in the run's result: Apply returns an error only when it could
// not even write that. Started again after it was killed, it finds the open journal and undoes.
func Apply(ctx context.Context, host *machine.Machine, id string) error {
	m := state.Of(host)
	if !check.RunName.MatchString(id) {
		return fmt.Errorf("run id %q", id)
	}

	unlock, err := m.Lock(lockWait)
	if err != nil {
		time.Sleep(retryPause(m)) // systemd starts it again: a disk that can't be written needs its time
		return err
	}
	defer unlock()

	if err := SettleLocked(ctx, m); err != nil {
		unlock()
		time.Sleep(retryPause(m)) // systemd starts it again, and others may look meanwhile
		return err
	}
	if res, err := m.Runs().Result(id); res != nil || err != nil {
		return err
	}

	err = apply(ctx, m, id)
	var heldUp *heldUpError
	if errors.As(err, &heldUp) {
		unlock()
		time.Sleep(retryPause(m))
	}

	return err
}

func apply(ctx context.Context, m state.Dir, id string) error {
	if err := m.Runs().Make(id); err != nil {
		return err
	}

	r := newRun(m, id)
	err := r.open(id)
	if err == nil && r.offer.Mode == bundle.ModeDeploy { // keys do not wait for an engine
		stacks.Settle(ctx, m, stacks.InRun)
	}
	if err == nil {
		err = r.preflight(ctx)
	}
	if err == nil && r.offer.Mode == bundle.ModeDeploy {
		err = r.whileAllRuns(ctx)
	}
	if err != nil && ctx.Err() != nil { // this process is to end: the next one goes on where it was
		return err
	}
	if err != nil {
		return r.refused(err)
	}
	if r.offer.Mode == bundle.ModeKeys {
		return r.putKeysBack(ctx)
	}

	return r.change(ctx)
}

func newRun(m state.Dir, id string) *run {
	t := &task{started: m.Now(), res: &bundle.Result{Run: id}}
	t.m = state.Of(m.Counting(&t.res.Fsyncs))
	return &run{task: t, units: units{task: t, failed: map[string]error{}}, written: stamps.Written{}}
}

func (r *run) open(id string) error {
	p, err := os.ReadFile(filepath.Join(r.m.At(state.StagingDir), id, "order"))
	if err != nil {
		return fmt.Errorf("what was staged for run %s: %w", id, err)
	}

	var o state.Order
	if err := json.Unmarshal(p, &o); err != nil {
		return err
	}

	r.offer, r.giveUp = o.Offer, o.GiveUp
	return nil
}

// preflight finds all that can be found wrong before anything is touched, and unpacks.
func (r *run) preflight(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()

	r.event("preflight", "")
	now, err := r.m.Current()
	if err != nil {
		return err
	}
	if err := state.CheckBase(&r.offer, now); err != nil {
		return err
	}
	if r.offer.Mode == bundle.ModeKeys {
		if r.w, err = plan.MakeForKeys(r.m, &r.offer, now, keyfiles.Of(r.m).Staged(r.offer.Run)); err == nil {
			r.w.WarnOfKeyPlace(ctx)
		}
		return err
	}
	if r.w, err = plan.Whole(ctx, r.m, &r.offer, now, keyfiles.Of(r.m).Staged(r.offer.Run), r.giveUp); err != nil {
		return err
	}

	r.offer = *r.w.Offer // without what is held
	r.w.WarnOfKeyPlace(ctx)
	for _, step := range []func(context.Context) error{r.prepare, r.checkQuadlets, r.rootless().Preflight} {
		if err := step(ctx); err != nil {
			return err
		}
	}

	if err := r.preflightSystem(ctx); err != nil {
		return err
	}

	r.m.Mark("preflight")
	return nil
}

// change is the order of a run. Whatever goes wrong after begin leads back to where it began.
func (r *run) change(ctx context.Context) error {
	if err := r.begin(); err != nil {
		return r.refused(err)
	}

	steps := []struct {
		name string
		do   func(context.Context) error
	}{
		{"stop", r.units.stop}, // while the unit files still stand
		{"keep", r.keep},
		{"accounts", r.doAccounts},
		{"files", r.files},
		{"tmpfiles", r.doTmpfiles},
		{"keys", r.placeKeys},
		{"reload", r.units.reload},
		{"system", r.system},
		{"start", r.start},
		{"health", r.health},
		{"applied", r.nothingMore},
		{"confirm", r.confirm},
		{"done", r.done},
	}

	for _, s := range steps {
		if s.name == "system" && r.w.System == nil {
			continue // on most hosts there is none
		}

		err := r.m.Note(state.JournalLine{Step: s.name}, false)
		if err == nil {
			if s.name != "confirm" { // which tells by itself that it waits
				r.event(s.name, r.text(s.name))
			}
			err = s.do(ctx)
		}

		switch {
		case err != nil && r.stays():
			return &heldUpError{r.offer.Run, err}
		case err != nil && ctx.Err() != nil: // this process is to end: whoever settles goes back
			return err
		case err != nil:
			return r.goBack(ctx, fmt.Errorf("%s: %w", s.name, err))
		}

		r.begun.Steps[s.name] = true
		r.m.Mark(s.name)
	}

	return r.tidy()
}

// text says to people what a step is about.
func (r *run) text(step string) string {
	u := &r.w.Units
	switch step {
	case "stop":
		return strings.Join(u.Stop, " ")
	case "files":
		return fmt.Sprintf("%d of %d", len(r.w.Puts), len(r.w.Next.Paths))
	case "keys":
		return fmt.Sprintf("%d of %d", len(r.w.Keys), len(r.offer.Manifest.Keys))
	case "system":
		return r.systemText()
	case "start":
		return strings.Join(slices.Concat(u.Restart, u.Reload, u.Start, u.Back), " ")
	}

	return ""
}

// nothingMore is a step that is only a line in the journal.
func (r *run) nothingMore(context.Context) error { return nil }

// replaced is told of each path that the run replaced.
func (r *run) replaced(path string, is owned.Stamp) {
	r.written.Note(path, is)
	r.renamed(path)
}

func (r *run) renamed(path string) { r.m.Mark("renamed " + path) }

// prepare brings every byte that the run needs into the stores.
func (r *run) prepare(ctx context.Context) error {
	for _, p := range r.offer.Manifest.Packages {
		notes, err := r.m.Packages().Unpack(p, r.m.Staged(r.offer.Run, p.Digest))
		if err != nil {
			return check.RefuseServices([]string{p.Service}, err)
		}

		r.w.Warnings = append(r.w.Warnings, notes...)
	}

	for _, f := range r.offer.Manifest.Files {
		if r.w.Holds(f.Service) {
			continue
		}
		if err := r.bring(ctx, f.Digest, f.Path, f.Size); err != nil {
			return err
		}
	}

	for i, p := range r.w.Puts {
		if p.Want.Kind != owned.File {
			continue
		}
		if err := r.bring(ctx, p.Want.Digest, p.Path, owned.MaxUnknown); err != nil {
			if _, wanted := r.w.Next.Paths[p.Path]; wanted {
				return err
			}

			r.w.Warnings = append(r.w.Warnings, fmt.Sprintf("what stood at %s before bellhop is lost", p.Path))
			r.w.Puts[i].Want = owned.Entry{}
		}
	}

	return nil
}

// bring makes sure that the blob store has digest: from what was staged, from bellhop's own
// units, or from where it stands already, no more than size bytes of it.
func (r *run) bring(ctx context.Context, digest, path string, size int64) error {
	if r.m.Blobs().Has(digest) {
		return nil
	}
	if p, ok := r.w.Own[digest]; ok {
		return os.WriteFile(r.m.Blobs().Path(digest), p, 0o600)
	}
	if os.Rename(r.m.Staged(r.offer.Run, digest), r.m.Blobs().Path(digest)) == nil && r.m.Blobs().Has(digest) {
		return nil
	}
	if got, err := r.m.Blobs().Keep(ctx, path, size); err != nil || got != digest {
		return fmt.Errorf("the bytes of %s did not come", path)
	}

	return nil
}

func (r *run) begin() error {
	boot, err := r.m.BootID()
	if err != nil {
		return err
	}
	if err := r.m.Runs().Reserve(r.offer.Run, runs.ReserveSize); err != nil {
		return fmt.Errorf("make room for the record in %s: %w", bundle.StateDir, err)
	}

	r.begun = &state.Journal{Run: r.offer.Run, BootID: boot, Started: r.started.UnixMilli(), Puts: r.w.Puts, Steps: map[string]bool{},
		Dirs: r.w.Dirs, Accounts: r.w.Accounts, Keys: r.w.Keys, Units: r.w.Units.Now, Reload: r.w.Reload(), Made: r.w.Making, System: r.w.System, Stacks: r.stacksWere(), Quadlets: r.quadlets.Were()}
	if err = r.m.OpenJournal(r.begun); err != nil {
		r.m.Runs().Release(r.offer.Run)
		return errors.Join(err, r.m.CloseJournal()) // it may be there, and not be synced
	}

	r.event("begin", "")
	r.m.Mark("begin")
	return nil
}

// keep stores what will be replaced. The journal has its digest already; only what the stop
// of a service changed since is noted anew.
func (r *run) keep(ctx context.Context) error {
	var digests []string
	in := r.m.Tree().Looker(ctx)
	defer in.Close()

	for i := range r.w.Puts {
		p := &r.w.Puts[i]
		if r.w.Cleared[p.Path] {
			continue // a folder, which the run removes when it is empty
		}

		digest, err := r.keepOne(ctx, in, p)
		if err != nil {
			return r.ofPath(err)
		}
		if digest != "" {
			digests = append(digests, digest)
		}
	}

	slices.Sort(digests)
	return r.m.Blobs().Sync(slices.Compact(digests))
}

// keepOne stores what stands at the path of p, and returns the digest of its blob.
func (r *run) keepOne(ctx context.Context, in *owned.Looker, p *owned.Change) (string, error) {
	var is owned.Sight
	if r.w.LeavingAbove[p.Path] == "" {
		var err error
		if is, err = in.Look(p.Path, r.m.Blobs().Size(p.Was.Digest)); err != nil {
			return "", &owned.ChangeError{Path: p.Path, Err: err}
		}
	}
	if is.Kind == owned.Foreign {
		return "", r.duePath(p.Path, fmt.Errorf("%s became a folder, or a very large file, meanwhile", p.Path))
	}
	if is.Unread() { // what bellhop had there is what comes back
		if p.Was.Kind == owned.File && !r.m.Blobs().Has(p.Was.Digest) {
			return "", r.duePath(p.Path, fmt.Errorf("%s became too large to be kept", p.Path))
		}
		return p.Was.Digest, nil
	}
	if is.Entry != p.Was {
		r.changedMeanwhile(p, is)
		if err := r.m.Note(state.JournalLine{Put: p}, true); err != nil {
			return "", err
		}
	}
	if is.Kind != owned.File {
		return "", nil
	}
	if !r.m.Blobs().Has(is.Digest) {
		if got, err := r.m.Blobs().Keep(ctx, p.Path, bundle.MaxBlob); err != nil || got != is.Digest {
			return "", errors.Join(err, fmt.Errorf("%s keeps changing", p.Path))
		}
	}

	return is.Digest, nil
}

func (r *run) changedMeanwhile(p *owned.Change, is owned.Sight) {
	if o, ok := r.w.Next.Paths[p.Path]; ok && o.Original == p.Was {
		o.Original = is.Back()
		r.w.Next.Paths[p.Path] = o
	}
	r.w.EditedMeanwhile(p.Path, is.Entry)
	p.Was, p.Shared = is.Entry, is.Shared
}

func (r *run) files(context.Context) error {
	if err := r.m.ReplaceFiles(without(r.w.Puts, r.early()), r.replaced); err != nil {
		return r.ofPath(err)
	}

	emptied := r.w.Emptied()
	stay := r.m.Tree().RemoveFolders(emptied)
	r.w.Next.Dirs = slices.DeleteFunc(r.w.Next.Dirs, func(d string) bool {
		return slices.Contains(emptied, d) && !slices.Contains(stay, d)
	})
	return nil
}

// ofPath makes an error about one path due to the service that the path belongs to.
func (r *run) ofPath(err error) error {
	var at *owned.ChangeError
	if !errors.As(err, &at) || !at.IsOfPath() {
		return err
	}

	return r.duePath(at.Path, err)
}

// duePath is err, due to the service that the path belongs to.
func (r *run) duePath(path string, err error) error {
	service := r.w.ServiceAt(path)
	if service == "" {
		return err
	}

	return &blame.Error{Err: err, Services: []string{service}}
}

func (r *run) placeKeys(ctx context.Context) error {
	return keyfiles.Of(r.m).Place(ctx, &r.offer, r.w.Keys, r.renamed)
}
