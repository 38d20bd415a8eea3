package newhost_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"bellhop/internal/lab"
	"bellhop/internal/link"
	"bellhop/internal/newhost"
)

func newSigner(t *testing.T) ssh.Signer {
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

func newHost(t *testing.T, name string) *lab.Host {
	t.Helper()
	h, err := lab.Listen(name, func(context.Context, io.Reader, io.Writer) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// newPool is one that logs in with a key of its own.
func newPool(t *testing.T) *link.Pool {
	t.Helper()
	signer := newSigner(t)
	p := link.NewPool(link.Config{Signers: func() ([]ssh.Signer, error) { return []ssh.Signer{signer}, nil }})
	t.Cleanup(func() { p.Close() })
	return p
}

// fakeSSH is a person's ssh that resolves every name to the host, and answers the look with
// the host's own facts, except where edit says otherwise. What it was given lands in log.
func fakeSSH(t *testing.T, h *lab.Host, hostKey string) (path, log string) {
	t.Helper()
	dir := t.TempDir()
	log = filepath.Join(dir, "log")
	host, port, err := net.SplitHostPort(h.Address())
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`#!/bin/sh
if [ "$1" = -G ]; then printf 'user root\nhostname %s\nport %s\nproxyjump none\n'; exit 0; fi
{ echo "$@"; cat; } >>%s
printf 'bellhop-facts 1\nuname Linux x86_64\ntime %%s\nuid 0\nsystemd systemd 252\nhostkey %s\nmount / rw\nkey added\nend\n' $(date +%%s)
`, host, port, log, hostKey)
	path = filepath.Join(dir, "ssh")
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path, log
}

func TestAdd(t *testing.T) {
	h := newHost(t, "lab")
	deployer := newSigner(t)
	h.Allow(deployer.PublicKey()) // the person's own keys do not work over bellhop's connection
	path, log := fakeSSH(t, h, h.HostKey())
	n := newhost.Newcomer{Name: "chrysalis", Destination: "root@chrysalis", SSH: path,
		DeployerKey: string(ssh.MarshalAuthorizedKey(deployer.PublicKey()))}
	target, facts, err := newhost.Add(t.Context(), newPool(t), n)
	if err != nil {
		t.Fatal(err)
	}
	if target.Name != "chrysalis" || target.Addresses[0] != h.Address() || target.HostKeys[0] != h.HostKey() || target.Arch != "amd64" || !facts.KeyAdded || len(facts.Problems) != 0 {
		t.Errorf("Add = %+v, %+v", target, facts)
	}
	got, _ := os.ReadFile(log)
	line := "restrict,pty,port-forwarding " + strings.TrimSpace(n.DeployerKey) + " bellhop\n"
	if !strings.HasSuffix(string(got), line) || !strings.Contains(string(got), "-- root@chrysalis exec /bin/sh -c ") {
		t.Errorf("ssh was given %q, want stdin %q", got, line)
	}
}

// TestAddLingeringProgram: what a person's config starts beside ssh, and outlives it, is no failure.
func TestAddLingeringProgram(t *testing.T) {
	h := newHost(t, "lab")
	path, _ := fakeSSH(t, h, h.HostKey())
	script, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pid := filepath.Join(t.TempDir(), "pid")
	lingers := strings.Replace(string(script), "{ echo", "sleep 1000 >/dev/null & echo $! >"+pid+"\n{ echo", 1)
	if err := os.WriteFile(path, []byte(lingers), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { exec.Command("sh", "-c", "kill $(cat "+pid+")").Run() })
	if _, _, err := newhost.Add(t.Context(), newPool(t), newhost.Newcomer{Name: "a", Destination: "root@a", SSH: path}); err != nil {
		t.Errorf("Add by an ssh beside which something goes on: %v", err)
	}
}

// TestAddOtherKey: what ssh reached is not what bellhop will reach.
func TestAddOtherKey(t *testing.T) {
	h, other := newHost(t, "lab"), newHost(t, "other")
	path, _ := fakeSSH(t, h, other.HostKey())
	_, _, err := newhost.Add(t.Context(), newPool(t), newhost.Newcomer{Name: "a", Destination: "root@a", SSH: path})
	if !link.HardStop(err) {
		t.Errorf("Add = %v, want a HostKeyError", err)
	}
}

func TestAddRefusesOptions(t *testing.T) {
	_, _, err := newhost.Add(t.Context(), newPool(t), newhost.Newcomer{Name: "a", Destination: "-oProxyCommand=touch /tmp/x"})
	if err == nil || !strings.Contains(err.Error(), "want USER@ADDRESS") {
		t.Errorf("Add of an option = %v", err)
	}
}

// Two hosts with pinned keys share no name that an ssh with options of its own could remember one of
// their keys by.
func TestAddAliasIsTheKeys(t *testing.T) {
	aliases := map[string]bool{}
	for range 2 {
		h := newHost(t, "lab")
		path, log := fakeSSH(t, h, h.HostKey())
		n := newhost.Newcomer{Name: "a", Destination: "root@a", SSH: path, HostKeys: []string{h.HostKey()}}
		for range 2 {
			if _, _, err := newhost.Add(t.Context(), newPool(t), n); err != nil {
				t.Fatal(err)
			}
		}
		got, _ := os.ReadFile(log)
		for _, word := range strings.Fields(string(got)) {
			if strings.HasPrefix(word, "HostKeyAlias=") {
				aliases[word] = true
			}
		}
	}
	if len(aliases) != 2 {
		t.Errorf("aliases of two hosts, each added twice: %v, want one for each", aliases)
	}
}

func TestCheck(t *testing.T) {
	h := newHost(t, "a")
	h.Uname("Linux aarch64")
	target := h.Target()
	target.Arch = "amd64"
	f, err := newhost.Check(t.Context(), newPool(t), target)
	if err != nil || f.Arch != "arm64" || f.Systemd != 252 || !f.Root || len(f.HostKeys) != 1 || f.HostKeys[0] != h.HostKey() {
		t.Errorf("Check = %+v, %v", f, err)
	}
	if len(f.Problems) != 1 || !strings.Contains(f.Problems[0].Error(), "arm64 there and amd64 in the config") {
		t.Errorf("Problems = %q", f.Problems)
	}
}
