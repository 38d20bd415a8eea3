// Package newhost looks at a machine that is to become a host, lets the deployer in, and pins its key.
//
// A newcomer is reached by a person's own ssh, since only a person can vouch for a machine whose key
// nobody has pinned. Facts are what a look at it found; a problem is a fact that keeps bellhop from
// working there. The same look serves for a host that is pinned already, over the deployer's own
// connection.
//
// The promise: a key is pinned only when the machine shows it over a connection of our own too, and
// a look changes nothing but the login's authorized_keys, where it is asked to.
package newhost

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"bellhop/internal/child"
	"bellhop/internal/link"
	"bellhop/internal/plain"
)

// How much of what a machine says is read, bytes.
const (
	maxLook   = 1 << 20
	maxStderr = 4 << 10 // the first of what ssh itself says
)

// A Newcomer is a machine that shall become a host. Until its key is pinned only a person
// can vouch for it, so it is reached by that person's own ssh: their keys, their
// known_hosts, their config, their answer to the fingerprint question.
type Newcomer struct {
	Name        string       // the name it gets
	Destination string       // as typed for ssh: "root@192.168.0.12", or a name from ~/.ssh/config
	Options     []string     // more arguments for ssh, before the destination
	DeployerKey string       // public key that may log in from now on, authorized_keys form; "" adds none
	SSH         string       // the ssh program; "" means ssh
	Stderr      io.Writer    // where ssh's own words go; nil drops them
	Jump        *link.Target // what bellhop itself will jump through
	HostKeys    []string     // pinned already: a machine that shows another is asked nothing; nil pins none
}

// Add looks at a newcomer through the person's ssh, adds the deployer's key to the
// login's authorized_keys unless it is there, and makes sure over a connection of its own
// that the host shows the key that ssh read from it. Where a key is pinned it is compared
// first, and ssh is held to it too. The target is what to write to bellhop.yaml. Problems stand in the facts: they are not errors of the look.
func Add(ctx context.Context, p *link.Pool, n Newcomer) (link.Target, Facts, error) {
	line := ""
	if n.DeployerKey != "" {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(n.DeployerKey))
		if err != nil {
			return link.Target{}, Facts{}, fmt.Errorf("deployer's key: %w", err)
		}
		line = authorizedLine(key)
	}

	t, via, err := n.resolve(ctx)
	if err != nil {
		return link.Target{}, Facts{}, err
	}

	elsewhere := via != "" && n.Jump == nil
	if t.HostKeys = n.HostKeys; len(t.HostKeys) > 0 {
		if err := shows(ctx, p, t, elsewhere); err != nil {
			return t, Facts{}, err
		}
	}

	out, err := n.ssh(ctx, strings.NewReader(line+"\n"), LookLine)
	if err != nil {
		return link.Target{}, Facts{}, err
	}

	f, err := parseFacts(out, time.Now())
	if err != nil {
		return link.Target{}, Facts{}, fmt.Errorf("%s: %w", n.Destination, err)
	}

	if elsewhere {
		f.Notes = append(f.Notes, &plain.Quote{What: fmt.Sprintf("your ssh goes through %s; unless the deployer reaches %s directly, the host needs jump:", via, t.Addresses[0])})
	}

	if t.Arch = f.Arch; len(n.HostKeys) > 0 {
		return t, f, nil
	}

	return t, f, pin(ctx, p, &t, &f, elsewhere)
}

// shows makes sure that t shows a key of its pins. What only the person's ssh reaches is left to
// that ssh.
func shows(ctx context.Context, p *link.Pool, t link.Target, elsewhere bool) error {
	err := p.Fresh(ctx, t)
	if errors.Is(err, link.ErrAuth) || elsewhere && errors.Is(err, link.ErrUnreachable) {
		return nil
	}

	return err
}

// pin sets t's host key to the one of f's that the host shows over our own connection.
func pin(ctx context.Context, p *link.Pool, t *link.Target, f *Facts, elsewhere bool) error {
	if len(f.HostKeys) == 0 {
		return nil // a problem already
	}

	for _, key := range f.HostKeys {
		t.HostKeys = []string{key}
		err := p.Fresh(ctx, *t)
		var hk *link.HostKeyError
		switch {
		case err == nil, errors.Is(err, link.ErrAuth): // refused, but by the host that was meant
			return nil
		case errors.As(err, &hk) && hk.Got == "": // it has that key and does not show it
			continue
		case elsewhere && errors.Is(err, link.ErrUnreachable):
			t.HostKeys = f.HostKeys[:1]
			return nil
		default:
			return fmt.Errorf("compare the host key over a connection of our own: %w", err)
		}
	}

	return &link.HostKeyError{Host: t.Name, Address: t.Addresses[0], Pinned: f.HostKeys[:1]}
}

// resolve asks ssh what the destination means: the config may say another name, port, user
// or a jump (via).
func (n Newcomer) resolve(ctx context.Context) (_ link.Target, via string, _ error) {
	if n.Destination == "" || strings.HasPrefix(n.Destination, "-") {
		return link.Target{}, "", fmt.Errorf("ssh destination %q: want USER@ADDRESS", n.Destination)
	}

	args := append(append([]string{"-G"}, n.Options...), "--", n.Destination)
	cmd := exec.CommandContext(ctx, cmp.Or(n.SSH, "ssh"), args...)
	cmd.Env = child.Env(child.SSH)
	out, err := cmd.Output()
	if err != nil {
		return link.Target{}, "", fmt.Errorf("ssh -G %s: %w", n.Destination, withStderr(err))
	}

	is := map[string]string{}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		is[key] = value
	}

	if is["hostname"] == "" {
		return link.Target{}, "", fmt.Errorf("ssh -G %s: it names no host", n.Destination)
	}

	via = cmp.Or(is["proxyjump"], is["proxycommand"])
	if via == "none" {
		via = ""
	}
	return link.Target{
		Name:      n.Name,
		Addresses: []string{net.JoinHostPort(is["hostname"], cmp.Or(is["port"], "22"))},
		User:      is["user"],
		Jump:      n.Jump,
	}, via, nil
}

