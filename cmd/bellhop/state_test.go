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
)

// A state directory is made once, privately, and never rewritten.
func TestPrepare(t *testing.T) {
	s := newState(filepath.Join(t.TempDir(), "state"))
	made, err := s.prepare()
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
	if again, err := s.prepare(); err != nil || len(again) != 0 {
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
		if _, err := s.prepare(); err == nil || !strings.Contains(hintFor(err), "chmod 700 "+s.dir) {
			t.Errorf("prepare of a directory with mode %o = %v, want it refused", mode, err)
		}
	}
	if err := os.Chmod(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.webhookSecret); err != nil {
		t.Fatal(err)
	}
	if one, err := s.prepare(); err != nil || len(one) != 1 || one[0] != s.webhookSecret {
		t.Errorf("prepare without webhook-secret = %v, %v, want it alone", one, err)
	}
}

// A key that others can read may have been read: it is not used.
func TestReadPrivateRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte("hunter2"), 0o644); err != nil {
		t.Fatal(err)
	}
	if b, err := readPrivate(path); err == nil {
		t.Errorf("readPrivate of a 0644 file = %q, want an error", b)
	}
	if b, err := readPrivate(filepath.Dir(path)); err == nil {
		t.Errorf("readPrivate of a directory = %q, want an error", b)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := readPrivate(path); err != nil || string(b) != "hunter2" {
		t.Errorf("readPrivate = %q, %v", b, err)
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
