package host_test

import (
	"context"
	"testing"

	"bellhop/internal/bundle"
)

// resets notes whose start limits were cleared.
type resets struct {
	*box
	names []string
}

func (r *resets) ResetFailed(ctx context.Context, names []string) error {
	r.names = append(r.names, names...)
	return r.box.ResetFailed(ctx, names)
}

// systemd counts the starts of a unit within ten seconds, and those that a run asks for must not use
// them up: several pushes in a row would end in start-limit-hit.
func TestStartLimitsAreClearedBeforeARestart(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)

	r := &resets{box: b}
	b.m.Systemd = r
	b.deploy(bot("two"), bundle.OutcomeDone)
	wantList(t, "cleared", r.names, "bot.service")
}
