package link

import (
	"cmp"
	"context"
	"errors"
	"io"
)

// A connection of the pool says nothing of whether the host still lets anybody in: sshd may be gone,
// its config broken, the key removed, and what was logged in before goes on. So some work is done over
// a fresh connection, one that was dialed and logged in for it, through jump hosts that were dialed for it too.

// Fresh dials t anew, logs in and hangs up: proof that the host can be reached now.
func (p *Pool) Fresh(ctx context.Context, t Target) error {
	return p.overFresh(t, func(own *Pool) error {
		c, err := own.get(ctx, t)
		if err == nil {
			c.release()
		}
		return err
	})
}

// FreshHelper is Helper over a fresh connection, which ends with the session. The helper must be there:
// it is not sent.
func (p *Pool) FreshHelper(ctx context.Context, t Target, ahead func(io.Writer) error) (s *Session, err error) {
	arch := cmp.Or(p.Arch(t.Name), t.Arch)
	_, digest, err := p.cfg.Helper("linux", arch)
	if err != nil {
		digest = noDigest
	}

	err = p.overFresh(t, func(own *Pool) error {
		var g greeting
		if s, g, err = own.tryHelper(ctx, t, digest, ahead); err == nil && g.kind != "magic" {
			err = &Error{t.Name, ErrHelper, errors.New("it is not there any more")}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// overFresh calls do with a pool of its own, in which each connection closes as soon as nothing runs
// over it. It shares p's limits and counters, and ends with p.
func (p *Pool) overFresh(t Target, do func(own *Pool) error) error {
	own := &Pool{cfg: p.cfg, dials: p.dials, parent: p, entries: map[string]*entry{}, open: map[*conn]struct{}{}}
	if arch := p.Arch(t.Name); arch != "" {
		own.Learn(t.Name, arch)
	}

	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return &Error{t.Name, ErrClosed, nil}
	}
	p.apart[own] = struct{}{}
	p.mu.Unlock()

	err := do(own)
	own.mu.Lock()
	unused := len(own.open) == 0
	own.mu.Unlock()
	if unused {
		p.forgetApart(own)
	}
	return err
}

// forgetApart forgets a pool of FreshHelper that has no connection.
func (p *Pool) forgetApart(own *Pool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.apart, own)
}

// countersOf are those of a target: a pool for fresh connections counts with the one it belongs to.
func (p *Pool) countersOf(name string) *counters {
	if p.parent == nil {
		return &counters{}
	}
	return p.parent.entry(name).n
}
