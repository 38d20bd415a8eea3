package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"bellhop/internal/link"
	"bellhop/internal/newhost"
)

// session waits for the command of a channel and runs it.
func (h *Host) session(ctx context.Context, nc ssh.NewChannel) {
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	h.n.trips.Add(1)
	h.mu.Lock()
	deaf := h.deaf
	h.mu.Unlock()
	line, ok := command(reqs, deaf)
	if !ok {
		return
	}

	h.n.sessions.Add(1)
	h.n.trips.Add(1)
	// From here on the channel's requests only tell its end.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		ssh.DiscardRequests(reqs)
		cancel()
	}()
	h.mu.Lock()
	noise, silent := h.noise, h.silent
	h.mu.Unlock()
	io.WriteString(ch, noise)
	if silent {
		io.Copy(io.Discard, ch)
		return
	}

	code := h.run(ctx, line, &turns{ReadWriter: ch, n: &h.n.trips}, ch.Stderr())
	ch.CloseWrite()
	ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{uint32(code)}))
}

// command answers a channel's requests up to its exec.
func command(reqs <-chan *ssh.Request, deaf bool) (line string, ok bool) {
	for r := range reqs {
		if deaf || r.Type != "exec" {
			r.Reply(r.Type == "pty-req" || r.Type == "env", nil)
			continue
		}

		var m struct{ Line string }
		err := ssh.Unmarshal(r.Payload, &m)
		r.Reply(err == nil, nil)
		return m.Line, err == nil
	}
	return "", false
}

// run does what the line says, as far as a host without a shell can.
func (h *Host) run(ctx context.Context, line string, ch io.ReadWriter, errs io.Writer) int {
	if line == newhost.LookLine {
		return h.facts(ch)
	}

	verb, digest := link.ParseLine(line)
	switch verb {
	case "serve", "ahead":
		h.mu.Lock()
		there, uname := h.helpers == nil || slices.Contains(h.helpers, digest), h.uname
		h.mu.Unlock()
		if !there {
			fmt.Fprintf(ch, "\x00bellhop-need %s\n", uname)
			return 0
		}
		serve := h.serve
		if verb == "ahead" {
			serve = h.ahead
		}
		if err := serve(ctx, ch, ch); err != nil {
			fmt.Fprintln(errs, "bellhop-host:", err) // as helper.Main does
			return 1
		}
		return 0
	case "upload":
		return h.upload(digest, ch, ch)
	}

	return h.plain(line, ch, errs)
}

// plain knows a few commands that change nothing.
func (h *Host) plain(line string, ch io.ReadWriter, errs io.Writer) int {
	words := strings.Fields(unwrap(line))
	isShow := len(words) == 6 && words[0] == "systemctl" && words[1] == "show"
	switch {
	case len(words) == 1 && words[0] == "true":
		return 0
	case len(words) == 1 && words[0] == "false":
		return 1
	case len(words) == 2 && words[0] == "exit":
		code, err := strconv.Atoi(words[1])
		if err != nil {
			return 2
		}
		return code
	case len(words) > 0 && words[0] == "journalctl": // nobody writes one; what was asked is told
		if !slices.Contains(words, "--quiet") {
			fmt.Fprintln(ch, unwrap(line))
		}
		return 0
	case isShow && h.systemd != nil:
		return h.loadState(ch, words[5])
	case len(words) > 0 && words[0] == "echo":
		fmt.Fprintln(ch, strings.Join(words[1:], " "))
		return 0
	case len(words) == 1 && words[0] == "cat":
		io.Copy(ch, ch)
		return 0
	case len(words) == 2 && words[0] == "cat" && h.root != "":
		p, err := os.ReadFile(filepath.Join(h.root, filepath.Clean("/"+words[1])))
		if err != nil {
			fmt.Fprintf(errs, "cat: %s: no such file\n", words[1])
			return 1
		}
		ch.Write(p)
		return 0
	}

	fmt.Fprintln(errs, "this host is imitated: it knows true, false, exit, echo, journalctl, systemctl show and cat")
	return 127
}

// loadState prints what systemctl show --property=LoadState --value prints of a unit.
func (h *Host) loadState(ch io.Writer, unit string) int {
	units, err := h.systemd.Units(h.ctx, []string{unit})
	if err != nil {
		return 1
	}
	fmt.Fprintln(ch, units[unit].Load)
	return 0
}

// unwrap takes off what link puts around a command.
func unwrap(line string) string {
	for _, head := range []string{"exec sudo -n -- ", "exec "} {
		line = strings.TrimPrefix(line, head)
	}
	if in, ok := strings.CutPrefix(line, "/bin/sh -c '"); ok {
		line = strings.ReplaceAll(strings.TrimSuffix(in, "'"), `'\''`, "'")
	}
	return line
}

// tunnel connects a channel to where it asks, as sshd does for a jump.
func tunnel(ctx context.Context, nc ssh.NewChannel) {
	var m struct {
		Host string
		Port uint32
		From string
		Back uint32
	}
	if err := ssh.Unmarshal(nc.ExtraData(), &m); err != nil {
		nc.Reject(ssh.ConnectionFailed, "can't read that")
		return
	}

	to, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(m.Host, fmt.Sprint(m.Port)))
	if err != nil {
		nc.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	defer to.Close()
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	go ssh.DiscardRequests(reqs)
	stop := context.AfterFunc(ctx, func() { to.Close() })
	defer stop()
	go func() {
		io.Copy(to, ch)
		to.Close()
	}()
	io.Copy(ch, to)
}

// facts answers the look of newhost. It adds no key: whom to let in is Allow's.
func (h *Host) facts(out io.Writer) int {
	h.mu.Lock()
	uname := h.uname
	h.mu.Unlock()
	fmt.Fprintf(out, "bellhop-facts 1\nuname %s\ntime %d\nuid 0\nsystemd systemd 252 (imitated)\nhostkey %s\nmount / rw\nend\n",
		uname, time.Now().Unix(), h.HostKey())
	return 0
}

// upload takes a helper as the real line does: only whole.
func (h *Host) upload(digest string, in io.Reader, out io.Writer) int {
	sum := sha256.New()
	if _, err := io.Copy(sum, in); err != nil || hex.EncodeToString(sum.Sum(nil)) != digest {
		io.WriteString(out, "\x00bellhop-fail digest /var/lib/bellhop/bin\n")
		return 1
	}

	h.n.uploads.Add(1)
	h.mu.Lock()
	if h.helpers != nil {
		h.helpers = append(h.helpers, digest)
	}

	h.mu.Unlock()
	io.WriteString(out, "\x00bellhop-done /var/lib/bellhop/bin\n")
	return 0
}
