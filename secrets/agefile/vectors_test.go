package agefile

import (
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	agetest "c2sp.org/CCTV/age"
	"filippo.io/age"
)

// A vector is one file of https://github.com/C2SP/CCTV/tree/main/age.
type vector struct {
	expect     string
	payload    string
	passphrase string
	ids        *Identities
	file       []byte
}

func readVector(t *testing.T, data []byte) vector {
	t.Helper()
	// Some vectors are larger than any secret: the cap has tests of its own.
	v := vector{ids: &Identities{room: 32 << 20}}
	compressed := false
	for {
		line, rest, ok := bytes.Cut(data, []byte("\n"))
		if !ok {
			t.Fatal("vector without a file")
		}
		data = rest
		if len(line) == 0 {
			break
		}
		key, value, _ := strings.Cut(string(line), ": ")
		switch key {
		case "expect":
			v.expect = value
		case "payload":
			v.payload = value
		case "passphrase":
			v.passphrase = value
		case "identity":
			id, err := Sources{}.line(value)
			if err != nil {
				t.Fatal(err)
			}
			v.ids.list = append(v.ids.list, id)
		case "compressed":
			compressed = true
		case "file key", "armored", "comment":
		default:
			t.Skipf("unknown key %q: the vector is to be ignored", key)
		}
	}
	v.file = data
	if compressed {
		r, err := zlib.NewReader(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if v.file, err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

// classesFor are the classes that each outcome of the vectors may have here: the vectors know six,
// we tell more apart.
var classesFor = map[string][]Class{
	"header failure":  {BadHeader, NotAge, Empty, Mangled, Truncated},
	"armor failure":   {BadArmor, NotAge, Empty, BadHeader, Mangled},
	"payload failure": {Truncated, Corrupt, Trailing},
	"no match":        {NoMatch},
	"HMAC failure":    {BadMAC},
}

// TestVectors runs every vector through Open. Passphrase files are refused by Open before any
// work; those go through the same steps as a passphrase-encrypted identity file too.
func TestVectors(t *testing.T) {
	names, err := fs.ReadDir(agetest.Vectors, ".")
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < 147 {
		t.Fatalf("%d vectors, want at least 147", len(names))
	}
	seen := map[Class]int{}
	for _, n := range names {
		t.Run(n.Name(), func(t *testing.T) {
			data, err := fs.ReadFile(agetest.Vectors, n.Name())
			if err != nil {
				t.Fatal(err)
			}
			v := readVector(t, data)
			value, err := v.ids.Open("vector", v.file)
			if v.passphrase != "" {
				if value != nil || err == nil {
					t.Fatal("Open of a passphrase file succeeded")
				}
				value, err = openPassphrase(v.file, []byte(v.passphrase))
				if _, typed := err.(*OpenError); err != nil && !typed {
					err = &OpenError{Class: NoMatch}
				}
			}
			checkVector(t, v, value, err, seen)
		})
	}
	for _, c := range []Class{BadHeader, BadArmor, BadMAC, NoMatch, Truncated, Corrupt, Trailing} {
		if seen[c] == 0 {
			t.Errorf("no vector was told to be %s: the class is not told apart", c)
		}
	}
}

func checkVector(t *testing.T, v vector, value []byte, err error, seen map[Class]int) {
	t.Helper()
	if v.expect == "success" {
		sum := sha256.Sum256(value)
		if err != nil || hex.EncodeToString(sum[:]) != v.payload {
			t.Fatalf("Open: %v, and the right payload is %t", err, err == nil)
		}
		return
	}
	if value != nil {
		t.Fatalf("Open gave %d bytes of a file that fails (%s)", len(value), v.expect)
	}
	var e *OpenError
	if !errors.As(err, &e) {
		t.Fatalf("Open: %T, want *OpenError", err)
	}
	seen[e.Class]++
	for _, c := range classesFor[v.expect] {
		if e.Class == c {
			return
		}
	}
	t.Errorf("Open told %s, want one of %v for %q", e.Class, classesFor[v.expect], v.expect)
}

// TestVectorsRedacted: nothing that a vector holds comes back in an error, in any class.
func TestVectorsRedacted(t *testing.T) {
	k, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	ids := &Identities{list: []*identity{{key: k, public: k.Recipient().String()}}}
	const canary = "hunter2-canary"
	for _, data := range []string{
		canary, "password=" + canary + "\n", "AGE-SECRET-KEY-" + canary,
		"age-encryption.org/v1\n-> X25519 " + canary + "\n" + canary + "\n--- " + canary + "\n",
		"age-encryption.org/v1\n-> " + canary + " x\n\n--- " + canary,
		"-----BEGIN AGE ENCRYPTED FILE-----\n" + canary + "\n",
		"age-encryption.org/v1\r\n" + canary,
	} {
		_, err := ids.Open("f", []byte(data))
		if err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("Open quoted the file: %v", strings.ReplaceAll(err.Error(), canary, "CANARY"))
		}
	}
}
