// Package keys works on the keys that hosts have in their RAM: it says which are there, and puts back those of
// the generation that a host holds.
package keys

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"bellhop/deploy/commits"
	"bellhop/deploy/contact"
	"bellhop/deploy/routes"
	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/fleet"
	"bellhop/internal/push"
)

// HostKeys says which keys one host has, as the host reports it.
type HostKeys struct {
	Name   string    `json:"name"`
	BootID *string   `json:"boot_id"`
	Error  *string   `json:"error"`
	Place  *string   `json:"place"` // file system of the keys: ramfs or tmpfs; null when it was not asked for
	Swaps  bool      `json:"swaps"` // it is a tmpfs, and the host swaps unencrypted
	Keys   []KeyInfo `json:"keys"`
}

// KeyInfo is what a host says of one key.
type KeyInfo struct {
	Name     string     `json:"name"`
	Expected bool       `json:"expected"` // the generation on the host has it
	Present  bool       `json:"present"`
	Since    *time.Time `json:"since"`
	Source   *string    `json:"source"` // pushed or sealed
	Unit     *string    `json:"unit"`   // state of its unit
}

// atOnce is how many hosts are asked at once.
const atOnce = 10

// Keys works on the keys that hosts have in their RAM.
type Keys struct{ contact.Contact }

// Status asks the chosen hosts that have keys which keys they have, one session each.
func (k Keys) Status(ctx context.Context, on string) ([]HostKeys, error) {
	return k.each(ctx, on, func(ctx context.Context, f *fleet.Fleet, h *fleet.Host, b *fleet.Bundle) (HostKeys, error) {
		s, err := k.Pusher().Open(ctx, routes.To(f, h, commits.ArchOf(k.History, h.Name), true), 0)
		if err != nil {
			return HostKeys{}, err
		}
		defer s.Close()

		filter := k.filter(ctx, h.Name, b)
		defer filter.Drop()
		hk := hostKeys(h.Name, b, filter.Word(s.Hello.BootID), wire.FilterKeys(s.Hello.Keys, filter.Text))
		if len(s.Hello.Keys) > 0 {
			hk.Place, hk.Swaps = some("tmpfs"), s.Hello.SwapClear
			if s.Hello.RAMFS {
				hk.Place = some("ramfs")
			}
		}
		return hk, nil
	})
}

// filter is the filter of what a host says of its keys. The names of those that it was given
// pass it unread.
func (k Keys) filter(ctx context.Context, host string, b *fleet.Bundle) *push.Filter {
	last, _ := k.History.Host(host)
	said := []string{last.BootID}
	for _, key := range b.Keys {
		said = append(said, key.Name)
	}

	if m, _, err := k.History.Manifest(host); err == nil {
		for _, key := range keysOf(m) {
			said = append(said, key.Name)
		}
	}

	return k.Pusher().NewFilter(said, push.KeysOf(b), k.Archive().FormerKeys(ctx, host, b))
}

func hostKeys(name string, b *fleet.Bundle, boot string, keys []bundle.KeyState) HostKeys {
	hk := HostKeys{Name: name, BootID: some(boot), Keys: []KeyInfo{}}
	listed := map[string]bool{}
	for _, k := range keys {
		i := KeyInfo{Name: k.Name, Expected: true, Present: k.Present, Source: some(k.Source), Unit: some(k.Unit)}
		if k.Since > 0 {
			t := time.Unix(k.Since, 0).UTC()
			i.Since = &t
		}
		listed[i.Name] = true
		hk.Keys = append(hk.Keys, i)
	}

	for _, k := range b.Keys {
		if !listed[k.Name] {
			hk.Keys = append(hk.Keys, KeyInfo{Name: k.Name}) // wanted, and not in the generation on the host
		}
	}

	slices.SortFunc(hk.Keys, func(a, b KeyInfo) int { return cmp.Compare(a.Name, b.Name) })
	return hk
}

// keysOf are the keys of m, none when it is not known.
func keysOf(m *bundle.Manifest) []bundle.Key {
	if m == nil {
		return nil
	}
	return m.Keys
}

// Push puts the keys of their present generations onto the chosen hosts now. A key that is
// there already is not sent.
func (k Keys) Push(ctx context.Context, on string) ([]HostKeys, error) {
	return k.each(ctx, on, func(ctx context.Context, f *fleet.Fleet, h *fleet.Host, b *fleet.Bundle) (HostKeys, error) {
		t := routes.To(f, h, commits.ArchOf(k.History, h.Name), true)
		res, err := k.Heal(ctx, h.Name, t, true)
		if err != nil {
			return HostKeys{}, err
		}
		now, _ := k.History.Host(h.Name)
		var keys []bundle.KeyState
		if res != nil {
			keys = res.Keys
			if len(keys) == 0 { // it does not list what is all there
				m, _, err := k.History.Manifest(h.Name)
				if err != nil {
					return HostKeys{}, err
				}
				for _, key := range keysOf(m) {
					keys = append(keys, bundle.KeyState{Name: key.Name, Present: true, Source: "pushed"})
				}
			}
		}
		return hostKeys(h.Name, b, now.BootID, keys), nil
	})
}

// each calls do for each chosen host that has keys, many at once. The error of a host is
// in its HostKeys.
func (k Keys) each(ctx context.Context, on string, do func(context.Context, *fleet.Fleet, *fleet.Host, *fleet.Bundle) (HostKeys, error)) ([]HostKeys, error) {
	f, err := k.Load(ctx)
	if err != nil {
		return nil, err
	}

	hosts, err := f.Select(on)
	if err != nil {
		return nil, fmt.Errorf("choose hosts by %q: %w", on, err)
	}

	var wg sync.WaitGroup
	sem := make(chan struct{}, atOnce)
	all := make([]*HostKeys, len(hosts))
	for i, h := range hosts {
		b, err := f.Bundle(h.Name)
		last, _ := k.History.Host(h.Name)
		none := err == nil && len(b.Keys) == 0
		if none && !last.HasKeys() {
			continue
		}
		all[i] = &HostKeys{Name: h.Name, Keys: []KeyInfo{}}
		if err != nil && last.KeysExpected == 0 {
			all[i].Error = some(fleet.ErrorText(err))
			continue
		}
		if err != nil { // the keys on the host need nothing of what is wanted
			b = &fleet.Bundle{}
		}
		wg.Go(func() {
			sem <- struct{}{}
			defer func() { <-sem }()
			ctx, cancel := context.WithTimeoutCause(ctx, k.Limit, push.ErrDeadline)
			defer cancel()
			hk, err := do(ctx, f, h, b)
			if err != nil {
				all[i].Error = some(k.Reveal(ctx, err, h.Name, b))
				return
			}
			all[i] = &hk
		})
	}

	wg.Wait()
	out := []HostKeys{}
	for _, hk := range all {
		if hk != nil {
			out = append(out, *hk)
		}
	}

	return out, nil
}

func some(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
