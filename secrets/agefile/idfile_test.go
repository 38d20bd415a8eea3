package agefile_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"bellhop/secrets/agefile"
	"bellhop/secrets/agefile/agetest"
	"bellhop/secrets/privatefile"
	"filippo.io/age"
	"golang.org/x/crypto/ssh"
)

func writeFile(t testing.TB, name string, data []byte, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, mode); err != nil {
		t.Fatal(err)
	}
	return name
}

// asked is a passphrase func that counts.
type asked struct {
	answer string
	n      int
}

func (a *asked) ask(string) ([]byte, error) { a.n++; return []byte(a.answer), nil }

func sshFile(t *testing.T, key any, passphrase string) (file, public string) {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(key, "c")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "c", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file = writeFile(t, filepath.Join(t.TempDir(), "id"), pem.EncodeToMemory(block), 0o600)
	return file, string(ssh.MarshalAuthorizedKey(signer.PublicKey()))
}

func TestSSHIdentities(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []any{ed, r} {
		for _, pass := range []string{"", "hunter2"} {
			file, public := sshFile(t, key, pass)
			rec, err := agefile.ParseRecipient(public)
			if err != nil {
				t.Fatal(err)
			}
			data, other := agetest.Seal(t, "v", rec), agetest.Seal(t, "v", agetest.New(t).Pub)
			a := &asked{answer: pass}
			ids, err := agetest.Load(file, a.ask)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ids.Open("f", other); agetest.Class(err) != agefile.NoMatch || a.n != 0 {
				t.Errorf("Open of another's file: %v, asked %d times, want no-match and not asked", err, a.n)
			}
			for range 3 {
				if v, err := ids.Open("f", data); err != nil || string(v) != "v" {
					t.Errorf("Open with %T: %v", key, err)
				}
			}
			if want := min(len(pass), 1); a.n != want {
				t.Errorf("asked %d times, want %d", a.n, want)
			}
			if got := ids.Recipients(); len(got) != 1 || got[0] != rec.String() {
				t.Errorf("Recipients = %d, want the SSH key", len(got))
			}
		}
	}
}

func TestSmallRSARefused(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0")
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	file, public := sshFile(t, key, "")
	if _, err := agefile.ParseRecipient(public); err == nil {
		t.Error("ParseRecipient took an RSA key of 1024 bits")
	}
	if _, err := agetest.Load(file, nil); err == nil {
		t.Error("LoadIdentities took an RSA key of 1024 bits")
	}
}

func encryptedIdentity(t *testing.T, priv, pass string) string {
	t.Helper()
	r, err := age.NewScryptRecipient(pass)
	if err != nil {
		t.Fatal(err)
	}
	r.SetWorkFactor(10)
	var buf bytes.Buffer
	w, err := age.Encrypt(&buf, r)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(w, priv)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return writeFile(t, filepath.Join(t.TempDir(), "identity.age"), buf.Bytes(), 0o600)
}

func TestEncryptedIdentityAsksOnce(t *testing.T) {
	a := agetest.New(t)
	file := encryptedIdentity(t, a.Priv, "hunter2")
	data := agetest.Seal(t, "v", a.Pub)
	right, wrong := &asked{answer: "hunter2"}, &asked{answer: "hunter3"}
	ids, err := agetest.Load(file, right.ask)
	if err != nil {
		t.Fatal(err)
	}
	if err := ids.Unlock(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := ids.Open("f", data); err != nil {
			t.Fatal(err)
		}
	}
	if right.n != 1 || len(ids.Recipients()) != 1 || ids.Recipients()[0] != a.Pub.String() {
		t.Errorf("asked %d times, recipients %v; want once, and %v", right.n, ids.Recipients(), a.Pub)
	}
	ids, err = agetest.Load(file, wrong.ask)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := ids.Open("f", data); agetest.Class(err) != agefile.Locked || strings.Contains(err.Error(), "hunter") {
			t.Errorf("Open with a wrong passphrase = %v, want locked", err)
		}
	}
	if wrong.n != 1 {
		t.Errorf("asked %d times for a wrong passphrase, want once", wrong.n)
	}
	if _, err := agetest.Load(file, nil); err == nil {
		t.Error("an encrypted identity was taken with nobody to ask")
	}
}

