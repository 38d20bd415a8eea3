package secrets_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bellhop/secrets"
	"bellhop/secrets/agefile"
	"filippo.io/age"
)

// someone is a reader made on the spot.
type someone struct {
	ids  *agefile.Identities
	pub  agefile.Recipient
	priv string
	file string
}

func newSomeone(t testing.TB) someone {
	t.Helper()
	k, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return someoneWith(t, k.String(), k.Recipient().String())
}

func newQuantum(t testing.TB) someone {
	t.Helper()
	k, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return someoneWith(t, k.String(), k.Recipient().String())
}

func someoneWith(t testing.TB, priv, pub string) someone {
	t.Helper()
	file := filepath.Join(t.TempDir(), "identity.age")
	if err := os.WriteFile(file, []byte("# a comment\n\n"+priv+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ids, err := load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := agefile.ParseRecipient(pub)
	if err != nil {
		t.Fatal(err)
	}
	return someone{ids, r, priv, file}
}

func seal(t testing.TB, value string, to ...agefile.Recipient) []byte {
	t.Helper()
	b, err := agefile.Seal([]byte(value), to, agefile.SealOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// load reads one identity file; ask may be nil.
func load(file string, ask func(string) ([]byte, error)) (*agefile.Identities, error) {
	return agefile.Sources{Files: []string{file}, Passphrase: ask}.Load()
}

func class(err error) agefile.Class {
	var e *agefile.OpenError
	if errors.As(err, &e) {
		return e.Class
	}
	return ""
}

// plainAge seals as every other program does: without a readers stanza.
func plainAge(t testing.TB, value string, to ...agefile.Recipient) []byte {
	t.Helper()
	var rs []age.Recipient
	for _, r := range to {
		x, err := age.ParseX25519Recipient(r.String())
		if err != nil {
			t.Fatal(err)
		}
		rs = append(rs, x)
	}
	var buf bytes.Buffer
	w, err := age.Encrypt(&buf, rs...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(value)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

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

func TestWrongReaderSaysEverything(t *testing.T) {
	a, b := newSomeone(t), newSomeone(t)
	data := seal(t, "v", a.pub)
	rules := secrets.Rules{
		Names: map[string][]string{"cadey": {a.pub.String()}, "deployer": {b.pub.String()}},
		Rules: []secrets.Rule{{Pattern: "secrets/*", Readers: []string{"cadey", "deployer"}}},
	}
	_, err := b.ids.Open("secrets/x.age", data)
	msg := rules.Explain(err).Error()
	for _, want := range []string{"secrets/x.age", "X25519", "(cadey)", "rule secrets/* wants cadey, deployer", b.pub.String(), "bellhop secret rekey secrets/x.age"} {
		if !strings.Contains(msg, want) {
			t.Errorf("error %q does not say %q", msg, want)
		}
	}
	if _, err := (&agefile.Identities{}).Open("f", data); !errors.Is(err, agefile.ErrNoIdentity) {
		t.Errorf("Open without identities = %v, want ErrNoIdentity", err)
	}
}
