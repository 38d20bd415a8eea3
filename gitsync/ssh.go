package gitsync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"golang.org/x/crypto/ssh"

	"bellhop/gitsync/bare"
	"bellhop/gitsync/objects"
	"bellhop/gitsync/protocol"
	"bellhop/internal/plain"
)

// githubKeys are GitHub's host keys, as it publishes them.
var githubKeys = []string{
	"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
	"ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg=",
	"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQCj7ndNxQowgcQnjshcLrqPEiiphnt+VTTvDP6mHBL9j1aNUkY4Ue1gvwnGLVlOhGeYrnZaMgRK6+PKCUXaDbC7qtbW8gIkhL7aGCsOr/C56SJMy/BCZfxd1nWzAOxSDPgVsmerOBYfNqltV9/hWCqBywINIR+5dIg6JTJ72pcEpEjcYgXkE2YEFXV1JHnsKgbLWNlhScqb2UmyRkQyytRLtL+38TGxkxCflmO+5Z8CSSNY7GidjMIZ7Q4zMjA2n1nGrlTDkzwDCsw+wqFPGQA179cnfGWOWRVruj16z6XyvxvjJwbz0wQZ75XK5tKSb7FNyeIEs4TT4jk+S4dhPeAUC5y+bDYirYgM4GC7uEnztnZyaVWQ7B381AK4Qdrwt51ZqExKbQpTUNn+EjqoTwvqNj4kqx5QUCI0ThS/YkOxJCXmPUWZbhjpCg56i+2aB6CmK2JGhn57K5mj0MNdBXA4/WnwH6XoPWJzK5Nyu2zB3nAZp+S5hpQs+p1vN1/wsjk=",
}

// A NoPinError says that no key of a git server is pinned, so that it can't be told from another.
type NoPinError struct{ Host, Port string }

// Error names the server.
func (e *NoPinError) Error() string {
	return fmt.Sprintf("the host key of %s is not known: none is pinned", net.JoinHostPort(e.Host, e.Port))
}

// Is makes it a kind of ErrHostKey.
func (e *NoPinError) Is(target error) bool { return target == ErrHostKey }

// sshRemote runs git-upload-pack at the other end of a pinned SSH connection. It reads no
// ssh_config, no known_hosts and asks no agent: what it does is what the flags say.
type sshRemote struct {
	addr, user, path string
	signer           func() (ssh.Signer, error)
	pins             []ssh.PublicKey
	limits           objects.Limits
}

func newSSH(cfg Config, user, host, port, path string) (remote, error) {
	if user == "" {
		user = "git"
	}

	r := &sshRemote{addr: net.JoinHostPort(host, port), user: user, path: path, limits: cfg.limits()}
	lines := cfg.HostKeys
	if host == "github.com" || host == "ssh.github.com" {
		lines = append(append([]string{}, lines...), githubKeys...)
	}

	for _, line := range keyLines(lines) {
		pin, err := parsePin(line)
		if err != nil {
			return nil, err
		}
		r.pins = append(r.pins, pin)
	}

	r.signer = func() (ssh.Signer, error) {
		if cfg.Signer != nil {
			return cfg.Signer, nil
		}
		if cfg.KeyFile == "" {
			return nil, errors.New("no deploy key: set --repo-key")
		}
		b, err := readKeyFile(cfg.KeyFile)
		if err != nil {
			return nil, err
		}
		s, err := ssh.ParsePrivateKey(b)
		if err != nil {
			return nil, fmt.Errorf("deploy key %s: %w", cfg.KeyFile, err)
		}
		return s, nil
	}

	return r, nil
}

// keyLines are the lines that hold a key: ssh-keyscan and a known_hosts file give several at once, with
// remarks between them.
func keyLines(values []string) (lines []string) {
	for _, value := range values {
		for line := range strings.Lines(value) {
			line = strings.TrimSpace(line)
			if line != "" && !strings.HasPrefix(line, "#") {
				lines = append(lines, line)
			}
		}
	}

	return lines
}

// parsePin reads a line of authorized_keys or of known_hosts.
func parsePin(line string) (ssh.PublicKey, error) {
	line = strings.TrimSpace(line)
	if key, _, opts, _, err := ssh.ParseAuthorizedKey([]byte(line)); err == nil && len(opts) == 0 {
		return key, nil
	}

	if marker, _, key, _, _, err := ssh.ParseKnownHosts([]byte(line)); err == nil && marker == "" {
		return key, nil
	}

	return nil, fmt.Errorf("repo host key %q is no public key: give one line such as `ssh-ed25519 AAAA…`", line)
}

