package host

import (
	"context"
	"fmt"
	"os"

	"bellhop/internal/bundle"
)

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
		if v < bundle.SealingSystemd {
			return refuse(bundle.RefusedBundle, "key %s: persist: sealed needs systemd %d, and this host has %d", k.Name, bundle.SealingSystemd, v)
		}
		return nil
	}
	return nil
}

// tellPlace warns of a host that keeps keys on a tmpfs, which the kernel may write to swap.
func (w *plan) tellPlace(ctx context.Context) {
	if len(w.offer.Manifest.Keys) == 0 {
		return
	}
	kind, err := w.m.Mounts.Keys(ctx)
	if err == nil {
		w.tellOpen(w.m.Mounts.Open())
	}
	switch {
	case err != nil || kind == "ramfs":
	case w.m.Mounts.SwapClear():
		w.warnings = append(w.warnings, fmt.Sprintf("keys stand on a %s, since this host refuses a ramfs, and it swaps unencrypted: a key may reach its disk", kind))
	default:
		w.warnings = append(w.warnings, fmt.Sprintf("keys stand on a %s, since this host refuses a ramfs; no unencrypted swap is on", kind))
	}
}

// openPath is there while people have been told that others can write to the place for keys.
const openPath = bundle.StateDir + "/keys-open"

// tellOpen warns, once, of a place for keys that can't be made read-only: a service could fill it.
func (w *plan) tellOpen(why error) {
	at := w.m.at(openPath)
	if why == nil {
		os.Remove(at)
		return
	}
	f, err := os.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return // they know, or nothing can be remembered
	}
	f.Close()
	w.warnings = append(w.warnings, fmt.Sprintf("%s can't be kept read-only between pushes, so a service can fill it through a key that is its user's: %v", bundle.KeyDir, why))
}
