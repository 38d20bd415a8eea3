package host

import (
	"context"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/keyfiles"
	"bellhop/internal/host/nixsystem"
)

// preflightSystem finds what is wrong with the system that comes while nothing was touched.
func (r *run) preflightSystem(ctx context.Context) error {
	if r.w.System == nil {
		return nil
	}
	return nixsystem.Preflight(ctx, r.m.Machine, r.offer.Run, r.w.System)
}

func (r *run) systemText() string {
	return r.w.System.Action + " to " + r.w.System.Path
}

// system brings the NixOS system of the host. What it starts finds its keys in place.
func (r *run) system(ctx context.Context) error {
	judged := r.offer.Manifest.ServiceOf(bundle.SystemService)
	settle := judged.SettleTime()
	if r.m.Settle > 0 {
		settle = time.Duration(float64(settle) * float64(r.m.Settle) / float64(bundle.DefaultSettle))
	}

	a := &nixsystem.Activation{M: r.m.Machine, Run: r.offer.Run, Move: r.w.System, Settle: settle,
		Owners: keyfiles.Of(r.m).Owners(r.offer.Manifest.Keys)}
	report, err := a.Do(ctx)
	for _, warning := range a.Warnings {
		r.warn("%s", warning)
	}
	if err != nil {
		return err
	}
	if len(report.Failures) > 0 {
		return r.units.unhealthy(ctx, report)
	}
	return nil
}
