package bundle_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bellhop/internal/bundle"
)

const (
	oldToplevel = "/nix/store/0c3x1s2kkyv2pjyzq8lhnhmdgcqn2r4d-nixos-system-lufta-26.05"
	newToplevel = "/nix/store/zz3x1s2kkyv2pjyzq8lhnhmdgcqn2r4d-nixos-system-lufta-26.05"
)

func withSystem(path, action string) bundle.Manifest {
	m := sample()
	m.System = &bundle.System{Path: path, Action: action}
	return m
}

// A system is part of the digest, and of the digest of its service alone; a manifest without one has
// the digest and the bytes that it had before there were systems.
func TestSystemDigest(t *testing.T) {
	without, with := sample(), withSystem(oldToplevel, "")
	if d := without.Digest(); d != "fec4f8e3e0dddf1e00a41e42934266f148b135bb35bdaa8b6dc5e283db99e31c" {
		t.Errorf("Digest of a manifest without a system = %s", d)
	}
	if p, _ := json.Marshal(without); strings.Contains(string(p), "system\":{") {
		t.Errorf("a manifest without a system encodes as %s", p)
	}

	alike := withSystem(oldToplevel, bundle.ActionSwitch)
	if with.Digest() != alike.Digest() {
		t.Error("an empty action and switch have two digests")
	}
	for name, other := range map[string]bundle.Manifest{
		"no system":      without,
		"another path":   withSystem(newToplevel, ""),
		"another action": withSystem(oldToplevel, bundle.ActionBoot),
	} {
		if other.Digest() == with.Digest() {
			t.Errorf("%s: the digest is the same", name)
		}
		if bundle.ServiceDigest(&other, bundle.SystemService) == bundle.ServiceDigest(&with, bundle.SystemService) {
			t.Errorf("%s: the digest of the service nixos is the same", name)
		}
		if bundle.ServiceDigest(&other, "withinbot") != bundle.ServiceDigest(&with, "withinbot") {
			t.Errorf("%s: the digest of another service differs", name)
		}
	}
}

func TestSystemDiff(t *testing.T) {
	old, new := withSystem(oldToplevel, ""), withSystem(newToplevel, "")
	system := func(action string) []bundle.Change {
		return []bundle.Change{{Action: action, Kind: bundle.KindSystem, Name: "nixos", Service: "nixos"}}
	}
	for _, c := range []struct {
		name     string
		old, new bundle.Manifest
		want     []bundle.Change
	}{
		{"another path", old, new, system(bundle.Modify)},
		{"the first system", sample(), new, system(bundle.Add)},
		{"no system any more", old, sample(), system(bundle.Remove)},
		{"switch, spelt out", old, withSystem(oldToplevel, bundle.ActionSwitch), nil},
	} {
		if d := cmp.Diff(c.want, bundle.Diff(c.old, c.new)); d != "" {
			t.Errorf("%s: Diff (-want +got):\n%s", c.name, d)
		}
	}
}

// A system that failed stays as the last good manifest has it, and other services move on; the other
// way round too.
func TestSystemIsComposed(t *testing.T) {
	last, head := withSystem(oldToplevel, ""), withSystem(newToplevel, "")
	head.Links[0].Target = "/etc/within/b"

	c := bundle.Compose(head, last, []string{"nixos"})
	if c.Manifest.System.Path != oldToplevel || c.Manifest.Links[0].Target != "/etc/within/b" {
		t.Errorf("with nixos held: system %s, link to %s", c.Manifest.System.Path, c.Manifest.Links[0].Target)
	}
	c = bundle.Compose(head, last, []string{"withinbot"})
	if c.Manifest.System.Path != newToplevel || c.Manifest.Links[0].Target != "/etc/within/a" {
		t.Errorf("with withinbot held: system %s, link to %s", c.Manifest.System.Path, c.Manifest.Links[0].Target)
	}
	c = bundle.Compose(head, sample(), []string{"nixos"})
	if c.Manifest.System != nil {
		t.Errorf("with the first system held: system %v", c.Manifest.System)
	}
}

// Only the path of a toplevel becomes the argument of a command on the host.
func TestBadSystem(t *testing.T) {
	good := bundle.System{Path: oldToplevel}
	if bad := good.Bad(); bad != "" {
		t.Errorf("Bad of a good system = %q", bad)
	}
	for _, s := range []bundle.System{
		{Path: ""},
		{Path: "/etc"},
		{Path: oldToplevel + "/bin"},
		{Path: oldToplevel + "\n"},
		{Path: "/nix/store/" + strings.Repeat("e", 32) + "-x"},
		{Path: "/nix/store/.links"},
		{Path: oldToplevel, Action: "dry-activate"},
	} {
		if s.Bad() == "" {
			t.Errorf("Bad(%q, %q) = \"\"", s.Path, s.Action)
		}
	}
}
