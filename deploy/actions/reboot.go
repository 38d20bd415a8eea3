package actions

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bellhop/deploy/commits"
	"bellhop/deploy/contact"
	"bellhop/deploy/keys"
	"bellhop/deploy/routes"
	"bellhop/internal/link"
	"bellhop/internal/plain"
	"bellhop/internal/push"
)

// Reboot reboots a host and waits until it is back with its keys, at most limit (0: 10 min).
// report hears what happens.
func Reboot(ctx context.Context, d keys.Keys, host string, limit time.Duration, report func(string)) error {
	if limit <= 0 {
		limit = 10 * time.Minute
	}

	f, err := d.Load(ctx)
	if err != nil {
		return err
	}

	h, ok := f.Host(host)
	if !ok {
		return fmt.Errorf("reboot %s: no such host", host)
	}

	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it is not back in %v", limit))
	defer cancel()
	t := routes.To(f, h, commits.ArchOf(d.History, host), true)
	if err := (&rebooting{d, t, report}).run(ctx); err != nil {
		b, _ := f.Bundle(host)
		return fmt.Errorf("reboot %s: %w", host, contact.AsText(err, d.Reveal(ctx, err, host, b)))
	}
	return nil
}

// A rebooting is one reboot of a host, under way.
type rebooting struct {
	d      keys.Keys
	target link.Target
	report func(string)
}

// rebootLine goes to systemd's queue and returns, so that the answer comes before the end.
const rebootLine = "systemctl --no-block reboot"

func (r *rebooting) run(ctx context.Context) error {
	was, err := r.bootID(ctx)
	if err != nil {
		return err
	}

	began := time.Now()
	code, err := r.d.Links.Exec(ctx, r.target, rebootLine)
	if err != nil && !errors.Is(err, link.ErrLost) { // losing the line is what was asked for
		return err
	}

	if err == nil && code != 0 {
		return fmt.Errorf("%q ended with %d", rebootLine, code)
	}

	r.report("rebooting")
	for {
		if !pause(ctx, 2*time.Second) {
			return context.Cause(ctx)
		}
		now, err := r.bootID(ctx)
		if link.HardStop(err) {
			return err
		}
		if err == nil && !now.IsEmpty() && !now.Equal(was) {
			break
		}
	}

	r.report(fmt.Sprintf("back after %v", time.Since(began).Round(time.Second)))
	if h, ok := r.d.History.Host(r.target.Name); !ok || !h.HasKeys() {
		return nil
	}
	return r.pushKeys(ctx)
}

// bootID reads a host's boot id whole, by the helper's own hello.
func (r *rebooting) bootID(ctx context.Context) (plain.Foreign, error) {
	s, err := r.d.Pusher().Open(ctx, r.target, 0)
	if err != nil {
		return plain.Foreign{}, err
	}
	defer s.Close()
	return s.Hello.BootID, nil
}

// pushKeys puts the keys back: early in a boot that may take a few tries.
func (r *rebooting) pushKeys(ctx context.Context) error {
	for {
		_, err := r.d.Heal(ctx, r.target.Name, r.target, true)
		if err == nil {
			h, _ := r.d.History.Host(r.target.Name)
			r.report(fmt.Sprintf("%d of %d keys stand", h.KeysPresent, h.KeysExpected))
			return nil
		}
		if !push.Passes(err) || !pause(ctx, r.d.Retry) {
			return fmt.Errorf("put its keys back: %w", err)
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
