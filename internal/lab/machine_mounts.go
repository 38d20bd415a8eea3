package lab

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
)

// twinMounts imitates the place for keys: a plain directory below the twin's /run, which a
// reboot empties. It is not RAM, so a test must not put a real secret there.
type twinMounts struct{ m *Machine }

func (t twinMounts) Keys(context.Context) (string, error) {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	if t.m.keyKind == "" {
		return "", errors.New("mount " + bundle.KeyDir + ": it lies on ext4, and a key must never reach a disk")
	}

	t.m.addGroup(bundle.KeyGroup) // as the users of the mount unit need it
	if t.m.systemd.Def(bundle.KeyMountUnit).Load == "loaded" {
		if err := t.m.systemd.Transact("start", []string{bundle.KeyMountUnit})[bundle.KeyMountUnit]; err != nil {
			return "", err
		}
	} else if err := t.m.mountKeys(); err != nil {
		return "", err
	}

	id, err := identify(unix.AT_FDCWD, t.m.Path(bundle.KeyDir), 0)
	t.m.owners[id] = owner{"root", bundle.KeyGroup}
	return t.m.keyKind, err
}

func (m *Machine) mountKeys() error {
	m.mounted = true
	p := m.Path(bundle.KeyDir)
	if err := os.MkdirAll(p, 0o750); err != nil {
		return err
	}
	return os.Chmod(p, 0o750)
}

// unmountKeys empties the place for keys, as the stop of its mount does.
func (m *Machine) unmountKeys() {
	m.mounted = false
	emptyDir(m.Path(bundle.KeyDir))
}

// Mounted says whether the place for keys is mounted.
func (m *Machine) Mounted() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mounted
}

// Writable opens the directory as it is: a process that may not mount can't make it read-only for
// others.
func (t twinMounts) Writable(context.Context) (*os.File, error) {
	return os.Open(t.m.Path(bundle.KeyDir))
}

func (t twinMounts) Open() error { return nil }

func (t twinMounts) SwapClear() bool {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	return t.m.swapClear
}

func (t twinMounts) Seal(_ context.Context, name string, value []byte) error {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	p := t.m.Path(bundle.SealedDir + "/" + name)
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		return err
	}

	nonce := randomBytes(12)
	sealed := aead(t.m.secret).Seal(nonce, nonce, value, []byte(name))
	if err := os.WriteFile(p+".new", sealed, 0o600); err != nil {
		return err
	}

	return os.Rename(p+".new", p)
}

func (t twinMounts) Opens(_ context.Context, name string, value []byte) bool {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	got, err := t.m.unseal(name, bundle.SealedDir+"/"+name)
	return err == nil && bytes.Equal(got, value)
}

func (m *Machine) unseal(name, path string) ([]byte, error) {
	p, err := os.ReadFile(m.Path(path))
	if err != nil {
		return nil, err
	}
	if len(p) < 12 {
		return nil, errors.New("sealed copy is cut short")
	}
	return aead(m.secret).Open(nil, p[:12], p[12:], []byte(name))
}

// aead is what sealed copies are sealed with.
func aead(secret []byte) cipher.AEAD {
	block, err := aes.NewCipher(secret)
	if err != nil {
		panic(err) // the secret has 32 bytes
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return a
}
