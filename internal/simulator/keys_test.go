package simulator

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"testing/fstest"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
)

// Keys: a service has one of its own name, or none. A host has the values in its RAM, and a boot leaves none of
// them. The model's age files are plain, and what a host makes of a value is known by its digest.

// newLoader returns a loader that opens the secrets of a world.
func newLoader() *fleet.Loader {
	return &fleet.Loader{
		Open:      func(tree fs.FS, path string) ([]byte, error) { return fs.ReadFile(tree, path) },
		KeyDigest: keyDigest,
	}
}

// keyDigest is what a bundle has in place of a value.
func keyDigest(value []byte) string {
	sum := sha256.Sum256(append([]byte("key "), value...))
	return hex.EncodeToString(sum[:])
}

// writeKey gives the key of a service a new value, and the service the key where it has none.
func (r *repo) writeKey(tree fstest.MapFS, service string, v version) {
	value := fmt.Appendf(nil, "age-encryption.org/v1\n%s %d %d\n", service, len(r.commits), len(r.versions))
	r.versions[keyDigest(value)] = v
	tree[keyFile(service)] = &fstest.MapFile{Data: value, Mode: 0o644}
	tree[serviceFile(service)] = &fstest.MapFile{Data: fmt.Appendf(nil, "keys:\n  %s: { source: %s }\n", service, keyFile(service)), Mode: 0o644}
}

func keyFile(service string) string     { return "secrets/" + service + ".age" }
func serviceFile(service string) string { return "services/" + service + "/service.yaml" }

// commitKeys changes a value alone, or a value and a file, or takes a key away.
func (r *repo) commitKeys(tree fstest.MapFS) {
	s := pick(r.rng, serviceNames...)
	v := r.version()
	if v.nature == isBroken || v.nature == isBarred || v.nature == cutsOff { // which a value is not
		v.nature = isBad
	}

	switch r.rng.IntN(5) {
	case 0:
		delete(tree, keyFile(s))
		delete(tree, serviceFile(s))
		r.write(tree, s, r.version())
	case 1:
		r.writeKey(tree, s, v)
		r.write(tree, pick(r.rng, serviceNames...), r.version())
	default:
		r.writeKey(tree, s, v)
	}
}

// keyStates tells how the keys of the generation that stands do. It is called under mu.
func (h *host) keyStates() (states []bundle.KeyState) {
	for _, k := range h.full.Keys {
		_, isThere := h.ram[k.Name]
		states = append(states, bundle.KeyState{Name: k.Name, Present: isThere, Source: "pushed", Unit: "active"})
	}
	return states
}

// macs answers the nonce of an offer, for the keys that are there. It is called under mu.
func (h *host) macs(o *bundle.Offer) map[string][]byte {
	macs := map[string][]byte{}
	for _, k := range o.Manifest.Keys {
		if v, isThere := h.ram[k.Name]; isThere {
			macs[k.Name] = bundle.KeyMAC(o.Nonce, v)
		}
	}
	return macs
}

// withDigests is the manifest of an offer with the digests of its keys, which must be what the deployer
// computed. It is called under mu.
func (h *host) withDigests(o *bundle.Offer, came map[string][]byte) bundle.Manifest {
	m := o.Manifest.WithoutKeyDigests()
	for i, k := range m.Keys {
		v, isThere := came[k.Name]
		if !isThere {
			v, isThere = h.ram[k.Name]
		}
		if !isThere {
			h.w.blame("%s is to begin %.8s, and has no key %s", h.name, o.Digest, k.Name)
		}
		m.Keys[i].Digest = keyDigest(v)
	}
	if m.Digest() != o.Digest && len(m.Keys) > 0 {
		h.w.blame("%s is offered %.8s, and gets the keys of something else", h.name, o.Digest)
	}
	return m
}

// placeKeys puts the values of a unit in place of what was there; false when the power went.
func (h *host) placeKeys(u *unit) bool {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if isClosed(u.killed) {
		return false
	}
	u.former = h.ram
	h.ram = map[string][]byte{}
	for _, k := range u.full.Keys {
		v, isThere := u.came[k.Name]
		if !isThere {
			v, isThere = u.former[k.Name]
		}
		if isThere {
			h.ram[k.Name] = v
		}
	}
	return true
}

// putKeysBack is the unit of a run that brings keys alone. It makes no generation.
func (h *host) putKeysBack(u *unit) {
	h.w.mu.Lock()
	took := time.Duration(10+h.chance("keys", u.n).IntN(300))*time.Millisecond + h.skew(u.n)
	h.w.mu.Unlock()
	if !u.lasts(took) {
		return
	}

	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if isClosed(u.killed) {
		return
	}
	h.ram = maps.Clone(h.ram)
	if h.ram == nil {
		h.ram = map[string][]byte{}
	}
	maps.Copy(h.ram, u.came)
	h.record = h.recordOf(&u.offer, h.record.Generation)
	h.endLocked(u, &bundle.Result{Run: u.offer.Run, Outcome: bundle.OutcomeNothing, TookMillis: took.Milliseconds()})
}

// reboot takes the power away for a moment.
func (w *world) reboot(h *host) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !h.isOn {
		return
	}
	w.trace.add(h.name, "reboots")
	h.losePower()
	w.after(time.Duration(10+w.rng.IntN(80))*time.Second, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !h.isOn {
			h.boot()
			w.trace.add(h.name, "is up again")
		}
	})
}

// pushKeys is a person who has the keys of a host put back now, whatever goes on there.
func (w *world) pushKeys(h *host) {
	w.mu.Lock()
	l, on := w.life, w.repo.names[h.index]
	w.mu.Unlock()
	w.trace.add(h.name, "%s pushes its keys", person)
	l.work.Go(func() {
		hosts, err := l.d.Keys().Push(l.ctx, on)
		failed := 0
		for _, hk := range hosts {
			if hk.Error != nil {
				failed++
			}
		}
		w.trace.add(h.name, "keys were pushed to %d hosts, %d failed, error: %v", len(hosts), failed, err != nil)
	})
}

// unlikeKeys says what is wrong with the keys of a host; "" when all is right.
func (w *world) unlikeKeys(h *host, s history.HostStatus) string {
	if h.record == nil || h.isOthers() {
		return ""
	}
	for _, k := range h.full.Keys {
		v, isThere := h.ram[k.Name]
		switch {
		case !isThere:
			return fmt.Sprintf("key %s is not there", k.Name)
		case keyDigest(v) != k.Digest:
			return fmt.Sprintf("key %s has another value than what it holds", k.Name)
		}
	}
	if len(h.ram) != len(h.full.Keys) {
		return fmt.Sprintf("it has %d keys in RAM, and holds %d", len(h.ram), len(h.full.Keys))
	}
	if isAsked := s.Name == h.record.Host; isAsked && s.Keys.Present != len(h.full.Keys) {
		return fmt.Sprintf("status says that %d keys are there, and %d are; it was seen at %v and is away since %v", s.Keys.Present, len(h.full.Keys), s.SeenAt, s.AwaySince)
	}
	return ""
}
