package agefile_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"

	"bellhop/secrets/agefile"
	"bellhop/secrets/agefile/agetest"
	"filippo.io/age"
)

func TestSealOpen(t *testing.T) {
	a, b := agetest.New(t), agetest.New(t)
	for _, armor := range []bool{false, true} {
		for _, value := range []string{"", "x", "TOKEN=hunter2\n", strings.Repeat("0123456789abcdef", 1<<13)} {
			data, err := agefile.Seal([]byte(value), []agefile.Recipient{a.Pub, b.Pub, a.Pub}, agefile.SealOptions{Armor: armor})
			if err != nil {
				t.Fatal(err)
			}
			for _, who := range []agetest.Reader{a, b} {
				got, err := who.IDs.Open("f", data)
				if err != nil || string(got) != value {
					t.Fatalf("Open(Seal(%d bytes, armor %t)) = %d bytes, %v", len(value), armor, len(got), err)
				}
			}
		}
	}
}

// Each reader of many finds its own stanza at once, whatever the order they were given in.
func TestReaderFindsItsStanza(t *testing.T) {
	var who []agetest.Reader
	var to []agefile.Recipient
	for range 6 {
		who = append(who, agetest.New(t))
		to = append(to, who[len(who)-1].Pub)
	}
	data := agetest.Seal(t, "hunter2", to...)
	for i, w := range who {
		if !w.IDs.OpensAtPlace(data) {
			t.Errorf("reader %d is not pointed to its stanza", i)
		}
	}
	if agetest.New(t).IDs.OpensAtPlace(data) {
		t.Error("a stranger is pointed to a stanza")
	}
}

func TestClasses(t *testing.T) {
	a := agetest.New(t)
	good := agetest.Seal(t, "hunter2 and more", a.Pub)
	long := agetest.Seal(t, strings.Repeat("x", 64<<10), a.Pub)
	header := bytes.Index(good, []byte("\n--- ")) + 1
	header += bytes.IndexByte(good[header:], '\n') + 1
	flip := func(b []byte, at int) []byte {
		c := bytes.Clone(b)
		c[at] ^= 1
		return c
	}
	note := bytes.Index(good, []byte("bellhop.dev/readers"))
	armored, err := agefile.Seal([]byte("v"), []agefile.Recipient{a.Pub}, agefile.SealOptions{Armor: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		data []byte
		want agefile.Class
	}{
		{"plaintext", []byte("password=hunter2\n"), agefile.NotAge},
		{"nothing", nil, agefile.Empty},
		{"crlf", bytes.Replace(good, []byte("v1\n"), []byte("v1\r\n"), 1), agefile.Mangled},
		{"utf-16", []byte("\xff\xfea\x00g\x00e\x00-\x00e\x00n\x00c\x00r\x00y\x00p\x00t\x00i\x00o\x00n\x00.\x00o\x00r\x00g\x00/\x00v\x001\x00\n\x00"), agefile.Mangled},
		{"armor", armored[:len(armored)/2], agefile.BadArmor},
		{"header", append([]byte("age-encryption.org/v1\n-> X25519\n"), good...), agefile.BadHeader},
		{"note changed", flip(good, note+2), agefile.BadMAC},
		{"cut in header", good[:header-4], agefile.BadHeader},
		{"cut in payload", good[:header+20], agefile.Truncated},
		{"cut at a chunk", long[:len(long)-16-(64<<10)], agefile.Truncated},
		{"flipped", flip(good, len(good)-1), agefile.Corrupt},
		{"trailing", append(bytes.Clone(long), 'x'), agefile.Trailing},
		{"huge", make([]byte, agefile.MaxFile+1), agefile.TooLarge},
	} {
		v, err := a.IDs.Open("secrets/x.age", tt.data)
		if v != nil || agetest.Class(err) != tt.want {
			t.Errorf("Open(%s) = %d bytes, class %q, want %q", tt.name, len(v), agetest.Class(err), tt.want)
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
	// A work factor of 2^22 would cost 4 GiB of memory, and seconds: Open must not even start.
	data := bytes.Replace(buf.Bytes(), []byte(" 10\n"), []byte(" 22\n"), 1)
	ids := agetest.New(t).IDs
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = ids.Open("f", data)
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; agetest.Class(err) != agefile.Passphrase || took > 64<<20 {
		t.Errorf("Open = %v with %d MiB, want passphrase at once", err, took>>20)
	}
}

func TestIdentitiesNeverPrint(t *testing.T) {
	a := agetest.New(t)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "ids", a.IDs)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "ids", a.IDs)
	j, err := json.Marshal(map[string]any{"ids": a.IDs})
	if err != nil {
		t.Fatal(err)
	}
	out := log.String() + string(j) + fmt.Sprint(a.IDs)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		out += fmt.Sprintf(verb, a.IDs)
	}
	if strings.Contains(strings.ToUpper(out), "AGE-SECRET-KEY") {
		t.Error("a private key was printed")
	}
	if !strings.Contains(out, a.Pub.String()) {
		t.Error("the public half was not printed")
	}
}

func TestReaders(t *testing.T) {
	a, b := agetest.New(t), agetest.New(t)
	au, err := agefile.Readers(agetest.Seal(t, "v", a.Pub, b.Pub))
	if err != nil || !au.Known || au.Stanzas != 2 || len(au.Readers) != 2 {
		t.Fatalf("Readers = %+v, %v, want both known", au, err)
	}
	r, err := age.ParseX25519Recipient(a.Pub.String())
	if err != nil {
		t.Fatal(err)
	}
	var plain bytes.Buffer
	w, err := age.Encrypt(&plain, r)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	au, err = agefile.Readers(plain.Bytes())
	if err != nil || au.Known || au.Stanzas != 1 {
		t.Errorf("Readers(file of plain age) = %+v, %v, want unknown, 1 stanza", au, err)
	}
}

func TestPostQuantum(t *testing.T) {
	a, b, c := agetest.NewHybrid(t), agetest.NewHybrid(t), agetest.New(t)
	data := agetest.Seal(t, "v", a.Pub, b.Pub)
	if v, err := b.IDs.Open("f", data); err != nil || string(v) != "v" {
		t.Errorf("Open = %d bytes, %v", len(v), err)
	}
	if au, err := agefile.Readers(data); err != nil || !au.Known {
		t.Errorf("Readers = %+v, %v, want known", au, err)
	}
	_, err := agefile.Seal([]byte("v"), []agefile.Recipient{a.Pub, c.Pub}, agefile.SealOptions{})
	var mixed *agefile.MixedError
	if !errors.As(err, &mixed) || !strings.Contains(err.Error(), "age-keygen -pq") {
		t.Errorf("Seal for mixed readers = %v, want a MixedError with the way out", err)
	}
}
