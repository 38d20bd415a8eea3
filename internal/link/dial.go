package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// limits bound one attempt to reach a target.
type limits struct{ dial, handshake time.Duration }

// connect makes one connection to t: its addresses in order, each with its own deadlines.
// A host key that is not pinned ends it at once; a door closed during the handshake is
// knocked at again, since sshd closes silently when too many knock (MaxStartups).
func (p *Pool) connect(ctx context.Context, t Target, n *counters, lim limits) (*conn, error) {
	pins, err := t.Pins()
	if err != nil {
		return nil, err
	}

	if len(t.Addresses) == 0 {
		return nil, &Error{t.Name, ErrUnreachable, errors.New("it has no address")}
	}

	if t.Jump != nil {
		// Before a place among the dials is taken: the jump host needs one too.
		release, err := p.holdJump(ctx, t)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	if err := p.takeDial(ctx); err != nil {
		return nil, &Error{t.Name, ErrUnreachable, err}
	}
	defer func() { <-p.dials }()
	if len(t.Addresses) > 1 { // the first may be a network we are not in
		lim.dial = max(lim.dial/time.Duration(len(t.Addresses)), 3*time.Second)
	}

	var errs []error
	for _, a := range t.Addresses {
		c, err := p.connectAddress(ctx, t, withPort(a), pins, n, lim)
		if err == nil {
			return c, nil
		}
		var hk *HostKeyError
		if errors.As(err, &hk) || ctx.Err() != nil {
			return nil, err
		}
		errs = append(errs, err)
	}

	if slices.ContainsFunc(errs, func(err error) bool { return errors.Is(err, ErrAuth) }) {
		return nil, &Error{t.Name, ErrAuth, joined(errs)}
	}

	return nil, &Error{t.Name, ErrUnreachable, joined(errs)}
}

// holdJump makes sure that the connection to t's jump host is open.
func (p *Pool) holdJump(ctx context.Context, t Target) (release func(), _ error) {
	for j := t.Jump; j != nil; j = j.Jump {
		if j.Name == t.Name {
			return nil, &Error{t.Name, ErrUnreachable, fmt.Errorf("jump through %s: it leads back to itself", t.Jump.Name)}
		}
	}

	c, err := p.get(ctx, *t.Jump)
	if err != nil {
		return nil, &Error{t.Name, ErrUnreachable, fmt.Errorf("jump through %s: %w", t.Jump.Name, err)}
	}

	return c.release, nil
}

// joined joins the causes, less the host's name and the kind that the caller says once.
func joined(errs []error) error {
	var all []error
	for _, err := range errs {
		var e *Error
		if errors.As(err, &e) && e.Err != nil {
			err = e.Err
		}
		all = append(all, err)
	}

	if len(all) == 1 {
		return all[0]
	}

	return errors.Join(all...)
}

// takeDial waits for a place among the dials; where many wait, they spread.
func (p *Pool) takeDial(ctx context.Context) error {
	select {
	case p.dials <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}

	if n := len(p.dials); n > 16 {
		return sleep(ctx, rand.N(time.Duration(n)*time.Millisecond))
	}

	return nil
}

func (p *Pool) connectAddress(ctx context.Context, t Target, addr string, pins []ssh.PublicKey, n *counters, lim limits) (*conn, error) {
	const knocks = 5
	for i := 1; ; i++ {
		nc, done, err := p.openWire(ctx, t, addr, n, lim)
		if err != nil {
			return nil, &Error{t.Name, ErrUnreachable, err}
		}
		c, err := p.handshake(ctx, t, addr, nc, pins, n, lim)
		if err == nil {
			c.onClose = done
			return c, nil
		}
		nc.Close()
		done()
		if i == knocks || !errors.Is(err, errClosedDoor) || sleep(ctx, rand.N(time.Duration(i)*400*time.Millisecond)) != nil {
			return nil, err
		}
	}
}

// openWire opens the network connection: by TCP, or as a channel of the jump host. done must
// be called once when it has ended.
func (p *Pool) openWire(ctx context.Context, t Target, addr string, n *counters, lim limits) (_ net.Conn, done func(), _ error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lim.dial, fmt.Errorf("dial %s: no answer in %v", addr, lim.dial))
	defer cancel()
	n.dials.Add(1)
	if t.Jump != nil {
		return p.openThrough(ctx, *t.Jump, addr)
	}

	nc, err := p.dialRetryDNS(ctx, addr)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, nil, err
	}

	return nc, func() {}, nil
}

