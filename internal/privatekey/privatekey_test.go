package privatekey_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"

	"bellhop/internal/privatekey"
)

// keys makes one of each kind, and a piece of its secret part.
func keys(t *testing.T) map[string][2]string {
	t.Helper()
	classic, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "c")
	if err != nil {
		t.Fatal(err)
	}
	openSSH := string(pem.EncodeToMemory(block))
	lower := strings.ToLower(classic.String())
	return map[string][2]string{
		"age":          {classic.String(), classic.String()[20:40]},
		"age lower":    {lower, lower[20:40]},
		"post-quantum": {hybrid.String(), hybrid.String()[30:50]},
		"OpenSSH":      {openSSH, strings.Split(openSSH, "\n")[3][:30]},
		"PuTTY":        {"PuTTY-User-Key-File-3: ssh-ed25519\nPrivate-Lines: 1\nAAAAIB0123456789abcdef0123456789\nPrivate-MAC: 00ff\n", "AAAAIB0123456789abcdef"},
	}
}

func TestFindAndMask(t *testing.T) {
	for kind, key := range keys(t) {
		quoted, err := json.Marshal(key[0])
		if err != nil {
			t.Fatal(err)
		}
		texts := map[string]string{
			"alone":            key[0],
			"in a line":        "readerz: " + key[0],
			"in JSON":          `{"key": ` + string(quoted) + `}`,
			"indented":         "a: |\n  " + strings.ReplaceAll(key[0], "\n", "\n  ") + "\nb: 2\n",
			"base64":           "data: " + base64.StdEncoding.EncodeToString([]byte(key[0])),
			"base64 of a file": base64.StdEncoding.EncodeToString([]byte("# created: 2026\n" + key[0])),
			"base64, shifted":  base64.StdEncoding.EncodeToString([]byte("x=\n" + key[0])),
			"base64 of a URL":  base64.RawURLEncoding.EncodeToString([]byte("ab" + key[0])),
		}
		for where, text := range texts {
			if found, _ := privatekey.Find([]byte(text)); found == "" {
				t.Errorf("%s %s: not found", kind, where)
			}
			masked := privatekey.Mask(text)
			if strings.Contains(masked, key[1]) || strings.Contains(masked, base64.StdEncoding.EncodeToString([]byte(key[1]))[2:20]) {
				t.Errorf("%s %s: Mask leaves %q", kind, where, masked)
			}
			if got, want := strings.Count(masked, "\n"), strings.Count(text, "\n"); got != want {
				t.Errorf("%s %s: Mask makes %d line ends of %d", kind, where, got, want)
			}
			if found, _ := privatekey.Find([]byte(masked)); found != "" {
				t.Errorf("%s %s: a key is found in what Mask returns: %q", kind, where, masked)
			}
		}
	}
}

func TestMaskOfAPieceThatWasCut(t *testing.T) {
	for kind, key := range keys(t) {
		head := key[0][:len(key[0])*2/3]
		if masked := privatekey.Mask("x: " + head); strings.Contains(masked, key[1]) {
			t.Errorf("%s, cut: Mask leaves %q", kind, masked)
		}
	}
}

func TestTalkOfKeysPasses(t *testing.T) {
	for _, text := range []string{
		"an identity begins with AGE-SECRET-KEY-1…", "BELLHOP_IDENTITY=AGE-SECRET-KEY-1...",
		"a PRIVATE KEY is not for others", "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",
		"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB0123456789abcdef0123456789abcdef01234567", strings.Repeat("0123456789abcdef", 10),
	} {
		if kind, _ := privatekey.Find([]byte(text)); kind != "" {
			t.Errorf("Find(%q) = %s", text, kind)
		}
		if got := privatekey.Mask(text); got != text {
			t.Errorf("Mask(%q) = %q", text, got)
		}
	}
}

func FuzzMask(f *testing.F) {
	f.Add("a: AGE-SECRET-" + "KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX\n")
	f.Fuzz(func(t *testing.T, text string) {
		masked := privatekey.Mask(text)
		if got, want := strings.Count(masked, "\n"), strings.Count(text, "\n"); got != want {
			t.Fatalf("Mask makes %d line ends of %d", got, want)
		}
	})
}
