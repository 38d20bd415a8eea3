package plan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"bellhop/internal/bundle"
	"bellhop/internal/host/check"
	"bellhop/internal/host/keyfiles"
	"bellhop/internal/host/state"
)

// CheckSealing refuses keys that this host's systemd can't seal, before anything is sent.
func CheckSealing(ctx context.Context, m state.Dir, o *bundle.Offer) error {
	for _, k := range o.Manifest.Keys {
		if !k.Seal {
			continue
		}

		v, err := m.Systemd.Version(ctx)
		if err != nil {
			return fmt.Errorf("ask systemd: %w", err)
		}
		if v < bundle.SealingSystemd {
			return refuseSealed(o.Manifest.Keys, v)
		}

		return nil
	}
	return nil
}

// refuseSealed refuses the services of the keys that a host with that systemd can't seal.
func refuseSealed(keys []bundle.Key, version int) error {
	var names []string
	var errs []error
	for _, k := range keys {
		if k.Seal {
			names = append(names, k.Service)
			errs = append(errs, fmt.Errorf("key %s: persist: sealed needs systemd %d, and this host has %d", k.Name, bundle.SealingSystemd, version))
		}
	}

	slices.Sort(names)
	return check.RefuseServices(slices.Compact(names), errors.Join(errs...))
}

// WarnOfKeyPlace warns of a host that keeps keys on a tmpfs, which the kernel may write to swap.
func (w *Plan) WarnOfKeyPlace(ctx context.Context) {
	if len(w.Offer.Manifest.Keys) == 0 {
		return
	}

	kind, err := w.m.Mounts.Keys(ctx)
	if err == nil {
		w.warnOfOpenPlace(w.m.Mounts.Open())
	}

	switch {
	case err != nil || kind == "ramfs":
	case w.m.Mounts.SwapClear():
		w.Warnings = append(w.Warnings, fmt.Sprintf("keys stand on a %s, since this host refuses a ramfs, and it swaps unencrypted: a key may reach its disk", kind))
	default:
		w.Warnings = append(w.Warnings, fmt.Sprintf("keys stand on a %s, since this host refuses a ramfs; no unencrypted swap is on", kind))
	}
}

// openPath is there while people have been told that others can write to the place for keys.
const openPath = bundle.StateDir + "/keys-open"

// warnOfOpenPlace warns, once, of a place for keys that can't be made read-only: a service could fill it.
func (w *Plan) warnOfOpenPlace(why error) {
	at := w.m.At(openPath)
	if why == nil {
		os.Remove(at)
		return
	}

	f, err := os.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return // they know, or nothing can be remembered
	}

	f.Close()
	w.Warnings = append(w.Warnings, fmt.Sprintf("%s can't be kept read-only between pushes, so a service can fill it through a key that is its user's: %v", bundle.KeyDir, why))
}

// planKeys finds what changes. Every key of the manifest must be there as wanted, or have come.
func (w *Plan) planKeys(staged func(string) bool) error {
	paths := map[string]bool{}
	l := keyfiles.Of(w.m).Reader()
	defer l.Close()

	for _, k := range w.Offer.Manifest.Keys {
		paths[k.Path] = true
		stays := w.Holds(k.Service) && !w.isHeldBack(k.Service)
		if stays {
			continue
		}

		is, err := l.InPlace(k)
		if err != nil {
			return err
		}
		if staged(k.Name) {
			w.Keys = append(w.Keys, l.Move(k, true))
			if !is || !keyfiles.Of(w.m).SameValue(keyfiles.NewFolder(w.Offer.Run)+"/"+keyfiles.FileName(k.Name), k.Path) {
				w.Changed[bundle.KindKey+":"+k.Name] = true
			}
		} else if !is {
			return check.Refuse(bundle.RefusedBundle, "key %s is not on the host, and its value did not come", k.Name)
		}
	}

	for _, k := range w.Old.Manifest.Keys {
		if paths[k.Path] {
			continue
		}
		if move := l.Move(k, false); move.Had || k.Seal {
			w.Keys = append(w.Keys, move)
			w.Changed[bundle.KindKey+":"+k.Name] = true
		}
	}

	return nil
}

// MakeForKeys is the plan of a run that fills the ramfs again. A value that did not come, as
// when one secret does not open, keeps none of the others away.
func MakeForKeys(m state.Dir, o *bundle.Offer, now state.Generation, staged func(string) bool) (*Plan, error) {
	w := &Plan{m: m, Offer: o, Old: now, Changed: map[string]bool{}}
	l := keyfiles.Of(m).Reader()
	defer l.Close()

	for _, k := range o.Manifest.Keys {
		is, err := l.InPlace(k)
		if err != nil {
			return nil, err
		}
		if staged(k.Name) {
			w.Keys = append(w.Keys, l.Move(k, true))
		} else if !is {
			w.Warnings = append(w.Warnings, fmt.Sprintf("key %s is not on the host, and its value did not come", k.Name))
		}
	}

	return w, nil
}
