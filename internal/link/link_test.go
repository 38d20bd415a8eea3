package link_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"bellhop/internal/bundle"
	"bellhop/internal/lab"
	"bellhop/internal/link"
)

// echo is a helper that says who it is, then gives back what it is told.
func echo(ctx context.Context, in io.Reader, out io.Writer) error {
	io.WriteString(out, bundle.Magic)
	_, err := io.Copy(out, in)
	return err
}

func newSigner(t testing.TB) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newHost(t testing.TB, name string) *lab.Host {
	t.Helper()
	h, err := lab.Listen(name, echo)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// config is one that logs in anywhere, and whose helper is a small file.
func config(t testing.TB) link.Config {
	signer := newSigner(t)
	path := filepath.Join(t.TempDir(), "helper")
	body := bytes.Repeat([]byte("helper\n"), 30_000)
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
	return link.Config{
		Signers: func() ([]ssh.Signer, error) { return []ssh.Signer{signer}, nil },
		Helper: func(goos, goarch string) (string, string, error) {
			if goarch == "riscv64" {
				return "", "", errors.New("no helper for riscv64")
			}
			return path, bundle.DigestBytes(body), nil
		},
	}
}

func newPool(t testing.TB, cfg link.Config) *link.Pool {
	p := link.NewPool(cfg)
	t.Cleanup(func() { p.Close() })
	return p
}

// talk has one whole conversation with the helper.
func talk(ctx context.Context, p *link.Pool, target link.Target) error {
	s, err := p.Helper(ctx, target, nil)
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := io.WriteString(s, "hello"); err != nil {
		return err
	}
	s.CloseWrite()
	got, err := io.ReadAll(s)
	if err != nil {
		return err
	}
	if want := bundle.Magic + "hello"; string(got) != want {
		return fmt.Errorf("helper said %q, want %q", got, want)
	}
	code, err := s.Wait()
	if err != nil || code != 0 {
		return fmt.Errorf("Wait = %d, %v", code, err)
	}
	return nil
}

func TestOneConnectionServesAll(t *testing.T) {
	h := newHost(t, "a")
	h.Noise("Welcome!\n\x00not yet\n")
	p := newPool(t, config(t))
	for range 3 {
		if err := talk(t.Context(), p, h.Target()); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if err := talk(t.Context(), p, h.Target()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got := h.Counts()
	if got.Connections != 1 || got.Logins != 1 || got.Sessions != 13 || got.Uploads != 0 {
		t.Errorf("13 talks made %+v, want 1 connection, 1 login, 13 sessions, 0 uploads", got)
	}
	s := p.Stats()
	ts := s.Targets["a"]
	if s.Open != 1 || ts.Dials != 1 || ts.Handshakes != 1 || ts.Sessions != 13 || ts.BytesIn == 0 || ts.BytesOut == 0 {
		t.Errorf("Stats = %+v", s)
	}
}

// TestRoundTrips: one for the channel, one for the command with the helper's first word, one
// for the answer.
func TestRoundTrips(t *testing.T) {
	h := newHost(t, "a")
	p := newPool(t, config(t))
	if err := talk(t.Context(), p, h.Target()); err != nil {
		t.Fatal(err)
	}
	if got := h.Counts().RoundTrips; got != 3 {
		t.Errorf("round trips = %d, want 3", got)
	}
}

// TestMagicInPieces: a network may cut the helper's first word anywhere.
func TestMagicInPieces(t *testing.T) {
	h, err := lab.Listen("a", func(ctx context.Context, in io.Reader, out io.Writer) error {
		for _, c := range []byte("noise\x00bell" + bundle.Magic) {
			out.Write([]byte{c})
			time.Sleep(time.Millisecond)
		}
		_, err := io.Copy(out, in)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	if err := talk(t.Context(), newPool(t, config(t)), h.Target()); err != nil {
		t.Error(err)
	}
}

func TestHelperIsSentOnce(t *testing.T) {
	h := newHost(t, "a")
	h.Bare()
	p := newPool(t, config(t))
	for range 2 {
		if err := talk(t.Context(), p, h.Target()); err != nil {
			t.Fatal(err)
		}
	}
	if got := h.Counts(); got.Uploads != 1 || got.Sessions != 4 {
		t.Errorf("two talks with a bare host made %+v, want 1 upload in 4 sessions", got)
	}
	if got := p.Arch("a"); got != runtime.GOARCH {
		t.Errorf("Arch = %q, want %q", got, runtime.GOARCH)
	}
}

func TestHostThatHasNoHelper(t *testing.T) {
	for uname, want := range map[string]string{
		"Linux riscv64":            "no helper for riscv64",
		"Linux toaster\x1b[2J\x07": "no helper for the host's machine: toaster[2J",
		"Darwin arm64":             "only Linux",
	} {
		h := newHost(t, "a")
		h.Bare()
		h.Uname(uname)
		err := talk(t.Context(), newPool(t, config(t)), h.Target())
		if !errors.Is(err, link.ErrHelper) || !strings.Contains(revealed(err), want) {
			t.Errorf("host that is %q: %v, want ErrHelper with %q", uname, err, want)
		}
	}
}

func TestChangedHostKeyStops(t *testing.T) {
	h := newHost(t, "a")
	p := newPool(t, config(t))
	target := h.Target()
	if err := h.NewHostKey(); err != nil {
		t.Fatal(err)
	}
	other := newHost(t, "b")
	target.Addresses = append(target.Addresses, other.Address())
	err := talk(t.Context(), p, target)
	var hk *link.HostKeyError
	if !errors.As(err, &hk) || hk.Line != h.HostKey() || !link.HardStop(err) {
		t.Fatalf("a changed key gave %v, want a HostKeyError that shows %s", err, h.HostKey())
	}
	if n := other.Counts().Connections; n != 0 {
		t.Errorf("the next address was tried %d times, want a hard stop", n)
	}
	if n := h.Counts(); n.Logins != 0 || n.Sessions != 0 {
		t.Errorf("the wrong host saw %+v, want no login", n)
	}
}

// TestOtherKindOfKey: the host has no key of the pinned type at all.
func TestOtherKindOfKey(t *testing.T) {
	h := newHost(t, "a")
	target := h.Target()
	target.HostKeys = []string{"ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBJCD5HWhAwvf6CGYNADEpMmEzecKIpCR2VfTonRQc1bGJWpOL3cg8doQ7uMxtC3Io0fQ1q1IAcof5Zn2zCu8V5A="}
	err := talk(t.Context(), newPool(t, config(t)), target)
	var hk *link.HostKeyError
	if !errors.As(err, &hk) || hk.Got != "" {
		t.Errorf("got %v, want a HostKeyError without a key", err)
	}
}

// TestPinnedKindIsAskedFor: a host has keys of two kinds; whichever is pinned is the one it
// must show.
func TestPinnedKindIsAskedFor(t *testing.T) {
	h := newHost(t, "a")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	second, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	h.OneMoreKey(second)
	for _, pin := range []string{h.HostKey(), string(ssh.MarshalAuthorizedKey(second.PublicKey()))} {
		target := h.Target()
		target.HostKeys = []string{pin}
		if err := talk(t.Context(), newPool(t, config(t)), target); err != nil {
			t.Errorf("pinned %.20s: %v", pin, err)
		}
	}
}

func TestNoPinNoDial(t *testing.T) {
	h := newHost(t, "a")
	target := h.Target()
	target.HostKeys = nil
	if err := talk(t.Context(), newPool(t, config(t)), target); !link.HardStop(err) {
		t.Errorf("a target without a pin gave %v", err)
	}
	if n := h.Counts().Connections; n != 0 {
		t.Errorf("it was dialled %d times", n)
	}
}

func TestErrorKinds(t *testing.T) {
	closed := newHost(t, "closed")
	closed.Cut()
	picky := newHost(t, "picky")
	picky.Allow(newSigner(t).PublicKey())
	stands := make(chan struct{})
	lost, err := lab.Listen("lost", func(ctx context.Context, in io.Reader, out io.Writer) error {
		io.WriteString(out, bundle.Magic)
		io.ReadFull(in, make([]byte, 1))
		close(stands)
		<-ctx.Done()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lost.Close() })
	p := newPool(t, config(t))
	if err := talk(t.Context(), p, closed.Target()); !errors.Is(err, link.ErrUnreachable) {
		t.Errorf("a closed port gave %v, want ErrUnreachable", err)
	}
	if err := talk(t.Context(), p, picky.Target()); !errors.Is(err, link.ErrAuth) {
		t.Errorf("a refused key gave %v, want ErrAuth", err)
	}
	go func() { <-stands; lost.Cut() }()
	if err := talk(t.Context(), p, lost.Target()); !errors.Is(err, link.ErrLost) {
		t.Errorf("a line that broke gave %v, want ErrLost", err)
	}
	if err := talk(t.Context(), p, lost.Target()); !errors.Is(err, link.ErrUnreachable) {
		t.Errorf("and then %v, want ErrUnreachable", err)
	}
}

// TestSilentShellIsUnreachable: so does sshd answer while its host goes down.
func TestSilentShellIsUnreachable(t *testing.T) {
	h, err := lab.Listen("down", func(context.Context, io.Reader, io.Writer) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	if err := talk(t.Context(), newPool(t, config(t)), h.Target()); !errors.Is(err, link.ErrUnreachable) || !errors.Is(err, link.ErrThere) {
		t.Errorf("a shell that says nothing, as in a shutdown, gave %v, want ErrUnreachable and ErrThere", err)
	}
}

// A helper that ran and ended says itself what is wrong; its login shell is not to blame.
func TestHelperSaysWhy(t *testing.T) {
	h, err := lab.Listen("a", func(context.Context, io.Reader, io.Writer) error { return errors.New("the record is damaged") })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	err = talk(t.Context(), newPool(t, config(t)), h.Target())
	if !errors.Is(err, link.ErrHelper) || revealed(err) != "helper: it can't begin: the record is damaged" {
		t.Errorf("a helper that ended with an error gave %v, want ErrHelper and its word", err)
	}
}

// An SSH server that runs no commands is no host that is away: no other try helps.
func TestServerWithoutCommands(t *testing.T) {
	h := newHost(t, "files")
	h.NoCommands()
	if err := talk(t.Context(), newPool(t, config(t)), h.Target()); !errors.Is(err, link.ErrHelper) || !strings.Contains(err.Error(), "refuses to run a command") {
		t.Errorf("a server that refuses commands gave %v, want ErrHelper", err)
	}
}

func TestDeadConnectionIsMadeAnew(t *testing.T) {
	h := newHost(t, "a")
	p := newPool(t, config(t))
	for i := range 5 {
		if err := talk(t.Context(), p, h.Target()); err != nil {
			t.Fatalf("talk %d: %v", i, err)
		}
		h.Drop()
	}
	if n := h.Counts().Connections; n != 5 {
		t.Errorf("connections = %d, want 5", n)
	}
}

func TestOtherShapeIsDialledAnew(t *testing.T) {
	a, b := newHost(t, "a"), newHost(t, "a")
	p := newPool(t, config(t))
	for _, h := range []*lab.Host{a, b, a} {
		if err := talk(t.Context(), p, h.Target()); err != nil {
			t.Fatal(err)
		}
	}
	if a.Counts().Connections != 2 || b.Counts().Connections != 1 {
		t.Errorf("connections %d and %d; want 2 and 1", a.Counts().Connections, b.Counts().Connections)
	}
	wantOpen(t, p, 1)
}

// A caller who still knows the former address of a host does not end what runs over the new one.
func TestOtherShapeWaitsForSessions(t *testing.T) {
	a, b := newHost(t, "a"), newHost(t, "a")
	p := newPool(t, config(t))
	s, err := p.Helper(t.Context(), b.Target(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := talk(t.Context(), p, a.Target()); err != nil {
		t.Fatal(err)
	}
	wantOpen(t, p, 2)
	io.WriteString(s, "still here")
	s.CloseWrite()
	if got, err := io.ReadAll(s); err != nil || string(got) != bundle.Magic+"still here" {
		t.Fatalf("the session over the other address said %q, %v", got, err)
	}
	if _, err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	s.Close()
	wantOpen(t, p, 1)
}

func TestAddressesInOrder(t *testing.T) {
	gone, here := newHost(t, "gone"), newHost(t, "here")
	gone.Cut()
	target := here.Target()
	target.Addresses = []string{gone.Address(), here.Address()}
	if err := talk(t.Context(), newPool(t, config(t)), target); err != nil {
		t.Error(err)
	}
}

func TestJump(t *testing.T) {
	bastion, inner := newHost(t, "bastion"), newHost(t, "inner")
	p := newPool(t, config(t))
	target, jump := inner.Target(), bastion.Target()
	target.Jump = &jump
	for range 2 {
		if err := talk(t.Context(), p, target); err != nil {
			t.Fatal(err)
		}
	}
	if b, i := bastion.Counts(), inner.Counts(); b.Sessions != 0 || b.Channels != 1 || i.Sessions != 2 || i.Connections != 1 {
		t.Errorf("bastion %+v, inner %+v; want one tunnel and no session there", b, i)
	}
	cfg := config(t)
	cfg.MaxDials = 1 // the jump's own dial must not wait for the one that needs it
	if err := talk(t.Context(), newPool(t, cfg), target); err != nil {
		t.Error(err)
	}
	jump.Jump = &target
	if err := talk(t.Context(), newPool(t, config(t)), target); err == nil || !strings.Contains(err.Error(), "back to itself") {
		t.Errorf("a circle of jumps gave %v", err)
	}
}

func TestContextEndsTheSession(t *testing.T) {
	ended := make(chan struct{})
	ctx, cancel := context.WithCancelCause(t.Context())
	h, err := lab.Listen("a", func(of context.Context, in io.Reader, out io.Writer) error {
		io.WriteString(out, bundle.Magic)
		io.ReadFull(in, make([]byte, 1)) // now the session stands
		cancel(errors.New("that will do"))
		<-of.Done()
		close(ended)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	err = talk(ctx, newPool(t, config(t)), h.Target())
	if err == nil || err.Error() != "that will do" {
		t.Errorf("got %v, want the context's cause", err)
	}
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("the host never heard of it")
	}
}

func TestLeastUsedGoesFirst(t *testing.T) {
	cfg := config(t)
	cfg.MaxConnections = 2
	p := newPool(t, cfg)
	hosts := []*lab.Host{newHost(t, "a"), newHost(t, "b"), newHost(t, "c")}
	for _, i := range []int{0, 1, 0, 2, 0} { // b is the one to go
		if err := talk(t.Context(), p, hosts[i].Target()); err != nil {
			t.Fatal(err)
		}
	}
	if a := hosts[0].Counts().Connections; a != 1 {
		t.Errorf("a was dialled %d times, want once", a)
	}
	wantOpen(t, p, 2)
}

// wantOpen waits for closed connections to have gone.
func wantOpen(t *testing.T, p *link.Pool, want int) {
	t.Helper()
	for range 6000 {
		if p.Stats().Open == want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d connections are open, want %d", p.Stats().Open, want)
}

func TestExec(t *testing.T) {
	h := newHost(t, "a")
	p := newPool(t, config(t))
	var out, errs bytes.Buffer
	code, err := p.Exec(t.Context(), h.Target(), "cat", strings.NewReader(strings.Repeat("x", 3<<20)), &out, &errs)
	if code != 0 || err != nil || out.Len() != 3<<20 {
		t.Errorf("cat of 3 MiB = %d, %v, %d bytes", code, err, out.Len())
	}
	code, err = p.Exec(t.Context(), h.Target(), "it's not known", nil, nil, &errs)
	if code != 127 || err != nil || !strings.Contains(errs.String(), "imitated") {
		t.Errorf("unknown command = %d, %v, stderr %q", code, err, errs.String())
	}
}

// What a host prints is taken up to a bound, and a failure is told by what stderr says.
func TestOutputIsBounded(t *testing.T) {
	h := newHost(t, "a")
	p := newPool(t, config(t))
	h.Noise(strings.Repeat("x", link.MaxOutput))
	out, err := p.Output(t.Context(), h.Target(), "true")
	if err != nil || len(out) != link.MaxOutput {
		t.Errorf("%d bytes came, %v", len(out), err)
	}
	if out, err = p.Output(t.Context(), h.Target(), "echo"); out != "" || err == nil || !strings.Contains(err.Error(), "says too much") {
		t.Errorf("of one byte more %d came, %v", len(out), err)
	}

	h.Noise("")
	if out, err = p.Output(t.Context(), h.Target(), "nothing that it knows"); out != "" || err == nil || !strings.Contains(err.Error(), "imitated") {
		t.Errorf("of a failure %q came, %v", out, err)
	}
}

func TestFreshAlwaysDials(t *testing.T) {
	h := newHost(t, "a")
	p := newPool(t, config(t))
	for range 3 {
		if err := p.Fresh(t.Context(), h.Target()); err != nil {
			t.Fatal(err)
		}
	}
	if n, s := h.Counts(), p.Stats().Total(); n.Connections != 3 || n.Sessions != 0 || s.Handshakes != 3 {
		t.Errorf("three fresh handshakes made %+v, %+v", n, s)
	}
	wantOpen(t, p, 0)
}

func TestClosedPool(t *testing.T) {
	h := newHost(t, "a")
	p := link.NewPool(config(t))
	if err := talk(t.Context(), p, h.Target()); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if err := talk(t.Context(), p, h.Target()); !errors.Is(err, link.ErrClosed) {
		t.Errorf("a closed pool gave %v, want ErrClosed", err)
	}
}

// TestKnocksAgain: sshd hangs up silently on whoever comes while too many are logging in.
func TestKnocksAgain(t *testing.T) {
	h := newHost(t, "a")
	cfg := config(t)
	dials := 0
	cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		if dials++; dials < 3 && err == nil {
			c.Close()
		}
		return c, err
	}
	if err := talk(t.Context(), newPool(t, cfg), h.Target()); err != nil || dials != 3 {
		t.Errorf("two closed doors: %v after %d dials, want none after 3", err, dials)
	}
}
