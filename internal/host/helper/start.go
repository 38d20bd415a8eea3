package helper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host"
	"bellhop/internal/host/check"
	"bellhop/internal/host/keyfiles"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/state"
)

// begin hands the run over to its unit. st is what was brought, nil for nothing. An error says
// that the unit did not begin it.
func (s *session) begin(ctx context.Context, o state.Order, st *stage) error {
	end, err := s.m.Claim(s.at, st == nil)
	if err != nil {
		return err
	}
	defer end()

	if err := s.first(&o.Offer); err != nil { // again: it took its time
		return err
	}
	if st != nil {
		if err := handOver(s.m, st.id, o.Run); err != nil {
			return err
		}
	}
	if st == nil { // nothing was staged, and the order needs a keeper until its unit has the lock
		if err := s.keep(o.Run); err != nil {
			return err
		}
	}
	if err := s.start(ctx, o); err != nil {
		s.m.Unstage(o.Run)
		keyfiles.Of(s.m).Drop(o.Run, nil)
		if errors.Is(err, machine.ErrBusy) {
			return check.Refuse(bundle.RefusedBusy, "%w", err)
		}
		return err
	}

	return nil
}

// keep holds the staging folder of a run as a stage does, while the session lives: no other sweeps it.
func (s *session) keep(run string) error {
	dir := filepath.Join(s.m.At(state.StagingDir), run)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}

	f, err := os.Open(dir)
	if err != nil {
		return err
	}

	s.kept = f
	_, err = state.Flock(f, 0)
	return err
}

// start writes the order of a run and starts its unit.
func (s *session) start(ctx context.Context, o state.Order) error {
	p, err := json.Marshal(o)
	if err != nil {
		return err
	}

	dir := filepath.Join(s.m.At(state.StagingDir), o.Run)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "order"), p, 0o600); err != nil {
		return err
	}
	if err := os.RemoveAll(s.m.Runs().Folder(o.Run)); err != nil { // of a refusal, after which the run may try again
		return err
	}
	if err := s.m.Runs().Make(o.Run); err != nil {
		return err
	}

	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()

	if err := s.startApply(ctx, o.Run); err != nil {
		return fmt.Errorf("start %s: %w", bundle.ApplyUnit, err)
	}

	return nil
}

// startApply starts the unit. The one before it may have done its work, and not yet be
// collected by systemd: then the lock is free, and a moment later the name is. Another session
// holds the lock for a moment too, to look whether there is anything to settle.
func (s *session) startApply(ctx context.Context, run string) error {
	for end := time.Now().Add(2 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := s.m.Systemd.StartApply(ctx, run)
		if !errors.Is(err, machine.ErrBusy) || time.Now().After(end) {
			return err
		}

		unlock, locked := s.m.Lock(momentary)
		if locked != nil {
			return err
		}

		unlock()
	}
}

// quick answers an offer that changes nothing, under the lock. nil means that there is work.
func (s *session) quick(ctx context.Context, o *bundle.Offer, id string) (*bundle.Result, error) {
	end, err := s.m.Claim(s.at, false)
	if err != nil {
		return nil, err
	}
	defer end()

	unlock, err := s.m.Lock(momentary)
	if errors.Is(err, machine.ErrBusy) {
		return nil, check.Refuse(bundle.RefusedBusy, "%w", err)
	}
	if err != nil {
		return nil, err
	}
	defer unlock()

	now, err := s.current()
	if err != nil {
		return nil, err
	}

	return host.Unchanged(ctx, s.m, o, now, id)
}
