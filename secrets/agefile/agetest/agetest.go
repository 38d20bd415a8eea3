// Package agetest makes readers and sealed files for tests.
package agetest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"

	"bellhop/secrets/agefile"
)

// A Reader is somebody with an identity that was made for one test.
type Reader struct {
	IDs  *agefile.Identities
	Pub  agefile.Recipient
	Priv string // as an identity file has it
	File string // that holds the identity
}

// New makes a reader with an X25519 identity.
func New(t testing.TB) Reader {
	t.Helper()
	k, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return With(t, k.String(), k.Recipient().String())
}

// NewHybrid makes a reader with a post-quantum identity.
func NewHybrid(t testing.TB) Reader {
	t.Helper()
	k, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return With(t, k.String(), k.Recipient().String())
}

// With makes a reader of an identity and its recipient.
func With(t testing.TB, priv, pub string) Reader {
	t.Helper()
	file := filepath.Join(t.TempDir(), "identity.age")
	if err := os.WriteFile(file, []byte("# a comment\n\n"+priv+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	ids, err := Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}

	r, err := agefile.ParseRecipient(pub)
	if err != nil {
		t.Fatal(err)
	}

	return Reader{IDs: ids, Pub: r, Priv: priv, File: file}
}

// Seal seals a value to readers.
func Seal(t testing.TB, value string, to ...agefile.Recipient) []byte {
	t.Helper()
	b, err := agefile.Seal([]byte(value), to, agefile.SealOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Load reads one identity file; ask, which asks for its passphrase, may be nil.
func Load(file string, ask func(string) ([]byte, error)) (*agefile.Identities, error) {
	return agefile.Sources{Files: []string{file}, Passphrase: ask}.Load()
}

// Class is the class of an error of opening a file; "" when it is none.
func Class(err error) agefile.Class {
	var e *agefile.OpenError
	if errors.As(err, &e) {
		return e.Class
	}
	return ""
}
