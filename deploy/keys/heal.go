package keys

import (
	"context"
	"fmt"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/link"
	"bellhop/internal/plain"
	"bellhop/internal/push"
)

// Heal reads the host's record, and puts back the keys of the generation that the host holds:
// when its boot is another than remembered, when a key is missing, or always. Only a boot id that
// was read whole counts: a login also works while a host shuts down.
func (k Keys) Heal(ctx context.Context, host string, t link.Target, always bool) (*bundle.Result, error) {
	d := k.Contact
	release, err := d.Hosts.Hold(ctx, host)
	if err != nil {
		return nil, err
	}
	defer release()
	s, err := d.Pusher().OpenIdle(ctx, t)
	if err != nil {
		return nil, err
	}
	defer s.Close()

	was, _ := d.History.Host(host)
	f, err := k.fleetFor(ctx, host, s.Hello.Record)
	if err != nil {
		return nil, err
	}
	if err := d.Correct(ctx, f, host, &s.Hello); err != nil {
		return nil, err
	}

	now, _ := d.History.Host(host)
	if now.State == history.Behind && was.State != history.Behind {
		d.Ring(host + " holds another generation")
	}

	rec := s.Hello.Record
	if rec == nil || rec.Generation == 0 {
		return nil, nil // it has nothing, so no keys either
	}

	if !rec.Deployer.Is(d.ID) {
		return nil, push.Final(&plain.Quote{What: "its record names another deployer", Said: rec.Deployer})
	}

	n, _ := s.Hello.KeysPresent()
	if !always && s.Hello.BootID.Is(was.BootID) && n == len(s.Hello.Keys) {
		return nil, nil
	}

	b, err := d.Archive().BundleOnHost(ctx, host, rec)
	if err != nil {
		return nil, err
	}

	filter := d.Pusher().NewFilter([]string{was.BootID, host, d.ID, b.Digest}, push.KeysOf(b))
	defer filter.Drop()
	if len(b.Keys) == 0 {
		return nil, k.Note(host, filter.Word(s.Hello.BootID), 0)
	}

	return k.send(s, host, b, filter)
}

// fleetFor is the fleet by which the record of a host is believed; nil where none is loaded yet and none is needed,
// since the host has the name that its record says.
func (k Keys) fleetFor(ctx context.Context, host string, rec *bundle.HostRecord) (*fleet.Fleet, error) {
	f := k.Fleet()
	if f != nil || rec == nil || rec.Host.Is(host) {
		return f, nil
	}
	return k.Load(ctx)
}

// send sends the keys of b on the session, and has history remember them.
func (k Keys) send(s *push.Session, host string, b *fleet.Bundle, filter *push.Filter) (*bundle.Result, error) {
	res, err := s.PushKeys("keys-"+history.NewRunID(), b, k.isRenamed(host, s.Hello.Record), filter)
	if err != nil {
		return nil, err
	}

	if res.Outcome != bundle.OutcomeDone && res.Outcome != bundle.OutcomeNothing {
		return res, fmt.Errorf("keys of %s: %s: %s", host, res.Outcome, res.Error)
	}

	n := len(b.Keys)
	if len(res.Keys) > 0 {
		n = bundle.Present(res.Keys)
	}

	k.Log.Info("keys are back", "host", host, "generation", s.Hello.Record.Generation)
	return res, k.Note(host, filter.Word(s.Hello.BootID), n)
}

// isRenamed says that the record of a host has a name that no other host has: its former one, until the next
// run there writes the new one.
func (k Keys) isRenamed(host string, rec *bundle.HostRecord) bool {
	if rec.Host.Is(host) {
		return false
	}

	for name, h := range k.History.Hosts() {
		if rec.Host.Is(name) && h.State != history.Released {
			return false
		}
	}

	return true
}

// Note has history remember how many keys a host has, and in which boot.
func (k Keys) Note(host, boot string, n int) error {
	return k.History.Correct(context.Background(), host, func(h *history.Host) {
		h.KeysPresent = n
		if boot != "" {
			h.BootID = boot
		}
	})
}
