package newhost

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"bellhop/internal/plain"
)

func FuzzFacts(f *testing.F) {
	f.Add([]byte(goodFacts))
	f.Add([]byte("bellhop-facts 1\nuname Darwin\nsudo no sudo: sorry, you must have a tty\nkey failed\nend\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		facts, err := parseFacts(p, time.Unix(1700000000, 0))
		if err != nil {
			clean(t, revealed(err))
			return
		}
		for _, s := range append(facts.Problems, facts.Notes...) {
			clean(t, revealed(s))
		}
		for _, k := range facts.HostKeys {
			if strings.ContainsAny(k, "\n\x00") {
				t.Errorf("host key %q has more than a line", k)
			}
		}
	})
}

const goodFacts = "Last login: yesterday\nbellhop-facts 1\nuname Linux aarch64\ntime 1700000090\nuid 1000\n" +
	"systemd systemd 249 (249.11)\nnixos yes\nsudo no sudo: a password is required\n" +
	"hostkey ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGILhP/qO5Uy2VfC6/FtuQTPrxent2DtHMZdOsEKA9tn root@x\n" +
	"mount / rw,relatime\nmount /usr/local ro\nmount /opt rw,noexec\nkey added\nend\n"

func TestFacts(t *testing.T) {
	f, err := parseFacts([]byte(goodFacts), time.Unix(1700000000, 5e8))
	if err != nil {
		t.Fatal(err)
	}
	if f.Arch != "arm64" || f.Systemd != 249 || !f.NixOS || f.Root || f.Skew != 90*time.Second || !f.KeyAdded || len(f.HostKeys) != 1 {
		t.Errorf("parseFacts = %+v", f)
	}
	if got := strings.Join(f.NoExec, " "); got != "/usr/local/libexec/bellhop /opt/bellhop/.bin" {
		t.Errorf("NoExec = %q", got)
	}
	if got := texts(f.Problems); !strings.Contains(got, "NOPASSWD") || !strings.Contains(got, "clock is 1m30s off") || len(f.Problems) != 2 {
		t.Errorf("Problems = %q", got)
	}
	if len(f.Notes) != 1 || !strings.Contains(texts(f.Notes), "sealed needs 250") {
		t.Errorf("Notes = %q", texts(f.Notes))
	}
	if _, err := parseFacts([]byte(strings.TrimSuffix(goodFacts, "end\n")), time.Now()); err == nil {
		t.Error("facts that were cut short are taken for whole")
	}
}

// Where ramfs is refused keys stand on a tmpfs; a host that swaps in the clear is named for it.
func TestFactsOfKeys(t *testing.T) {
	for more, want := range map[string]string{
		"keys ramfs\nswap /dev/sda2\n":                 "",
		"swap /dev/sda2\n":                             "",
		"keys tmpfs\nswap Filename\nswap /dev/zram0\n": "which the host refuses, but on: tmpfs",
		"keys tmpfs\nswap Filename\nswap /swap file\n": "a key may reach the host's disk: keys do not stand on a ramfs, and it swaps to: /swap file",
		"keys tmpfs\nswap /dev/sda2\nswap /dev/dm-0\n": "swaps to: /dev/sda2",
	} {
		f, err := parseFacts([]byte(strings.Replace(goodFacts, "end\n", more+"end\n", 1)), time.Unix(1700000000, 5e8))
		if err != nil {
			t.Fatal(err)
		}
		if got := texts(f.Notes[1:]); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%q: notes %q, want %q", more, texts(f.Notes), want)
		}
	}
}

// What login shells would read for themselves must not stand in the line.
func TestScript(t *testing.T) {
	for _, bad := range []string{"'", "!", "\n", `\\`} {
		if strings.Contains(factsScript, bad) {
			t.Errorf("the script contains %q", bad)
		}
	}
}

// clean fails for text that could move a terminal's cursor or break a line.
func clean(t *testing.T, s string) {
	t.Helper()
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) {
		t.Errorf("%q is not fit for a line of text", s)
	}
}

// revealed is an error as a person reads it, where no secret is known.
func revealed(err error) string { return plain.Reveal(err, func(s string) string { return s }) }

func texts(of []*plain.Quote) string {
	var all []string
	for _, q := range of {
		all = append(all, revealed(q))
	}
	return strings.Join(all, "; ")
}
