package secrets_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bellhop/secrets"
	"filippo.io/age"
)

// someone is a reader made on the spot.
type someone struct {
	ids  *secrets.Identities
	pub  secrets.Recipient
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
	ids, err := secrets.LoadIdentities([]string{file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := secrets.ParseRecipient(pub)
	if err != nil {
		t.Fatal(err)
	}
	return someone{ids, r, priv, file}
}

func seal(t testing.TB, value string, to ...secrets.Recipient) []byte {
	t.Helper()
	b, err := secrets.Seal([]byte(value), to, secrets.SealOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func class(err error) secrets.Class {
	var e *secrets.OpenError
	if errors.As(err, &e) {
		return e.Class
	}
	return ""
}

func TestSealOpen(t *testing.T) {
	a, b := newSomeone(t), newSomeone(t)
	for _, armor := range []bool{false, true} {
		for _, value := range []string{"", "x", "TOKEN=hunter2\n", strings.Repeat("0123456789abcdef", 1<<13)} {
			data, err := secrets.Seal([]byte(value), []secrets.Recipient{a.pub, b.pub, a.pub}, secrets.SealOptions{Armor: armor})
			if err != nil {
				t.Fatal(err)
			}
			for _, who := range []someone{a, b} {
				got, err := who.ids.Open("f", data)
				if err != nil || string(got) != value {
					t.Fatalf("Open(Seal(%d bytes, armor %t)) = %d bytes, %v", len(value), armor, len(got), err)
				}
			}
		}
	}
}

// Each reader of many finds its own stanza at once, whatever the order they were given in.
func TestReaderFindsItsStanza(t *testing.T) {
	var who []someone
	var to []secrets.Recipient
	for range 6 {
		who = append(who, newSomeone(t))
		to = append(to, who[len(who)-1].pub)
	}
	data := seal(t, "hunter2", to...)
	for i, w := range who {
		if !w.ids.OpensAtPlace(data) {
			t.Errorf("reader %d is not pointed to its stanza", i)
		}
	}
	if newSomeone(t).ids.OpensAtPlace(data) {
		t.Error("a stranger is pointed to a stanza")
	}
}

func TestClasses(t *testing.T) {
	a := newSomeone(t)
	good := seal(t, "hunter2 and more", a.pub)
	long := seal(t, strings.Repeat("x", 64<<10), a.pub)
	header := bytes.Index(good, []byte("\n--- ")) + 1
	header += bytes.IndexByte(good[header:], '\n') + 1
	flip := func(b []byte, at int) []byte {
		c := bytes.Clone(b)
		c[at] ^= 1
		return c
	}
	note := bytes.Index(good, []byte("bellhop.dev/readers"))
	armored, err := secrets.Seal([]byte("v"), []secrets.Recipient{a.pub}, secrets.SealOptions{Armor: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		data []byte
		want secrets.Class
	}{
		{"plaintext", []byte("password=hunter2\n"), secrets.NotAge},
		{"nothing", nil, secrets.Empty},
		{"crlf", bytes.Replace(good, []byte("v1\n"), []byte("v1\r\n"), 1), secrets.Mangled},
		{"utf-16", []byte("\xff\xfea\x00g\x00e\x00-\x00e\x00n\x00c\x00r\x00y\x00p\x00t\x00i\x00o\x00n\x00.\x00o\x00r\x00g\x00/\x00v\x001\x00\n\x00"), secrets.Mangled},
		{"armor", armored[:len(armored)/2], secrets.BadArmor},
		{"header", append([]byte("age-encryption.org/v1\n-> X25519\n"), good...), secrets.BadHeader},
		{"note changed", flip(good, note+2), secrets.BadMAC},
		{"cut in header", good[:header-4], secrets.BadHeader},
		{"cut in payload", good[:header+20], secrets.Truncated},
		{"cut at a chunk", long[:len(long)-16-(64<<10)], secrets.Truncated},
		{"flipped", flip(good, len(good)-1), secrets.Corrupt},
		{"trailing", append(bytes.Clone(long), 'x'), secrets.Trailing},
		{"huge", make([]byte, secrets.MaxFile+1), secrets.TooLarge},
	} {
		v, err := a.ids.Open("secrets/x.age", tt.data)
		if v != nil || class(err) != tt.want {
			t.Errorf("Open(%s) = %d bytes, class %q, want %q", tt.name, len(v), class(err), tt.want)
		}
		if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "secrets/x.age") {
			t.Errorf("Open(%s): the error quotes the file or does not name it", tt.name)
		}
	}
}

func TestPassphraseFileRefusedAtOnce(t *testing.T) {
	r, err := age.NewScryptRecipient("hunter2")
	if err != nil {
		t.Fatal(err)
	}
	r.SetWorkFactor(10)
	var buf bytes.Buffer
	w, err := age.Encrypt(&buf, r)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "v")
	w.Close()
	// A work factor of 2^22 would cost seconds: Open must not even start.
	data := bytes.Replace(buf.Bytes(), []byte(" 10\n"), []byte(" 22\n"), 1)
	start := time.Now()
	_, err = newSomeone(t).ids.Open("f", data)
	if class(err) != secrets.Passphrase || time.Since(start) > time.Second {
		t.Errorf("Open = %v in %v, want passphrase at once", err, time.Since(start))
	}
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
	if _, err := (&secrets.Identities{}).Open("f", data); !errors.Is(err, secrets.ErrNoIdentity) {
		t.Errorf("Open without identities = %v, want ErrNoIdentity", err)
	}
}

func TestIdentitiesNeverPrint(t *testing.T) {
	a := newSomeone(t)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "ids", a.ids)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "ids", a.ids)
	j, err := json.Marshal(map[string]any{"ids": a.ids})
	if err != nil {
		t.Fatal(err)
	}
	out := log.String() + string(j) + fmt.Sprint(a.ids)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		out += fmt.Sprintf(verb, a.ids)
	}
	if strings.Contains(strings.ToUpper(out), "AGE-SECRET-KEY") {
		t.Error("a private key was printed")
	}
	if !strings.Contains(out, a.pub.String()) {
		t.Error("the public half was not printed")
	}
}

