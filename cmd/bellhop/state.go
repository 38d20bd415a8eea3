package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"syscall"
	"time"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"bellhop/secrets"
)

// The state directory. Each of its four secrets is made by itself when it is missing; one
// that stands is used and never rewritten. All are private to their owner, and one that
// others can read is refused: it may have been read.

// A state is where the deployer keeps what is its own.
type state struct {
	dir string

	// These stand elsewhere when flags say so.
	identity, sshKey, webhookSecret string
}

func newState(dir string) *state {
	s := &state{dir: dir}
	s.identity = s.path("identity.age")
	s.sshKey = s.path("ssh_ed25519")
	s.webhookSecret = s.path("webhook-secret")
	return s
}

func (s *state) path(name string) string { return filepath.Join(s.dir, name) }

// prepare makes the directory and whatever is missing in it, and names what it made.
func (s *state) prepare() (made []string, err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	if err := s.ours(); err != nil {
		return nil, err
	}
	for _, f := range []struct {
		path string
		make func() ([]byte, error)
	}{
		{s.identity, newIdentity},
		{s.sshKey, newSSHKey},
		{s.webhookSecret, func() ([]byte, error) { return randomHex(32), nil }},
		{s.path("digest-key"), func() ([]byte, error) { return randomHex(32), nil }},
	} {
		fresh, err := makeOnce(f.path, f.make)
		if err != nil {
			return made, fmt.Errorf("make %s: %w", f.path, err)
		}
		if fresh {
			made = append(made, f.path)
		}
	}
	return made, nil
}

// letPass lets the group of a socket walk through the directory to it, and no further: what
// lies beside it is closed one by one.
func (s *state) letPass(socket string) error {
	fi, err := os.Stat(s.path(socket))
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	if err := os.Chown(s.dir, -1, int(st.Gid)); err != nil {
		return err
	}
	return os.Chmod(s.dir, 0o710)
}

// ours refuses a state directory of another user: what root leaves in it, that user's server
// could not open again. And one that others can write to: a secret in it may be theirs.
func (s *state) ours() error {
	fi, err := os.Stat(s.dir)
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || st.Uid == uint32(os.Geteuid()) {
		if mode := fi.Mode().Perm(); mode&0o022 != 0 {
			return hint(fmt.Errorf("the state directory %s can be written to by others (mode %04o), and what lies in it may be theirs", s.dir, mode),
				"look who owns what is in it; then chmod 700 %s", s.dir)
		}
		return nil
	}
	name := fmt.Sprint("#", st.Uid)
	if u, err := user.LookupId(fmt.Sprint(st.Uid)); err == nil {
		name = u.Username
	}
	return hint(fmt.Errorf("the state directory %s belongs to %s", s.dir, name), "sudo -u '%s' bellhop …", name)
}

// makeOnce writes a file that is not there. It is linked into its place whole, so that a
// crash leaves no half key, and two that start at once agree on one.
func makeOnce(path string, content func() ([]byte, error)) (fresh bool, err error) {
	if _, err := os.Lstat(path); err == nil {
		return false, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	b, err := content()
	if err != nil {
		return false, err
	}
	defer clear(b)
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600
	if err != nil {
		return false, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return false, err
	}
	if err := f.Sync(); err != nil {
		return false, err
	}
	if err := os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	return true, syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// newIdentity is what age-keygen writes.
func newIdentity() ([]byte, error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "# created: %s\n# public key: %s\n%s\n", time.Now().UTC().Format(time.RFC3339), id.Recipient(), id.String()), nil
}

func newSSHKey() ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(key, "bellhop")
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(block), nil
}

func randomHex(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return append(hex.AppendEncode(nil, b), '\n')
}

// readPrivate reads a file that holds a secret: regular, ours, and nobody else's to read.
func readPrivate(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := private(f); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(f); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func private(f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	switch {
	case !fi.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", f.Name())
	case secrets.Mounted(f.Name(), fi.Mode()):
		return nil
	case ok && os.Geteuid() != 0 && st.Uid != uint32(os.Geteuid()) && st.Uid != 0:
		return fmt.Errorf("%s belongs to another user", f.Name())
	case handedOver(f.Name()):
		return nil
	case fi.Mode().Perm()&0o077 != 0:
		return hint(fmt.Errorf("%s can be read by others (mode %04o)", f.Name(), fi.Mode().Perm()), "chmod 600 %s", f.Name())
	}
	return nil
}

// handedOver says that the service manager put the file where only this service can look,
// whatever its mode says.
func handedOver(path string) bool {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	return dir != "" && filepath.Dir(filepath.Clean(path)) == filepath.Clean(dir)
}

// signer opens the deployer's SSH key.
func (s *state) signer() (ssh.Signer, error) {
	b, err := readPrivate(s.sshKey)
	if err != nil {
		return nil, fmt.Errorf("open the deployer's SSH key: %w", err)
	}
	defer clear(b)
	key, err := ssh.ParsePrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("open the deployer's SSH key %s: %w", s.sshKey, err)
	}
	return key, nil
}

// digestKey opens the key under which values are compared.
func (s *state) digestKey() ([]byte, error) {
	b, err := readPrivate(s.path("digest-key"))
	if err != nil {
		return nil, fmt.Errorf("open the digest key: %w", err)
	}
	key := bytes.TrimSpace(b)
	if len(key) < 32 {
		return nil, fmt.Errorf("open the digest key %s: %d bytes are too few", s.path("digest-key"), len(key))
	}
	return key, nil
}
