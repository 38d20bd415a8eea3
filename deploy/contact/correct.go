package contact

import (
	"context"
	"slices"

	"bellhop/deploy/routes"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/push"
)

// Correct corrects what history remembers of a host by the host's own record, and gives a renamed
// host its past. f is the fleet that knows its present name, nil when that is not known.
func (c Contact) Correct(ctx context.Context, f *fleet.Fleet, name string, hello *push.Hello) error {
	if err := c.believeRename(ctx, f, name, hello); err != nil {
		return err
	}

	rec := hello.Record
	if isRenamed := rec != nil && rec.Deployer.Is(c.ID) && !rec.Host.Is(name); isRenamed && f == nil {
		return nil // it has its past to get first, or it would be one that never had another name
	}

	digest, generation := "", int64(0)
	if rec != nil {
		generation = rec.Generation
	}
	if rec != nil && rec.Deployer.Is(c.ID) { // what another deployer put there is never what is wanted
		digest = c.Archive().KnownDigest(f, name, rec.Digest)
	}

	warned := false // the edit may run more than once
	return c.History.Correct(ctx, name, func(h *history.Host) {
		h.Systemd = hello.Systemd
		if hello.Arch != "" {
			h.Arch = hello.Arch
		}
		if n, heard := hello.KeysPresent(); heard {
			h.KeysPresent = n
		}
		digest := digest
		if h.State == history.Failed && h.Digest == "" { // not undone whole, so its record does not tell all
			digest = ""
		}
		if digest == h.Digest && generation == h.Generation {
			return
		}
		if h.Digest != "" && !warned {
			warned = true
			c.Log.Warn("host holds another generation than remembered", "host", name, "generation", generation, "remembered", h.Generation)
		}
		isOther := h.State == history.Held && h.Digest != digest
		h.Digest, h.Generation = digest, generation
		if h.State == history.HeldBack || isOther { // what stood there stands no more
			h.State = history.Behind
		}
		if h.Follows && h.Digest != h.Wanted {
			h.Follows = false
			h.State = history.Behind
		}
	})
}

// believeRename gives a host the past of the one that its record names, where that is one which
// left the repo, and history remembers it by a host key that this one is pinned by too. Without
// that proof any host could take the past of another. A host that has no record, since it was made
// anew, is known by that key alone: what a person held stays held.
func (c Contact) believeRename(ctx context.Context, f *fleet.Fleet, name string, hello *push.Hello) error {
	if f == nil {
		return nil
	}
	h, ok := f.Host(name)
	if !ok {
		return nil
	}

	rec := hello.Record
	if rec == nil {
		return c.rename(ctx, c.FormerName(f, h), name)
	}

	isOurs := rec.Deployer.Is(c.ID)
	if !isOurs || rec.Host.Is(name) || routes.OtherName(f, hello, name) != "" {
		return nil
	}

	old := c.FormerName(f, h)
	for known, was := range c.History.Hosts() {
		if !rec.Host.Is(known) {
			continue
		}
		if old = known; !sharesKey(was.Reach, routes.Reach(h)) {
			c.Log.Warn("host says that it had another name, and no pinned key of that name is its own", "host", name)
			return nil
		}
	}

	return c.rename(ctx, old, name)
}

// rename gives a host all that is known of the name old, unless that is "".
func (c Contact) rename(ctx context.Context, old, name string) error {
	if old == "" {
		return nil
	}
	if err := c.History.Rename(ctx, old, name); err != nil {
		return err
	}

	c.Hosts.Renamed()
	return nil
}

// FormerName is the name of which history knows a host that left f and that is pinned by a key of h; "" where
// history knows h itself, and where there is none, or more than one. The record of a host that got two names and was
// pushed under none of them says the first, which history does not know any more.
func (c Contact) FormerName(f *fleet.Fleet, h *fleet.Host) (name string) {
	if now, _ := c.History.Host(h.Name); now.Had {
		return ""
	}

	isListed := func(host string) bool { _, ok := f.Host(host); return ok }
	for old, was := range c.History.Except(isListed) {
		if !was.Had || !sharesKey(was.Reach, routes.Reach(h)) {
			continue
		}
		if name != "" {
			return ""
		}
		name = old
	}

	return name
}

// sharesKey says whether both are pinned by the same host key.
func sharesKey(a, b history.Reach) bool {
	return slices.ContainsFunc(a.HostKeys, func(k string) bool { return slices.Contains(b.HostKeys, k) })
}
