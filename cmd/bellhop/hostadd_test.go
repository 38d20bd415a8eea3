package main

import (
	"testing"

	"github.com/goccy/go-yaml"
)

// A machine that is in bellhop.yaml under another name is found by any of its addresses.
func TestKnownFleetAt(t *testing.T) {
	var k knownFleet
	if err := yaml.Unmarshal([]byte("hosts:\n  chrysalis: { address: 192.168.0.12 }\n  lufta: { address: [lufta.lan, '[fd00::1]:2222'] }\n"), &k); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{
		"192.168.0.12:22":   "chrysalis",
		"192.168.0.12:2222": "",
		"lufta.lan:22":      "lufta",
		"[fd00::1]:2222":    "lufta",
		"[fd00::1]:22":      "",
	} {
		if got := k.at(address); got != want {
			t.Errorf("at(%q) = %q, want %q", address, got, want)
		}
	}
}

func TestSSHDestination(t *testing.T) {
	for dest, want := range map[string]string{
		"root@192.168.0.12":          "root@192.168.0.12",
		"box":                        "box",
		"root@fd00::1":               "root@fd00::1",
		"root@[fd00::1]:2222":        "ssh://root@[fd00::1]:2222",
		"lufta.lan:2222":             "ssh://lufta.lan:2222",
		"ssh://cadey@lufta.lan:2222": "ssh://cadey@lufta.lan:2222",
	} {
		if got := sshDestination(dest); got != want {
			t.Errorf("sshDestination(%q) = %q, want %q", dest, got, want)
		}
	}
}