// dialRetryDNS dials; a resolver that dropped the question is asked again, as resolvers do
// drop questions that come in bursts.
func (p *Pool) dialRetryDNS(ctx context.Context, addr string) (net.Conn, error) {
	for i := 1; ; i++ {
		nc, err := p.cfg.Dial(ctx, "tcp", addr)
		if err == nil {
			return nc, nil
		}
		var dns *net.DNSError
		if !errors.As(err, &dns) {
			return nil, err
		}
		if dns.IsNotFound && strings.HasSuffix(strings.TrimSuffix(dns.Name, "."), ".local") {
			return nil, fmt.Errorf("%w (a .local name needs mDNS, which is not asked here; write its address)", err)
		}
		isFinal := i == 3 || dns.IsNotFound && !dns.IsTemporary
		if isFinal || sleep(ctx, jitter(time.Duration(i)*150*time.Millisecond)) != nil {
			return nil, err
		}
	}
}

// openThrough asks the jump host to connect to addr. Its connection is held for as long as
// the inner one is open; these channels do not count as sessions, for sshd neither.
func (p *Pool) openThrough(ctx context.Context, jump Target, addr string) (net.Conn, func(), error) {
	host, port, err := splitPort(addr)
	if err != nil {
		return nil, nil, err
	}

	c, err := p.get(ctx, jump)
	if err != nil {
		return nil, nil, fmt.Errorf("jump through %s: %w", jump.Name, err)
	}

	ch, err := c.openChannel(ctx, 0, "direct-tcpip", ssh.Marshal(struct {
		Host     string
		Port     uint32
		From     string
		FromPort uint32
	}{host, port, "127.0.0.1", 0}), ssh.DiscardRequests)
	if err != nil {
		c.release()
		return nil, nil, fmt.Errorf("jump through %s to %s: %w", jump.Name, addr, err)
	}

	return &channelConn{Channel: ch, to: addr}, c.release, nil
}

// errClosedDoor marks a peer that hung up before it asked who we are.
var errClosedDoor = errors.New("it hung up during the handshake")

func (p *Pool) handshake(ctx context.Context, t Target, addr string, nc net.Conn, pins []ssh.PublicKey, n *counters, lim limits) (*conn, error) {
	// The handshake knows no context and its Timeout covers none of it: what ends it is closing.
	ctx, cancel := context.WithTimeoutCause(ctx, lim.handshake, fmt.Errorf("handshake with %s: not done in %v", addr, lim.handshake))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()

	counted := &countedConn{Conn: nc, n: n, coalescer: &p.coalescer}
	var bad *HostKeyError
	var proven, asked bool
	var keyless error // why there is nothing to log in with
	sc, chans, reqs, err := ssh.NewClientConn(counted, addr, &ssh.ClientConfig{
		User:              t.user(),
		ClientVersion:     "SSH-2.0-bellhop",
		HostKeyAlgorithms: KeyAlgorithms(pins),
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			bad = checkPin(t.Name, addr, pins, key)
			proven = bad == nil
			if bad != nil {
				return bad
			}
			return nil
		},
		// One method with all keys: only the first of each kind of method is ever used.
		Auth: []ssh.AuthMethod{ssh.PublicKeysCallback(func() ([]ssh.Signer, error) {
			asked = true
			var signers []ssh.Signer
			signers, keyless = p.cfg.Signers()
			return signers, keyless
		})},
	})
	if err == nil && !stop() {
		sc.Close() // the deadline passed at the last moment
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		n.handshakes.Add(1)
		return newConn(p, t, sc, chans, reqs, counted), nil
	}

	var none *ssh.AlgorithmNegotiationError
	switch {
	case bad != nil:
		return nil, bad
	case errors.As(err, &none) && strings.Contains(err.Error(), "host key"):
		return nil, &HostKeyError{Host: t.Name, Address: addr, Pinned: fingerprints(pins)}
	case ctx.Err() != nil:
		return nil, &Error{t.Name, ErrUnreachable, context.Cause(ctx)}
	case keyless != nil:
		return nil, &Error{t.Name, ErrAuth, fmt.Errorf("%s@%s: %w", t.user(), addr, keyless)}
	case asked && strings.Contains(err.Error(), "unable to authenticate"):
		return nil, &Error{t.Name, ErrAuth, keysRefused{fmt.Errorf("%s@%s: %w", t.user(), addr, peerError(err))}}
	case asked: // hung up after it had our key: an account that may not log in (yet)
		return nil, &Error{t.Name, ErrAuth, fmt.Errorf("%s@%s hung up after the key was shown: %w", t.user(), addr, peerError(err))}
	case !proven:
		return nil, &Error{t.Name, ErrUnreachable, fmt.Errorf("%s: %w: %w", addr, errClosedDoor, peerError(err))}
	default:
		return nil, &Error{t.Name, ErrUnreachable, fmt.Errorf("%s: %w", addr, peerError(err))}
	}
}

