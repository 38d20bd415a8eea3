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

	"golang.org/x/crypto/ssh"

	"bellhop/secrets/agefile"
	"bellhop/secrets/privatefile"
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
	s.identity = s.path(identityFile)
	s.sshKey = s.path(sshKeyFile)
	s.webhookSecret = s.path(webhookSecretFile)
	return s
}

func (s *state) path(name string) string { return filepath.Join(s.dir, name) }

// prepare makes the directory and the default files that are missing in it, and names what it made:
// all of them for a server; otherwise the digest key alone, since a key that is made by a verb of a
// moment would be known to no repo and no host. A file that a flag names is never made.
func (s *state) prepare(forServer bool) (made []string, err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	if err := errors.Join(s.ours(), s.regular()); err != nil {
		return nil, err
	}

	for _, f := range s.defaults() {
		if !forServer && f.name != digestKeyFile {
			continue
		}
		fresh, err := privatefile.Make(s.path(f.name), f.make)
		if err != nil {
			return made, fmt.Errorf("make %s: %w", s.path(f.name), err)
		}
		if fresh {
			made = append(made, s.path(f.name))
		}
	}

	return made, nil
}

// A defaultFile is a secret of the state directory that is made by itself.
type defaultFile struct {
	name string
	make func() ([]byte, error)
}

const (
	identityFile      = "identity.age"
	sshKeyFile        = "ssh_ed25519"
	webhookSecretFile = "webhook-secret"
	digestKeyFile     = "digest-key"
)

// defaults are the default files, but those in whose stead a flag names another.
func (s *state) defaults() (files []defaultFile) {
	random := func() ([]byte, error) { return randomHex(32), nil }
	for _, f := range []struct {
		defaultFile
		used string // the file that is used
	}{
		{defaultFile{identityFile, agefile.NewIdentity}, s.identity},
		{defaultFile{sshKeyFile, newSSHKey}, s.sshKey},
		{defaultFile{webhookSecretFile, random}, s.webhookSecret},
		{defaultFile{digestKeyFile, random}, s.path(digestKeyFile)},
	} {
		if f.used == s.path(f.name) {
			files = append(files, f.defaultFile)
		}
	}
	return files
}

// complete says which of the keys that are needed is missing.
func (s *state) complete() error {
	for _, f := range []struct{ path, flag string }{{s.identity, "identity"}, {s.sshKey, "ssh-key"}} {
		if _, err := os.Stat(f.path); errors.Is(err, fs.ErrNotExist) {
			return hint(fmt.Errorf("%s is not there", f.path), "bellhop serve --repo URL makes it on its first start; or name another: --%s FILE", f.flag)
		}
	}
	return nil
}

// regular refuses a link, a FIFO or a device in the place of a file of the state directory: what is
// read and written there is a file that bellhop made. A key that is kept elsewhere has a flag.
func (s *state) regular() error {
	for _, name := range []string{identityFile, sshKeyFile, webhookSecretFile, digestKeyFile, adminTokenFile, githubAppFile, "bellhop.db", "bellhop.db-wal", "bellhop.db-shm"} {
		info, err := os.Lstat(s.path(name))
		if err == nil && !info.Mode().IsRegular() {
			return hint(fmt.Errorf("%s is not a regular file, but %s", s.path(name), kindOf(info.Mode())),
				"move it away; a file that is kept elsewhere is named by its flag (--identity, --ssh-key, --webhook-secret)")
		}
	}
	return nil
}

func kindOf(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a folder"
	case mode&fs.ModeSymlink != 0:
		return "a symbolic link"
	case mode&fs.ModeNamedPipe != 0:
		return "a FIFO"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	}
	return "a device"
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

// signer opens the deployer's SSH key.
func (s *state) signer() (ssh.Signer, error) {
	b, err := privatefile.Read(s.sshKey)
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
	b, err := privatefile.Read(s.path(digestKeyFile))
	if err != nil {
		return nil, fmt.Errorf("open the digest key: %w", err)
	}
	key := bytes.TrimSpace(b)
	if len(key) < 32 {
		return nil, fmt.Errorf("open the digest key %s: %d bytes are too few", s.path(digestKeyFile), len(key))
	}
	return key, nil
}
