package link

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"bellhop/internal/bundle"
	"bellhop/internal/plain"
)

// FuzzGreeting: whatever a host prints, what we keep of it is clean, and the helper's part
// starts at its magic.
func FuzzGreeting(f *testing.F) {
	f.Add([]byte("noise\x00bellhop-need Linux x86_64\n"))
	f.Add([]byte("\x00\x00bellhop-host 1\nH\x00\x00\x00\x02{}"))
	f.Add([]byte("\x00bellhop-fail write /opt\x1b[2J\n"))
	f.Add([]byte("\x00bellhop-done"))
	f.Fuzz(func(t *testing.T, p []byte) {
		g, ok := parseGreeting(p)
		if !ok {
			if bytes.Contains(p, []byte(bundle.Magic)) {
				t.Errorf("parseGreeting(%q) missed the magic", p)
			}
			return
		}
		if g.kind == "magic" && (!bytes.HasPrefix(g.rest, []byte(bundle.Magic)) || !bytes.HasSuffix(p, g.rest)) {
			t.Errorf("parseGreeting(%q) begins at %q", p, g.rest)
		}
		clean(t, revealed(uploadFailure(g, string(p), p)))
		if arch, err := GoArch(g.text); err != nil {
			clean(t, revealed(err))
		} else if arch == "" {
			t.Errorf("GoArch(%q) is empty", g.text)
		}
	})
}

func FuzzParseLine(f *testing.F) {
	f.Add(ServeLine(noDigest, true, false))
	f.Add(UploadLine(noDigest, false))
	f.Fuzz(func(t *testing.T, line string) {
		switch verb, digest := ParseLine(line); verb {
		case "serve":
			if line != ServeLine(digest, false, false) && line != ServeLine(digest, true, false) {
				t.Errorf("ParseLine(%q) = serve", line)
			}
		case "ahead":
			if line != ServeLine(digest, false, true) && line != ServeLine(digest, true, true) {
				t.Errorf("ParseLine(%q) = ahead", line)
			}
		case "upload":
			if line != UploadLine(digest, false) && line != UploadLine(digest, true) {
				t.Errorf("ParseLine(%q) = upload", line)
			}
		}
	})
}

// clean fails for text that could move a terminal's cursor or break a line.
func clean(t *testing.T, s string) {
	t.Helper()
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) {
		t.Errorf("%q is not fit for a line of text", s)
	}
}

func TestSudoRefusals(t *testing.T) {
	for said, want := range map[string]string{
		"sudo: a password is required\n":                                                           "NOPASSWD",
		"sudo: sorry, you must have a tty to run sudo\n":                                           "requiretty",
		"sudo: no tty present and no askpass program specified\n":                                  "tty",
		"cadey is not in the sudoers file.\n":                                                      "not in sudoers",
		"Sorry, user cadey is not allowed to execute '/bin/sh' as root on h3.\n":                   "not in sudoers",
		"sh: 1: sudo: not found\n":                                                                 "not installed",
		"sudo: unable to resolve host h3: nothing\nsudo: interactive authentication is required\n": "NOPASSWD",
	} {
		if err := SudoRefusal(said); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("SudoRefusal(%q) = %v, want %q", said, err, want)
		}
	}
	for _, said := range []string{"", "make: *** error", "sudo: unable to resolve host h3: Temporary failure in name resolution\n"} {
		if err := SudoRefusal(said); err != nil {
			t.Errorf("SudoRefusal(%q) = %v, want nil", said, err)
		}
	}
}

func TestBackoff(t *testing.T) {
	for _, tt := range []struct {
		n          int
		away, want time.Duration
	}{
		{1, 0, 200 * time.Millisecond}, {2, 0, 400 * time.Millisecond}, {4, 0, 1600 * time.Millisecond},
		{5, 4 * time.Second, 2 * time.Second}, {200, 9 * time.Minute, 2 * time.Second}, {300, 10 * time.Minute, 30 * time.Second},
	} {
		if got := backoff(tt.n, tt.away); got != tt.want {
			t.Errorf("backoff(%d, %v) = %v, want %v", tt.n, tt.away, got, tt.want)
		}
	}
}

// TestScripts: what login shells would read for themselves must not stand in the lines.
func TestScripts(t *testing.T) {
	for name, s := range map[string]string{"serve": serveScript, "upload": uploadScript} {
		for _, bad := range []string{"'", "!", "\n", `\\`} {
			if strings.Contains(s, bad) {
				t.Errorf("script %s contains %q", name, bad)
			}
		}
	}
}

// revealed is an error as a person reads it, where no secret is known.
func revealed(err error) string { return plain.Reveal(err, func(s string) string { return s }) }
