package link_test

import (
	"errors"
	"io"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/lab"
	"bellhop/internal/link"
)

// freshTalk has one conversation with the helper over a fresh connection.
func freshTalk(t *testing.T, p *link.Pool, target link.Target) error {
	t.Helper()
	s, err := p.FreshHelper(t.Context(), target, func(w io.Writer) error {
		_, err := io.WriteString(w, "hello")
		return err
	})
	if err != nil {
		return err
	}
	defer s.Leave()

	s.CloseWrite()
	got, err := io.ReadAll(s)
	if want := bundle.Magic + "hello"; string(got) != want {
		t.Errorf("helper said %q, want %q", got, want)
	}
	return err
}

// A fresh connection is one login and one session, beside the pooled one, which stays.
func TestFreshHelper(t *testing.T) {
	h := newHost(t, "a")
	p := newPool(t, config(t))
	if err := talk(t.Context(), p, h.Target()); err != nil {
		t.Fatal(err)
	}

	for range 3 {
		if err := freshTalk(t, p, h.Target()); err != nil {
			t.Fatal(err)
		}
	}
	if n := h.Counts(); n.Connections != 4 || n.Logins != 4 || n.Sessions != 4 {
		t.Errorf("one talk and three fresh ones made %+v, want 4 connections, logins and sessions", n)
	}
	if s := p.Stats().Total(); s.Handshakes != 4 || s.Sessions != 4 {
		t.Errorf("Stats = %+v, want 4 handshakes and sessions", s)
	}

	if err := talk(t.Context(), p, h.Target()); err != nil {
		t.Fatal(err)
	}
	if n := h.Counts(); n.Logins != 4 {
		t.Errorf("the pooled connection did not stay: %d logins, want 4", n.Logins)
	}
	wantOpen(t, p, 1)
}

// A jump host is dialed for it too: the pooled connection through it proves nothing.
func TestFreshHelperThroughJump(t *testing.T) {
	h, via := newHost(t, "inner"), newHost(t, "via")
	target, jump := h.Target(), via.Target()
	target.Jump = &jump
	p := newPool(t, config(t))
	if err := talk(t.Context(), p, target); err != nil {
		t.Fatal(err)
	}

	if err := freshTalk(t, p, target); err != nil {
		t.Fatal(err)
	}
	if in, out := h.Counts(), via.Counts(); in.Logins != 2 || out.Logins != 2 {
		t.Errorf("%d logins inside and %d on the jump host, want 2 and 2", in.Logins, out.Logins)
	}

	via.Allow(newSigner(t).PublicKey()) // what is logged in goes on
	if err := talk(t.Context(), p, target); err != nil {
		t.Fatal(err)
	}
	if err := freshTalk(t, p, target); !errors.Is(err, link.ErrAuth) {
		t.Errorf("a jump host that lets nobody in any more gave %v, want ErrAuth", err)
	}
}

// It tells a host that lets nobody in any more, which the pooled connection hides.
func TestFreshHelperFails(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(h *lab.Host)
		want error
	}{
		"no login":  {func(h *lab.Host) { h.Allow(newSigner(t).PublicKey()) }, link.ErrAuth},
		"no helper": {func(h *lab.Host) { h.Bare() }, link.ErrHelper},
		"another key": {func(h *lab.Host) {
			if err := h.NewHostKey(); err != nil {
				t.Fatal(err)
			}
		}, new(link.HostKeyError)},
	} {
		h := newHost(t, "a")
		p, target := newPool(t, config(t)), h.Target()
		if err := talk(t.Context(), p, target); err != nil {
			t.Fatal(err)
		}

		c.do(h)
		err := freshTalk(t, p, target)
		var key *link.HostKeyError
		isKey := errors.As(c.want, &key) && errors.As(err, &key)
		if !isKey && !errors.Is(err, c.want) {
			t.Errorf("%s: FreshHelper = %v, want %v", name, err, c.want)
		}
		if n := h.Counts(); n.Uploads != 0 {
			t.Errorf("%s: a helper was sent", name)
		}
	}
}

// The end of the pool ends fresh connections too.
func TestFreshHelperEndsWithThePool(t *testing.T) {
	h := newHost(t, "a")
	p := newPool(t, config(t))
	s, err := p.FreshHelper(t.Context(), h.Target(), nil)
	if err != nil {
		t.Fatal(err)
	}

	p.Close()
	if _, err := io.ReadAll(s); !errors.Is(err, link.ErrLost) {
		t.Errorf("after Close a read gave %v, want ErrLost", err)
	}
	if err := freshTalk(t, p, h.Target()); !errors.Is(err, link.ErrClosed) {
		t.Errorf("a closed pool gave %v, want ErrClosed", err)
	}
}