func TestIdentityFileChecks(t *testing.T) {
	a := agetest.New(t)
	dir := t.TempDir()
	line := []byte(a.Priv + "\n")
	open := writeFile(t, filepath.Join(dir, "open"), line, 0o600)
	if err := os.Chmod(open, 0o640); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]string{
		"readable by a group": open,
		"a folder":            dir,
		"a fifo":              fifo,
		"missing":             filepath.Join(dir, "none"),
		"empty":               writeFile(t, filepath.Join(dir, "empty"), nil, 0o600),
		"a public key":        writeFile(t, filepath.Join(dir, "pub"), []byte(a.Pub.String()), 0o600),
		"a damaged key":       writeFile(t, filepath.Join(dir, "bad"), line[:40], 0o600),
	} {
		_, err := agetest.Load(file, nil)
		if err == nil || !strings.Contains(err.Error(), file) || strings.Contains(err.Error(), a.Priv[:30]) {
			t.Errorf("LoadIdentities(%s): taken, or the error does not name the file or quotes it", name)
		}
	}
	// systemd shows credentials with a group bit, which stands for an ACL.
	if os.Geteuid() == 0 {
		t.Setenv("CREDENTIALS_DIRECTORY", dir)
		if _, err := agetest.Load(open, nil); err != nil {
			t.Errorf("a credential of systemd was refused: %v", err)
		}
		other := writeFile(t, filepath.Join(t.TempDir(), "other"), line, 0o600)
		if err := os.Chown(other, 12345, -1); err != nil {
			t.Fatal(err)
		}
		if _, err := agetest.Load(other, nil); err == nil {
			t.Error("an identity that belongs to agetest.Reader else was taken")
		}
	}
}

// TestIdentityFromDescriptor: a pipe handed over by descriptor, as `-i <(pass show key)` does.
func TestIdentityFromDescriptor(t *testing.T) {
	a := agetest.New(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		fmt.Fprintln(w, a.Priv)
		w.Close()
	}()
	ids, err := agetest.Load(fmt.Sprintf("/dev/fd/%d", r.Fd()), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ids.Open("f", agetest.Seal(t, "v", a.Pub)); err != nil {
		t.Error(err)
	}
}

// makeIdentity makes an identity file unless there is one, and gives the recipients known of it.
func makeIdentity(t *testing.T, file string) []string {
	t.Helper()
	if _, err := privatefile.Make(file, agefile.NewIdentity); err != nil {
		t.Fatal(err)
	}
	ids, err := agetest.Load(file, func(string) ([]byte, error) { return nil, errors.New("not asked here") })
	if err != nil {
		t.Fatal(err)
	}
	return ids.Recipients()
}

func TestMakeIdentity(t *testing.T) {
	file := filepath.Join(t.TempDir(), "identity.age")
	made := makeIdentity(t, file)
	if len(made) != 1 || !strings.HasPrefix(made[0], "age1") {
		t.Fatalf("recipients of a new identity: %q, want one age key", made)
	}
	first, err := os.ReadFile(file)
	if err != nil || !bytes.Contains(first, []byte("# public key: "+made[0]+"\nAGE-SECRET-KEY-1")) {
		t.Fatalf("the file is not as age-keygen writes it (%v)", err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, want 0600 (%v)", info.Mode(), err)
	}

	again := makeIdentity(t, file)
	second, _ := os.ReadFile(file)
	if !slices.Equal(again, made) || !bytes.Equal(first, second) {
		t.Errorf("making it again gave %q, or rewrote the file", again)
	}

	locked := encryptedIdentity(t, agetest.New(t).Priv, "hunter2")
	before, _ := os.ReadFile(locked)
	if known := makeIdentity(t, locked); len(known) != 0 {
		t.Errorf("recipients of an encrypted identity: %q, want none yet", known)
	}
	if after, _ := os.ReadFile(locked); !bytes.Equal(before, after) {
		t.Error("an encrypted identity was rewritten")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestParseRecipientNeverQuotes(t *testing.T) {
	a := agetest.New(t)
	for _, s := range []string{a.Priv, strings.ToLower(a.Priv), "AGE-PLUGIN-YUBIKEY-1QQQ", "hunter2", "age1hunter2", "ssh-ed25519 hunter2", "-----BEGIN OPENSSH PRIVATE KEY-----"} {
		_, err := agefile.ParseRecipient(s)
		if err == nil || strings.Contains(err.Error(), "hunter2") || strings.Contains(strings.ToUpper(err.Error()), a.Priv) {
			t.Errorf("ParseRecipient took or quoted what is no recipient")
		}
	}
	var oe *agefile.OpenError
	if _, err := a.IDs.Open("f", []byte("hunter2")); !errors.As(err, &oe) {
		t.Error("no OpenError")
	}
}