// Pins are the host keys that t pins. A target without any is a *HostKeyError.
func (t Target) Pins() ([]ssh.PublicKey, error) {
	var pins []ssh.PublicKey
	for _, line := range t.HostKeys {
		k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return nil, fmt.Errorf("pinned host key %q: %w", line, err)
		}
		pins = append(pins, k)
	}

	if len(pins) == 0 {
		return nil, &HostKeyError{Host: t.Name}
	}

	return pins, nil
}

func checkPin(host, addr string, pins []ssh.PublicKey, key ssh.PublicKey) *HostKeyError {
	for _, pin := range pins {
		if pin.Type() == key.Type() && string(pin.Marshal()) == string(key.Marshal()) {
			return nil
		}
	}
	return &HostKeyError{Host: host, Address: addr, Pinned: fingerprints(pins), Got: fingerprint(key),
		Line: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))}
}

func fingerprints(keys []ssh.PublicKey) []string {
	var fs []string
	for _, k := range keys {
		fs = append(fs, fingerprint(k))
	}

	return fs
}

// KeyAlgorithms asks for the pinned keys' own algorithms. Left to itself the package asks for
// others first, and a host with several keys then shows one that is not pinned.
func KeyAlgorithms(pins []ssh.PublicKey) []string {
	var as []string
	for _, k := range pins {
		kinds := []string{k.Type()}
		if k.Type() == ssh.KeyAlgoRSA {
			kinds = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
		}
		for _, a := range kinds {
			if !slices.Contains(as, a) {
				as = append(as, a)
			}
		}
	}

	return as
}

func withPort(addr string) string {
	if _, _, err := net.SplitHostPort(addr); err == nil {
		return addr
	}

	return net.JoinHostPort(strings.Trim(addr, "[]"), "22")
}

func splitPort(addr string) (string, uint32, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}

	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("address %s: port: %w", addr, err)
	}

	return host, uint32(n), nil
}

// jitter is d, up to a quarter more or less.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}

	return d - d/4 + rand.N(d/2+1)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// channelConn makes a channel of the jump host a net.Conn. It has no deadlines: whoever
// wants to stop waiting closes it.
type channelConn struct {
	ssh.Channel
	to string
}

// Close does not wait: the jump host may be silent.
func (c *channelConn) Close() error {
	go c.Channel.Close()
	return nil
}

func (c *channelConn) LocalAddr() net.Addr              { return jumpAddr("jump") }
func (c *channelConn) RemoteAddr() net.Addr             { return jumpAddr(c.to) }
func (c *channelConn) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (c *channelConn) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (c *channelConn) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

type jumpAddr string

func (a jumpAddr) Network() string { return "tcp" }
func (a jumpAddr) String() string  { return string(a) }
