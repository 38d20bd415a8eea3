package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"golang.org/x/sys/unix"

	"bellhop/secrets/privatefile"
)

// A state directory is made once, privately, and never rewritten.
func TestPrepare(t *testing.T) {
	s := newState(filepath.Join(t.TempDir(), "state"))
	made, err := s.prepare(true)
	if err != nil || len(made) != 4 {
		t.Fatalf("prepare = %v, %v, want four files", made, err)
	}
	before := map[string][]byte{}
	for _, path := range made {
		fi, err := os.Stat(path)
		if err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want 0600", path, fi.Mode(), err)
		}
		if before[path], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	if ids, err := age.ParseIdentities(bytes.NewReader(before[s.identity])); err != nil || len(ids) != 1 {
		t.Errorf("identity.age holds %d identities, %v", len(ids), err)
	}
	if _, err := s.signer(); err != nil {
		t.Error(err)
	}
	if key, err := s.digestKey(); err != nil || len(key) != 64 {
		t.Errorf("digestKey = %d bytes, %v, want 64", len(key), err)
	}
	if again, err := s.prepare(true); err != nil || len(again) != 0 {
		t.Errorf("prepare again = %v, %v, want nothing", again, err)
	}
	for path, want := range before {
		if got, _ := os.ReadFile(path); !bytes.Equal(got, want) {
			t.Errorf("%s was rewritten", path)
		}
	}
	left, err := os.ReadDir(s.dir)
	if err != nil || len(left) != 4 {
		t.Errorf("the state directory holds %d things, %v, want 4", len(left), err)
	}
	for _, mode := range []os.FileMode{0o777, 0o770} {
		if err := os.Chmod(s.dir, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := s.prepare(true); err == nil || !strings.Contains(hintFor(err), "chmod 700 "+s.dir) {
			t.Errorf("prepare of a directory with mode %o = %v, want it refused", mode, err)
		}
	}
	if err := os.Chmod(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.webhookSecret); err != nil {
		t.Fatal(err)
	}
	if one, err := s.prepare(true); err != nil || len(one) != 1 || one[0] != s.webhookSecret {
		t.Errorf("prepare without webhook-secret = %v, %v, want it alone", one, err)
	}
}

// A key that others can read may have been read: it is not used.
func TestReadPrivateRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := errors.Join(os.WriteFile(path, []byte("hunter2"), 0o644), os.Chmod(path, 0o644)); err != nil { // whatever the umask
		t.Fatal(err)
	}
	if b, err := privatefile.Read(path); err == nil {
		t.Errorf("ReadPrivate of a 0644 file = %q, want an error", b)
	}
	if b, err := privatefile.Read(filepath.Dir(path)); err == nil {
		t.Errorf("ReadPrivate of a directory = %q, want an error", b)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := privatefile.Read(path); err != nil || string(b) != "hunter2" {
		t.Errorf("ReadPrivate = %q, %v", b, err)
	}
}

// A secret that BELLHOP_X_FILE names is read as any other: not while others can. A pipe has no name.
func TestSecretOfTheEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	env := &Env{Getenv: func(k string) string { return map[string]string{"BELLHOP_REPO_TOKEN_FILE": path}[k] }}
	for mode, ok := range map[os.FileMode]bool{0o600: true, 0o644: false} {
		if err := errors.Join(os.WriteFile(path, []byte("token\n"), 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		v, err := env.secretEnv("BELLHOP_REPO_TOKEN")
		if (err == nil) != ok || ok && v != "token" {
			t.Errorf("secretEnv of a file of mode %04o = %q, %v", mode, v, err)
		}
		if err != nil && (!strings.Contains(err.Error(), "BELLHOP_REPO_TOKEN_FILE") || !strings.Contains(hintFor(err), "chmod 600")) {
			t.Errorf("%v (hint: %s) does not say which file, and what to do", err, hintFor(err))
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		defer w.Close()
		w.WriteString("piped\n")
	}()
	path = fmt.Sprintf("/dev/fd/%d", r.Fd())
	if v, err := env.secretEnv("BELLHOP_REPO_TOKEN"); v != "piped" || err != nil {
		t.Errorf("secretEnv of a pipe = %q, %v", v, err)
	}
}

// Root reads no other user's secret: that user knows it.
func TestSecretsOfAnotherUserAreRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it gives files to another user")
	}
	s := newState(filepath.Join(t.TempDir(), "state"))
	if _, err := s.prepare(true); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{s.identity, s.sshKey, s.webhookSecret, s.path(digestKeyFile)} {
		if err := os.Chown(path, 65534, -1); err != nil {
			t.Fatal(err)
		}
		if _, err := privatefile.Read(path); err == nil || !strings.Contains(err.Error(), "belongs to uid 65534") {
			t.Errorf("ReadPrivate of another's %s: %v, want it refused", filepath.Base(path), err)
		}
	}
	if _, err := readWebhookSecret(s.webhookSecret); err == nil {
		t.Error("the webhook secret of another user was taken")
	}
	if _, err := s.signer(); err == nil {
		t.Error("the SSH key of another user was taken")
	}
}

func TestStateOfOddKindsIsRefused(t *testing.T) {
	for _, name := range []string{identityFile, sshKeyFile, webhookSecretFile, digestKeyFile, "bellhop.db", "bellhop.db-wal", "admin-token"} {
		for kind, make := range map[string]func(string) error{
			"a symbolic link": func(path string) error { return os.Symlink("/etc/passwd", path) },
			"a FIFO":          func(path string) error { return unix.Mkfifo(path, 0o600) },
			"a folder":        func(path string) error { return os.Mkdir(path, 0o700) },
		} {
			s := newState(t.TempDir())
			if err := errors.Join(os.Chmod(s.dir, 0o700), make(s.path(name))); err != nil {
				t.Fatal(err)
			}
			if _, err := s.prepare(true); err == nil || !strings.Contains(err.Error(), kind) {
				t.Errorf("prepare with %s in the place of %s: %v, want it refused", kind, name, err)
			}
		}
	}
}

// Only a server makes keys, and only those that no flag names.
func TestWhoMakesKeys(t *testing.T) {
	s := newState(filepath.Join(t.TempDir(), "state"))
	if made, err := s.prepare(false); err != nil || len(made) != 1 || filepath.Base(made[0]) != digestKeyFile {
		t.Errorf("prepare of a verb = %v, %v, want the digest key alone", made, err)
	}
	if err := s.complete(); err == nil || !strings.Contains(hintFor(err), "bellhop serve") {
		t.Errorf("complete without keys = %v (hint: %s)", err, hintFor(err))
	}

	s.identity, s.sshKey = filepath.Join(s.dir, "mine"), filepath.Join(s.dir, "mine-too")
	if made, err := s.prepare(true); err != nil || len(made) != 1 || filepath.Base(made[0]) != webhookSecretFile {
		t.Errorf("prepare of a server with keys of its own = %v, %v, want the webhook's secret alone", made, err)
	}
	if _, err := os.Stat(s.identity); err == nil {
		t.Error("a file that a flag names was made")
	}
}
