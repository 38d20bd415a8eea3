package link_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"bellhop/internal/bundle"
	"bellhop/internal/link"
	"bellhop/internal/plain"
)

// TestSignersAreAskedAgain: without a key the error is the one that Signers gave, and the next handshake
// asks again.
func TestSignersAreAskedAgain(t *testing.T) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	h := newHost(t, "a")
	allowed, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	h.Allow(allowed)

	hasKey := false
	cfg := config(t)
	cfg.Signers = func() ([]ssh.Signer, error) {
		if !hasKey {
			return nil, errors.New("there is no key here")
		}
		return []ssh.Signer{signer}, nil
	}
	pool := newPool(t, cfg)
	err = talk(t.Context(), pool, h.Target())
	if !errors.Is(err, link.ErrAuth) || !strings.HasSuffix(err.Error(), ": there is no key here") || strings.Contains(err.Error(), "hung up") {
		t.Errorf("without a key: %v, want that there is none", err)
	}

	hasKey = true
	if err := talk(t.Context(), pool, h.Target()); err != nil {
		t.Error(err)
	}
}

// TestAgentSigners: of an agent's many keys only the named one is shown, and an agent that
// was restarted is asked anew.
func TestAgentSigners(t *testing.T) {
	ring := agent.NewKeyring()
	var pubs []ssh.PublicKey
	for range 8 {
		pub, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := ring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
			t.Fatal(err)
		}
		p, _ := ssh.NewPublicKey(pub)
		pubs = append(pubs, p)
	}
	sock := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conns := make(chan net.Conn, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns <- c
			go agent.ServeAgent(ring, c)
		}
	}()
	t.Setenv("SSH_AUTH_SOCK", sock)
	h := newHost(t, "a")
	h.Allow(pubs[7])
	cfg := config(t)
	cfg.Signers = link.AgentSigners(pubs[7])
	p := newPool(t, cfg)
	for range 2 {
		if err := p.Fresh(t.Context(), h.Target()); err != nil {
			t.Error(err)
		}
		(<-conns).Close()
	}
	if _, err := link.AgentSigners(newSigner(t).PublicKey())(); err == nil {
		t.Error("a key that the agent lacks gave no error")
	}
}

func TestFindHelper(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("BELLHOP_HELPERS", dir)
	path := filepath.Join(dir, "bellhop-host-linux-riscv64")
	for _, body := range []string{"one", "three"} {
		if err := os.WriteFile(path, []byte(body), 0o755); err != nil {
			t.Fatal(err)
		}
		got, digest, err := link.FindHelper("linux", "riscv64")
		if got != path || digest != bundle.DigestBytes([]byte(body)) || err != nil {
			t.Errorf("FindHelper with %q = %s, %s, %v", body, got, digest, err)
		}
	}
	if _, _, err := link.FindHelper("linux", "s390x"); err == nil || !strings.Contains(err.Error(), "bellhop-host-linux-s390x") {
		t.Errorf("FindHelper of what is not there = %v, want one that names the file", err)
	}
	if _, digest, err := link.FindHelper(runtime.GOOS, runtime.GOARCH); err != nil || len(digest) != 64 {
		t.Errorf("FindHelper of this program = %q, %v", digest, err)
	}
}

// TestHelperOfAnotherUser plants a helper where FindHelper looks first.
func TestHelperOfAnotherUser(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("BELLHOP_HELPERS", dir)
	path := filepath.Join(dir, "bellhop-host-linux-riscv64")
	if err := os.WriteFile(path, []byte("theirs"), 0o755); err != nil {
		t.Fatal(err)
	}
	refused := func(why string) {
		t.Helper()
		if got, _, err := link.FindHelper("linux", "riscv64"); err == nil || got != "" || !strings.Contains(err.Error(), why) {
			t.Errorf("FindHelper = %q, %v, want an error with %q", got, err, why)
		}
	}

	os.Chmod(dir, 0o777)
	refused("can be written to by others")
	os.Chmod(dir, 0o755)
	os.Chmod(path, 0o757)
	refused("can be written to by others")
	os.Chmod(path, 0o755)
	if _, _, err := link.FindHelper("linux", "riscv64"); err != nil {
		t.Errorf("FindHelper of our own file: %v", err)
	}

	link.SetBuiltHelpers(t, "amd64:"+strings.Repeat("0", 64)+",riscv64:"+strings.Repeat("1", 64))
	refused("was built with")
	link.SetBuiltHelpers(t, fmt.Sprintf("riscv64:%x", sha256.Sum256([]byte("theirs"))))
	if _, _, err := link.FindHelper("linux", "riscv64"); err != nil {
		t.Errorf("FindHelper of the file of the build: %v", err)
	}

	if os.Geteuid() != 0 {
		return
	}
	os.Chown(path, 65534, -1)
	refused("belongs to")
	os.Chown(path, 0, -1)
	os.Chown(dir, 65534, -1)
	refused("belongs to")
}

// revealed is an error as a person reads it, where no secret is known.
func revealed(err error) string { return plain.Reveal(err, func(s string) string { return s }) }
