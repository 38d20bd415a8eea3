package lab

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"bellhop/internal/host/helper"
	"bellhop/internal/host/machine"
	"bellhop/internal/lab/port"
	"bellhop/internal/link"
)

// A Host is an SSH server on 127.0.0.1 that stands for one machine. It has no shell: it
// knows the two lines that link runs, to start and to send the helper, and the helper is
// helper.Serve in this process. Every switch may be thrown while it runs.
type Host struct {
	name  string
	serve func(ctx context.Context, in io.Reader, out io.Writer) error
	ahead func(ctx context.Context, in io.Reader, out io.Writer) error // serve for a deployer that speaks first
	root  string                                                       // of the twin, for cat; "" has no files
	addr  string
	n     counters

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	gate   gate

	systemd machine.Systemd // of the twin; nil: it has none

	mu       sync.Mutex
	listener net.Listener // nil while cut
	release  func()       // gives the port back that is kept for it; nil without a network
	cut      bool
	closed   bool
	conns    map[net.Conn]struct{}
	config   *ssh.ServerConfig
	key      ssh.Signer
	allow    []ssh.PublicKey
	helpers  []string // digests that were sent; nil: any digest counts as there
	noise    string
	uname    string
	sessions int // at once on a connection; 0 is any number, -1 none
	silent   bool
	deaf     bool
}

// Counts tells what was done to a Host since it was made.
type Counts struct {
	Connections int64 // accepted
	Logins      int64 // handshakes that succeeded
	Channels    int64 // sessions and tunnels opened
	Sessions    int64 // commands begun
	Uploads     int64 // helpers taken
	Keepalives  int64
	// RoundTrips counts, over all sessions: one for the channel, one for the command, and one
	// each time the deployer spoke after having heard something.
	RoundTrips        int64
	BytesIn, BytesOut int64 // on the wire, as the host sees them
}

type counters struct {
	conns, logins, channels, sessions, uploads, keepalives, trips, in, out atomic.Int64
}

// NewHost starts an SSH host for a twin: m is a *Machine.
func NewHost(name string, m interface{ Host() *machine.Machine }) (*Host, error) {
	h, err := Listen(name, func(ctx context.Context, in io.Reader, out io.Writer) error {
		return helper.Serve(ctx, m.Host(), in, out)
	})
	if err == nil {
		h.root, h.systemd = m.Host().Root, m.Host().Systemd
		h.ahead = func(ctx context.Context, in io.Reader, out io.Writer) error {
			return helper.ServeOptimistic(ctx, m.Host(), in, out)
		}
	}
	return h, err
}

// Listen starts an SSH host whose helper is serve.
func Listen(name string, serve func(ctx context.Context, in io.Reader, out io.Writer) error) (*Host, error) {
	h, err := Piped(name, serve)
	if err != nil {
		return nil, err
	}
	if h.addr, h.release, err = port.Reserve(); err != nil {
		return nil, fmt.Errorf("lab host %s: %w", name, err)
	}
	if err := h.listen(h.addr); err != nil {
		h.release()
		return nil, err
	}
	return h, nil
}

// Piped is Listen without a network, for tests whose time is not real: what Connect returns
// is the other end of a connection to it.
func Piped(name string, serve func(ctx context.Context, in io.Reader, out io.Writer) error) (*Host, error) {
	h := &Host{name: name, serve: serve, ahead: serve, conns: map[net.Conn]struct{}{}, uname: "Linux " + unameMachine(), addr: name + ":22"}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h, h.NewHostKey()
}

// Connect connects to the host within the process; it fails while the host is cut.
func (h *Host) Connect() (net.Conn, error) {
	h.mu.Lock()
	cut := h.cut || h.closed
	h.mu.Unlock()
	if cut {
		return nil, fmt.Errorf("dial %s: connection refused", h.addr)
	}
	here, there := pipe()
	h.wg.Go(func() { h.connection(there) })
	return here, nil
}

// Target is how link reaches the host, with its key pinned.
func (h *Host) Target() link.Target {
	return link.Target{Name: h.name, Addresses: []string{h.addr}, HostKeys: []string{h.HostKey()}}
}

// Address is where it listens.
func (h *Host) Address() string { return h.addr }

// HostKey is its public key as a line for bellhop.yaml.
func (h *Host) HostKey() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(h.key.PublicKey())))
}

// NewHostKey gives the host another key, as a reinstalled machine has. Connections stay.
func (h *Host) NewHostKey() error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	return h.UseHostKey(key)
}

// UseHostKey gives the host this key, as one has that was there before.
func (h *Host) UseHostKey(key ed25519.PrivateKey) error {
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return err
	}
	config := &ssh.ServerConfig{PublicKeyCallback: h.login, ServerVersion: "SSH-2.0-bellhop-lab"}
	config.AddHostKey(signer)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.key, h.config = signer, config
	return nil
}

// OneMoreKey gives the host another key beside its own, as real ones have several kinds.
func (h *Host) OneMoreKey(key ssh.Signer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	config := &ssh.ServerConfig{PublicKeyCallback: h.login, ServerVersion: h.config.ServerVersion}
	config.AddHostKey(h.key)
	config.AddHostKey(key)
	h.config = config
}

