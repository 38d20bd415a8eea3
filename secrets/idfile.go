package secrets

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"filippo.io/age"
)

// maxIdentityFile bounds what is read as an identity.
const maxIdentityFile = 1 << 20

// readIdentityFile reads a private key after checking that nobody else could have: a regular
// file, owned by us, closed to group and others. It looks at what was opened, not at the name,
// so nothing can be swapped in between.
func readIdentityFile(name string) ([]byte, error) {
	f, err := openIdentity(name)
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	if err := checkIdentityFile(name, info); err != nil {
		return nil, fmt.Errorf("read identity %s: %w", name, err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxIdentityFile+1))
	if err != nil {
		return nil, fmt.Errorf("read identity %s: %w", name, err)
	}
	if len(data) > maxIdentityFile {
		clear(data)
		return nil, fmt.Errorf("read identity %s: the file is too large for a key", name)
	}
	return data, nil
}

// openIdentity takes an inherited descriptor itself: the names below /dev/fd stop working for a
// process that made itself undumpable. O_NONBLOCK is for a fifo that nobody writes to.
func openIdentity(name string) (*os.File, error) {
	if inherited(name) {
		n, err := strconv.Atoi(path.Base(name))
		if err == nil {
			n, err = syscall.Dup(n)
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		syscall.CloseOnExec(n)
		return os.NewFile(uintptr(n), name), nil
	}
	return os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// mounts are where container engines put secrets: each is a mount of its own, 0444 or with the
// owner that it has outside, and nobody but the container's own process is there to read it. ssh
// and age take such a file too: ssh looks at the mode of its own user's keys alone, age at none. The
// path alone is looked at, so a machine that fills such a folder itself answers for its modes.
var mounts = []string{"/run/secrets", "/var/run/secrets"}

// Mounted says that a container engine put the file at path there, so that its owner and who may
// read it say nothing. One that others may write is taken from nobody.
func Mounted(path string, mode fs.FileMode) bool {
	if !filepath.IsAbs(path) || mode.Perm()&0o022 != 0 {
		return false
	}
	for _, dir := range mounts {
		if strings.HasPrefix(filepath.Clean(path), dir+"/") {
			return true
		}
	}
	return false
}

// checkIdentityFile is S12's rule, with three doors. systemd makes credentials itself, root's and
// read through an ACL that shows as a group bit. A container engine mounts secrets for the one
// process there is. An inherited descriptor has no name to protect.
func checkIdentityFile(name string, info fs.FileInfo) error {
	if inherited(name) && info.Mode()&fs.ModeNamedPipe != 0 {
		return nil
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	mode := info.Mode().Perm()
	if isCredential(name) && st.Uid == 0 && mode&0o037 == 0 {
		return nil
	}
	if Mounted(name, mode) {
		return nil
	}
	if int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("it belongs to uid %d, and we are %d", st.Uid, os.Geteuid())
	}
	if mode&0o077 != 0 {
		return fmt.Errorf("mode %04o lets others read it; run: chmod 600 %s (in a container: mount it below %s)", mode, name, mounts[0])
	}
	return nil
}

func inherited(name string) bool {
	return strings.HasPrefix(name, "/dev/fd/") || strings.HasPrefix(name, "/proc/self/fd/")
}

func isCredential(name string) bool {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" || !filepath.IsAbs(dir) {
		return false
	}
	return filepath.Dir(filepath.Clean(name)) == filepath.Clean(dir)
}

// PersonFiles lists the identity files that a person has, in the order in which they are tried
// when none is named: bellhop's own, those of age's other users, SSH keys.
func PersonFiles() []string {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil
	}
	config, err := os.UserConfigDir()
	if err != nil {
		config = filepath.Join(home, ".config")
	}
	var out []string
	for _, f := range []string{
		filepath.Join(config, "bellhop", "identity.age"),
		filepath.Join(config, "age", "keys.txt"),
		filepath.Join(config, "sops", "age", "keys.txt"),
		filepath.Join(home, ".ssh", "id_ed25519"),
		filepath.Join(home, ".ssh", "id_rsa"),
	} {
		if info, err := os.Stat(f); err == nil && info.Mode().IsRegular() {
			out = append(out, f)
		}
	}
	return out
}

// EnsureIdentity makes an identity file as age-keygen writes it, unless one stands, and returns
// the recipient of its first key. A file that stands is never rewritten. Of a passphrase-encrypted
// one the recipient is not known before it is unlocked: "", and Identities.Recipients tells then.
func EnsureIdentity(path string) (recipient string, err error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if err := newIdentity(path); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("make identity %s: %w", path, err)
		}
	}
	ids, err := LoadIdentities([]string{path}, func(string) ([]byte, error) {
		return nil, errors.New("not asked here")
	})
	if err != nil {
		return "", err
	}
	if rs := ids.Recipients(); len(rs) > 0 {
		return rs[0], nil
	}
	return "", nil
}

// newIdentity writes beside and links into place: a half-written key never stands there, and one
// that appeared meanwhile stays.
func newIdentity(path string) error {
	k, err := age.GenerateX25519Identity()
	if err != nil {
		return err
	}
	text := fmt.Appendf(nil, "# created: %s\n# public key: %s\n%s\n", time.Now().Format(time.RFC3339), k.Recipient(), k)
	defer clear(text)
	f, err := os.CreateTemp(filepath.Dir(path), ".identity-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, werr := f.Write(text)
	if err := errors.Join(werr, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Recipients are the public halves that are known and can stand in bellhop.yaml, age keys first.
// Those of plugins and of encrypted files not yet unlocked are left out.
func (ids *Identities) Recipients() []string {
	var out []string
	for _, id := range ids.list {
		for p := range strings.SplitSeq(id.known(), ", ") {
			if _, err := ParseRecipient(p); err == nil {
				out = append(out, p)
			}
		}
	}
	return out
}

func jsonString(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		return []byte(`""`)
	}
	return b
}
