package lines

import (
	"context"
	"log/slog"

	"bellhop/deploy/contact"
	"bellhop/deploy/plan"
	"bellhop/deploy/routes"
	"bellhop/internal/history"
	"bellhop/internal/link"
)

// A Keeper decides which lines are open, and does what is to be done when one comes up or goes down.
type Keeper struct {
	Set     *Set
	Links   routes.Links
	History *history.DB
	// Ring asks for a run, where something takes such rings.
	Ring func(cause string)
	Log  *slog.Logger
	// Heal reads the host's own record, and after a reboot puts its keys back.
	Heal func(ctx context.Context, host string, t link.Target) error
	// Contact finds former names of hosts.
	Contact contact.Contact
}

// OpenKnown opens those lines that history asks for and that are not open: by the route by
// which each host was reached last. A host that an earlier process was at work on is left alone until
// its run is settled.
func (k Keeper) OpenKnown() {
	if !k.Set.Kept() {
		return
	}

	hosts := k.History.Hosts()
	for name, h := range hosts {
		if k.Set.Has(name) || h.State == history.Released || h.State == history.Deploying {
			continue
		}
		if k.wantsLine(h, h.HasKeys()) {
			k.Set.keep(routes.Remembered(name, hosts), k.watch)
		}
	}
}

// FollowPlan opens and drops lines as a plan that was just applied asks.
func (k Keeper) FollowPlan(p *plan.Plan) {
	if !k.Set.Kept() {
		return
	}

	for _, hp := range p.Hosts {
		h, ok := k.History.Host(hp.Name)
		if !ok || hp.Bundle == nil {
			continue // a refused host keeps the line that it has
		}
		mayLackKeys := k.hadKeys(p, hp)
		keys := len(hp.Bundle.Keys) > 0 || h.HasKeys() || mayLackKeys
		if k.wantsLine(h, keys) || mayLackKeys {
			k.Set.keep(routes.To(p.Fleet, hp.Host, h.Arch, keys), k.watch)
		} else {
			k.Set.drop(hp.Name)
		}
	}

	for _, name := range p.Gone {
		k.Set.drop(name)
	}
	k.OpenKnown()
}

// hadKeys says that a host which holds nothing, as far as is known, may be one with keys that left the repo: it
// has another name, and no run came to it yet.
func (k Keeper) hadKeys(p *plan.Plan, hp *plan.HostPlan) bool {
	former, isKnown := k.History.Host(k.Contact.FormerName(p.Fleet, hp.Host))
	return isKnown && former.HasKeys()
}

// wantsLine says whether a line is kept to a host. keys says that it has keys, or will.
func (k Keeper) wantsLine(h history.Host, keys bool) bool {
	holdsKeys := keys && h.Had
	return holdsKeys || h.IsUnheard() || k.mayHoldKeys(h)
}

// mayHoldKeys says that a host may hold keys of which neither the newest plan nor its last count of keys tells: those
// of its generation, where it rebooted and what is wanted has none, or those of a push whose end was not heard.
func (k Keeper) mayHoldKeys(h history.Host) bool {
	if h.State == history.Current {
		return false
	}

	m, _, err := k.History.Manifest(h.Name)
	hasKeys := m != nil && len(m.Keys) > 0
	if hasKeys && h.Had {
		return true
	}

	isLost := false
	if isUnknown := h.Digest == "" && h.Run != ""; isUnknown && err == nil {
		_, isLost, err = k.History.Lost(context.Background(), h.Name)
	}
	if err != nil {
		k.Log.Error("look whether a host may hold keys", "host", h.Name, "err", err)
	}
	return isLost
}