// pinned are arguments that hold ssh to the pinned keys, whatever the person's known_hosts and
// config say: of an option the first value counts. A connection that stands is not shared,
// since nobody compared its key with these.
func (n Newcomer) pinned() (args []string, drop func(), _ error) {
	if len(n.HostKeys) == 0 {
		return nil, func() {}, nil
	}

	pins, err := link.Target{Name: n.Name, HostKeys: n.HostKeys}.Pins()
	if err != nil {
		return nil, nil, err
	}

	f, err := os.CreateTemp("", "bellhop-known-hosts-")
	if err != nil {
		return nil, nil, err
	}

	drop = func() { os.Remove(f.Name()) }
	// The alias is the keys' own: an ssh that is a person's script may bring options of its own before
	// ours, and remember one host's key under a name that the next host would have too.
	all := sha256.New()
	for _, k := range pins {
		all.Write(k.Marshal())
	}

	alias := fmt.Sprintf("pinned-by-bellhop-%x", all.Sum(nil)[:8])
	for _, k := range pins {
		_, werr := fmt.Fprintf(f, "%s %s", alias, ssh.MarshalAuthorizedKey(k))
		err = errors.Join(err, werr)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		drop()
		return nil, nil, err
	}

	for _, o := range []string{
		`UserKnownHostsFile="` + strings.ReplaceAll(f.Name(), "%", "%%") + `"`, "GlobalKnownHostsFile=/dev/null", "HostKeyAlias=" + alias,
		"HostKeyAlgorithms=" + strings.Join(link.KeyAlgorithms(pins), ","), "StrictHostKeyChecking=yes", "VerifyHostKeyDNS=no", "UpdateHostKeys=no",
		"IgnoreUnknown=KnownHostsCommand", "KnownHostsCommand=none", "ControlPath=none",
	} {
		args = append(args, "-o", o)
	}

	return args, drop, nil
}

// ssh runs line through the person's ssh. Questions are asked on their terminal.
func (n Newcomer) ssh(ctx context.Context, stdin io.Reader, line string) ([]byte, error) {
	pinned, drop, err := n.pinned()
	if err != nil {
		return nil, err
	}
	defer drop()
	args := slices.Concat([]string{"-T", "-o", "ForwardAgent=no", "-o", "ClearAllForwardings=yes", "-o", "RemoteCommand=none"}, pinned, n.Options)
	cmd := exec.CommandContext(ctx, cmp.Or(n.SSH, "ssh"), append(args, "--", n.Destination, line)...)
	cmd.WaitDelay = 2 * time.Second
	cmd.Stdin = stdin
	var out bytes.Buffer
	errs := &head{left: maxStderr}
	cmd.Stdout = &limited{w: &out, left: maxLook}
	cmd.Stderr = errs
	if n.Stderr != nil {
		cmd.Stderr = io.MultiWriter(n.Stderr, errs)
	}

	cmd.Env = child.Env(child.SSH)
	// A program that their config starts may keep stderr open for longer than ssh lasts.
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return nil, plain.Quoted(errs.buf.Bytes(), "ssh %s: %v", n.Destination, err)
	}

	return out.Bytes(), nil
}

func withStderr(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return plain.Quoted(exit.Stderr, "%v", err)
	}

	return err
}

// Check takes the same look at a host that is already pinned, over our own connection, and
// changes nothing there. Facts that differ from what is wanted stand in Problems.
func Check(ctx context.Context, p *link.Pool, t link.Target) (Facts, error) {
	var out bytes.Buffer
	look := link.Shell{Command: LookLine, Out: &limited{w: &out, left: maxLook}}
	if _, err := p.Shell(ctx, t, look); err != nil {
		return Facts{}, err
	}

	f, err := parseFacts(out.Bytes(), time.Now())
	if err != nil {
		return Facts{}, &link.Error{Host: t.Name, Kind: link.ErrHelper, Err: err}
	}

	p.Learn(t.Name, f.Arch)
	if t.Arch != "" && f.Arch != "" && t.Arch != f.Arch {
		f.Problems = append(f.Problems, &plain.Quote{What: fmt.Sprintf("arch is %s there and %s in the config", f.Arch, t.Arch)})
	}

	return f, nil
}

var errTooMuch = errors.New("the host says too much")

// limited fails a writer that says too much.
type limited struct {
	w    io.Writer
	left int // bytes
}

func (l *limited) Write(p []byte) (int, error) {
	if len(p) > l.left {
		return 0, errTooMuch
	}

	l.left -= len(p)
	return l.w.Write(p)
}

// head keeps the first bytes that are written to it, and takes the rest without a word.
type head struct {
	buf  bytes.Buffer
	left int // bytes
}

func (h *head) Write(p []byte) (int, error) {
	first := p[:min(len(p), h.left)]
	h.left -= len(first)
	h.buf.Write(first)
	return len(p), nil
}