func TestReaders(t *testing.T) {
	a, b := newSomeone(t), newSomeone(t)
	au, err := secrets.Readers(seal(t, "v", a.pub, b.pub))
	if err != nil || !au.Known || au.Stanzas != 2 || len(au.Readers) != 2 {
		t.Fatalf("Readers = %+v, %v, want both known", au, err)
	}
	r, err := age.ParseX25519Recipient(a.pub.String())
	if err != nil {
		t.Fatal(err)
	}
	var plain bytes.Buffer
	w, err := age.Encrypt(&plain, r)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	au, err = secrets.Readers(plain.Bytes())
	if err != nil || au.Known || au.Stanzas != 1 {
		t.Errorf("Readers(file of plain age) = %+v, %v, want unknown, 1 stanza", au, err)
	}
}

func TestPostQuantum(t *testing.T) {
	a, b, c := newQuantum(t), newQuantum(t), newSomeone(t)
	data := seal(t, "v", a.pub, b.pub)
	if v, err := b.ids.Open("f", data); err != nil || string(v) != "v" {
		t.Errorf("Open = %d bytes, %v", len(v), err)
	}
	if au, err := secrets.Readers(data); err != nil || !au.Known {
		t.Errorf("Readers = %+v, %v, want known", au, err)
	}
	_, err := secrets.Seal([]byte("v"), []secrets.Recipient{a.pub, c.pub}, secrets.SealOptions{})
	var mixed *secrets.MixedError
	if !errors.As(err, &mixed) || !strings.Contains(err.Error(), "age-keygen -pq") {
		t.Errorf("Seal for mixed readers = %v, want a MixedError with the way out", err)
	}
}
