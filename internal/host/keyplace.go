package host

import (
	"context"
	"fmt"

	"bellhop/internal/bundle"
)

// sealing is the first systemd with systemd-creds, which persist: sealed stands on.
const sealing = 250

// checkSealing refuses keys that this host's systemd can't seal, before anything is sent.
func (m *Machine) checkSealing(ctx context.Context, o *bundle.Offer) error {
	for _, k := range o.Manifest.Keys {
		if !k.Seal {
			continue
		}
		v, err := m.Systemd.Version(ctx)
		if err != nil {
			return fmt.Errorf("ask systemd: %w", err)
		}
		if v < sealing {
			return refuse(bundle.RefusedBundle, "key %s: persist: sealed needs systemd %d, and this host has %d", k.Name, sealing, v)
		}
		return nil
	}
	return nil
}

// tellPlace warns of a host that keeps keys on a tmpfs, which the kernel may write to swap.
func (w *work) tellPlace(ctx context.Context) {
	if len(w.offer.Manifest.Keys) == 0 {
		return
	}
	kind, err := w.m.Mounts.Keys(ctx)
	switch {
	case err != nil || kind == "ramfs":
	case w.m.Mounts.SwapClear():
		w.warnings = append(w.warnings, fmt.Sprintf("keys stand on a %s, since this host refuses a ramfs, and it swaps unencrypted: a key may reach its disk", kind))
	default:
		w.warnings = append(w.warnings, fmt.Sprintf("keys stand on a %s, since this host refuses a ramfs; no unencrypted swap is on", kind))
	}
}