// algorithms asks for the kinds of the pinned keys; otherwise a server with several keys
// could answer with one that is not pinned.
func (r *sshRemote) algorithms() []string {
	var algos []string
	for _, pin := range r.pins {
		if pin.Type() == ssh.KeyAlgoRSA {
			algos = append(algos, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		} else {
			algos = append(algos, pin.Type())
		}
	}

	return algos
}

func (r *sshRemote) pinned(_ string, _ net.Addr, key ssh.PublicKey) error {
	for _, pin := range r.pins {
		if bytes.Equal(pin.Marshal(), key.Marshal()) {
			return nil
		}
	}

	return fmt.Errorf("%w: %s shows %s %s; if the key was changed on purpose, give the new one to --repo-host-key",
		ErrHostKey, r.addr, key.Type(), ssh.FingerprintSHA256(key))
}

func (r *sshRemote) dial(ctx context.Context) (conn, error) {
	if len(r.pins) == 0 {
		host, port, _ := net.SplitHostPort(r.addr)
		return nil, &NoPinError{Host: host, Port: port}
	}

	signer, err := r.signer()
	if err != nil {
		return nil, err
	}

	nc, err := (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext(ctx, "tcp", r.addr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}

	// The package has no contexts: closing the connection is what ends a stalled call.
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	c := &sshConn{r: r, nc: nc, stop: stop}
	if err := c.start(signer); err != nil {
		c.close()
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", ErrUnreachable, ctx.Err())
		}
		return nil, err
	}

	return c, nil
}

type sshConn struct {
	*protocol.Advertised
	r       *sshRemote
	nc      net.Conn
	client  *ssh.Client
	session *ssh.Session
	stdin   io.WriteCloser
	stdout  io.Reader
	stop    func() bool
	asked   bool // for a pack
}

func (c *sshConn) moved() string { return "" }

func (c *sshConn) start(signer ssh.Signer) error {
	c.nc.SetDeadline(time.Now().Add(20 * time.Second))
	conn, chans, reqs, err := ssh.NewClientConn(c.nc, c.r.addr, &ssh.ClientConfig{
		User:              c.r.user,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback:   c.r.pinned,
		HostKeyAlgorithms: c.r.algorithms(),
	})
	switch {
	case errors.Is(err, ErrHostKey):
		return err
	case err != nil && strings.Contains(err.Error(), "unable to authenticate"):
		return fmt.Errorf("%w: %s@%s does not know the deploy key %s: add it there", ErrAuth, c.r.user, c.r.addr, ssh.FingerprintSHA256(signer.PublicKey()))
	case err != nil && strings.Contains(err.Error(), "no common algorithm for host key"):
		return fmt.Errorf("%w: %s has no key of a pinned kind: %w", ErrHostKey, c.r.addr, err)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}

	c.nc.SetDeadline(time.Time{})
	c.client = ssh.NewClient(conn, chans, reqs)
	return c.exec()
}

func (c *sshConn) exec() error {
	s, err := c.client.NewSession()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}

	var said tail
	s.Stderr = &said
	if c.stdin, err = s.StdinPipe(); err != nil {
		return err
	}

	if c.stdout, err = s.StdoutPipe(); err != nil {
		return err
	}

	if err := s.Start("git-upload-pack " + quote(c.r.path)); err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}

	c.session = s
	if c.Advertised, err = protocol.ReadRefs(c.stdout); err != nil {
		if errors.Is(err, protocol.ErrSHA256) || errors.Is(err, protocol.ErrRemoteSays) {
			return fmt.Errorf("%w: %s: %w", ErrUnreachable, c.r.addr, err)
		}
		s.Wait()
		if text := said.line(); text != "" {
			return fmt.Errorf("%w: %s says: %s", ErrAuth, c.r.addr, text)
		}
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}

	return nil
}

func (c *sshConn) fetch(ctx context.Context, dir string, want plumbing.Hash, starts []plumbing.Hash) error {
	into := bare.Open(dir)
	defer into.Close()
	c.asked = true
	if _, err := io.WriteString(c.stdin, c.Request(want, into.Haves(ctx, starts), true)); err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}

	c.stdin.Close()
	return c.ReadPack(ctx, c.stdout, into, c.r.limits)
}

// close ends the conversation. A server of which nothing was asked hears a flush, which is how
// git says so, and gets a moment to leave: one that is only cut off logs an error.
func (c *sshConn) close() {
	if c.Advertised != nil && !c.asked {
		io.WriteString(c.stdin, "0000")
		c.stdin.Close()
		left := make(chan struct{})
		go func() { c.session.Wait(); close(left) }()
		select {
		case <-left:
		case <-time.After(time.Second):
		}
	}

	c.stop()
	if c.client != nil {
		c.client.Close()
	}

	c.nc.Close()
}

// quote makes one word for the shell at the other end, as git does.
func quote(s string) string {
	return "'" + strings.NewReplacer("'", `'\''`, "!", `'\!'`).Replace(s) + "'"
}

// tail keeps the first bytes of what the other end says.
type tail struct{ bytes.Buffer }

// line is what was said, as one line.
func (t *tail) line() string { return plain.Line(strings.TrimSpace(t.String()), 0) }

func (t *tail) Write(p []byte) (int, error) {
	if room := 1024 - t.Len(); room > 0 {
		t.Buffer.Write(p[:min(room, len(p))])
	}

	return len(p), nil
}

// readKeyFile reads a deploy key.
func readKeyFile(file string) ([]byte, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read deploy key: %w", err)
	}

	return b, nil
}
