package yamledit_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bellhop/internal/yamledit"
)

func TestAddHost(t *testing.T) {
	fields := []string{"address", "192.168.0.12", "host_key", "ssh-ed25519 AAAA+/b=", "arch", "amd64"}
	entry := func(in string) string {
		return in + "c:\n" + in + in + "address: 192.168.0.12\n" + in + in + "host_key: ssh-ed25519 AAAA+/b=\n" + in + in + "arch: amd64\n"
	}
	for _, tt := range []struct{ name, text, want string }{
		{"none", "network: x\n", "network: x\nhosts:\n" + entry("  ")},
		{"empty", "hosts: {} # all of them\nnetwork: x", "hosts: # all of them\n" + entry("  ") + "network: x\n"},
		{"null", "hosts:\n", "hosts:\n" + entry("  ")},
		{
			"others, comments and blank lines",
			"# the fleet\nhosts:\n    a: { address: 1.2.3.4 } # first\n\n    # the second\n    b:\n        address: b\n\n# how it goes out\nrollout: {}\n",
			"# the fleet\nhosts:\n    a: { address: 1.2.3.4 } # first\n\n    # the second\n    b:\n        address: b\n" + entry("    ") + "\n# how it goes out\nrollout: {}\n",
		},
	} {
		got, err := yamledit.AddHost(tt.text, "c", fields)
		if err != nil {
			t.Errorf("%s: AddHost: %v", tt.name, err)
		} else if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: AddHost (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestAddHostRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"there already": "hosts:\n  c:\n    address: d\n",
		"flow mapping":  "hosts: { a: { address: b } }\n",
		"not YAML":      "hosts: [\n",
	} {
		if got, err := yamledit.AddHost(text, "c", []string{"address", "e"}); err == nil {
			t.Errorf("AddHost(%s) = %q, want an error", name, got)
		}
	}
}

func TestAddHostQuotes(t *testing.T) {
	for _, v := range []string{"yes", "0x10", "a: b", "#c", "[::1]:22", "1e3", "~"} {
		got, err := yamledit.AddHost("network: x\n", "n", []string{"address", v})
		if err != nil {
			t.Errorf("AddHost with address %q: %v\n%s", v, err, got)
		}
	}
}

func TestDropHostIsAddHostUndone(t *testing.T) {
	text := "network: x\nhosts:\n  a:\n    address: b\n\n# end\nrollout: {}\n"
	with, err := yamledit.AddHost(text, "c", []string{"address", "e"})
	if err != nil || !strings.Contains(with, "  c:\n") {
		t.Fatalf("AddHost = %q, %v", with, err)
	}
	got, err := yamledit.DropHost(with, "c")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(text, got); diff != "" {
		t.Errorf("DropHost (-want +got):\n%s", diff)
	}
	if _, err := yamledit.DropHost(text, "zz"); err == nil {
		t.Error("DropHost of a host that is not there gave no error")
	}
}

// The second host goes below a hosts: line that has a comment behind it.
func TestAddHostTwice(t *testing.T) {
	text := "network: n\nhosts: {}                 # bellhop host add NAME root@ADDRESS\n"
	for _, name := range []string{"h1", "h2"} {
		var err error
		if text, err = yamledit.AddHost(text, name, []string{"address", "10.0.0.1"}); err != nil {
			t.Fatalf("add %s: %v", name, err)
		}
	}
	want := "network: n\nhosts:                 # bellhop host add NAME root@ADDRESS\n  h1:\n    address: 10.0.0.1\n  h2:\n    address: 10.0.0.1\n"
	if text != want {
		t.Errorf("got:\n%s\nwant:\n%s", text, want)
	}
}
