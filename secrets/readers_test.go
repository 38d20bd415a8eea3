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
	"bellhop/secrets/agefile/agetest"
	"filippo.io/age"
)

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
	if err := errors.Join(os.WriteFile(name, data, mode), os.Chmod(name, mode)); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return name
}

func TestWrongReaderSaysEverything(t *testing.T) {
	a, b := agetest.New(t), agetest.New(t)
	data := agetest.Seal(t, "v", a.Pub)
	rules := secrets.Rules{
		Names: map[string][]string{"cadey": {a.Pub.String()}, "deployer": {b.Pub.String()}},
		Rules: []secrets.Rule{{Pattern: "secrets/*", Readers: []string{"cadey", "deployer"}}},
	}
	_, err := b.IDs.Open("secrets/x.age", data)
	msg := rules.Explain(err).Error()
	for _, want := range []string{"secrets/x.age", "X25519", "(cadey)", "rule secrets/* wants cadey, deployer", b.Pub.String(), "bellhop secret rekey secrets/x.age"} {
		if !strings.Contains(msg, want) {
			t.Errorf("error %q does not say %q", msg, want)
		}
	}
	if _, err := (&agefile.Identities{}).Open("f", data); !errors.Is(err, agefile.ErrNoIdentity) {
		t.Errorf("Open without identities = %v, want ErrNoIdentity", err)
	}
}