// Allow lets only these keys log in. Before the first call any key may.
func (h *Host) Allow(keys ...ssh.PublicKey) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.allow = append([]ssh.PublicKey{}, keys...)
}

// Bare takes the helper away: it must be sent before it runs.
func (h *Host) Bare() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.helpers = []string{}
}

// Noise is printed before every command's output, as a login shell's rc file may.
func (h *Host) Noise(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.noise = text
}

// MaxSessions is sshd's: how many sessions one connection may have at once, with -1 none. One counts for a moment
// longer than it lasts, until its shell is reaped.
func (h *Host) MaxSessions(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sessions = n
}

// Silent makes each command read what it is told and say nothing but the noise, as a ForceCommand
// does that waits for something else.
func (h *Host) Silent() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.silent = true
}

// NoCommands refuses every command, as an SSH server does that only serves files.
func (h *Host) NoCommands() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deaf = true
}

// Uname is what the host calls itself, as in "Linux aarch64".
func (h *Host) Uname(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.uname = text
}

// Cut ends every connection and refuses new ones, until Mend.
func (h *Host) Cut() {
	h.mu.Lock()
	h.cut = true
	if h.listener != nil {
		h.listener.Close()
		h.listener = nil
	}
	h.mu.Unlock()
	h.Drop()
}

// Drop ends every connection; new ones are welcome.
func (h *Host) Drop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.conns {
		c.Close()
	}
}

// Stall lets every connection stand and moves no byte on any, until Mend: what a pulled
// cable looks like to the other end.
func (h *Host) Stall() { h.gate.shut() }

// Mend undoes Cut and Stall. The address stays.
func (h *Host) Mend() error {
	h.gate.open()
	h.mu.Lock()
	again := h.cut && !h.closed && strings.HasPrefix(h.addr, "127.")
	h.cut = false
	h.mu.Unlock()
	if !again {
		return nil
	}
	return h.listen(h.addr)
}

// Counts tells what was done to the host so far.
func (h *Host) Counts() Counts {
	n := &h.n
	return Counts{n.conns.Load(), n.logins.Load(), n.channels.Load(), n.sessions.Load(), n.uploads.Load(),
		n.keepalives.Load(), n.trips.Load(), n.in.Load(), n.out.Load()}
}

// Close ends the host and waits for what it runs.
func (h *Host) Close() error {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.cancel()
	h.gate.open()
	h.Cut()
	h.wg.Wait()
	if h.release != nil {
		h.release()
		h.release = nil
	}
	return nil
}

func (h *Host) listen(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("lab host %s: %w", h.name, err)
	}

	h.mu.Lock()
	defer h.mu.Unlock()
	h.listener = l
	h.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			h.wg.Go(func() { h.connection(c) })
		}
	})
	return nil
}

func (h *Host) login(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.allow == nil || slices.ContainsFunc(h.allow, func(k ssh.PublicKey) bool { return string(k.Marshal()) == string(key.Marshal()) }) {
		return nil, nil
	}
	return nil, errors.New("not this key")
}

func (h *Host) connection(c net.Conn) {
	h.n.conns.Add(1)
	h.mu.Lock()
	config := h.config
	if h.closed || h.cut { // it came just before the listener went
		h.mu.Unlock()
		c.Close()
		return
	}

	h.conns[c] = struct{}{}
	h.mu.Unlock()
	defer func() {
		c.Close()
		h.mu.Lock()
		delete(h.conns, c)
		h.mu.Unlock()
	}()
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	_, chans, reqs, err := ssh.NewServerConn(&gatedConn{Conn: c, h: h, ctx: ctx}, config)
	if err != nil {
		return
	}

	h.n.logins.Add(1)
	h.wg.Go(func() {
		for r := range reqs {
			if r.Type == "keepalive@openssh.com" {
				h.n.keepalives.Add(1)
			}
			if r.WantReply {
				r.Reply(false, nil)
			}
		}
	})
	var running atomic.Int32
	for nc := range chans {
		h.n.channels.Add(1)
		switch nc.ChannelType() {
		case "session":
			h.mu.Lock()
			most := int32(h.sessions)
			h.mu.Unlock()
			if most < 0 || most > 0 && running.Load() >= most {
				nc.Reject(ssh.ConnectionFailed, "open failed")
				continue
			}
			running.Add(1)
			h.wg.Go(func() {
				h.session(ctx, nc)
				if most > 0 {
					time.Sleep(reaping)
				}
				running.Add(-1)
			})
		case "direct-tcpip":
			h.wg.Go(func() { tunnel(ctx, nc) })
		default:
			nc.Reject(ssh.UnknownChannelType, "not here")
		}
	}
}

// reaping is how long sshd takes to hear of a shell's end.
const reaping = 50 * time.Millisecond

// unameMachine is the architecture as uname -m names it.
func unameMachine() string {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	case "arm":
		return "armv7l"
	case "386":
		return "i686"
	}
	return runtime.GOARCH
}
