package fleet_test

import (
	"slices"
	"strings"
	"testing"

	"bellhop/internal/fleet"

	"github.com/google/go-cmp/cmp"
)

func TestHostsOfFilesAndGroups(t *testing.T) {
	f := mustLoad(t, tree(map[string]string{
		"bellhop.yaml": `network: n
all: { user: admin, services: { svc: { port: 1, name: all }, off: true } }
groups:
  bots: { user: bot, services: { svc: { port: 2 } } }
hosts:
  one: { address: ["::1", "[fe80::1%eth0]:2222", Name.local, "h:2200", "[::2]"], host_key: [` + hostKey("1") + " one, " + hostKey("2") + `], tags: [bots, x, bots] }
`,
		"hosts/two.yaml":            "address: 10.1.1.1\nhost_key: " + hostKey("2") + "\nuser: root\njump: one\ntags: [bots]\nservices:\n  svc: { port: 3 }\n  off: { enable: false, v: 1 }\n",
		"services/svc/service.yaml": "settings: { port: 0, name: none, list: [a] }\n",
		"services/svc/svc.service":  plainUnit,
		"services/off/service.yaml": "settings: { v: 0 }\n",
		"services/off/off.service":  plainUnit,
		"services/README.md":        "x",
	}))
	one, _ := f.Host("one")
	two, _ := f.Host("two")
	if want := []string{"[::1]:22", "[fe80::1%eth0]:2222", "name.local:22", "h:2200", "[::2]:22"}; !slices.Equal(one.Addresses, want) {
		t.Errorf("addresses %q, want %q", one.Addresses, want)
	}
	if want := []string{hostKey("1"), hostKey("2")}; !slices.Equal(one.HostKeys, want) {
		t.Errorf("host keys %q, want %q", one.HostKeys, want)
	}
	if one.User != "bot" || two.User != "root" || two.Jump != "one" || !slices.Equal(one.Tags, []string{"bots", "x"}) {
		t.Errorf("one %+v\ntwo %+v", one, two)
	}
	if diff := cmp.Diff(map[string]map[string]any{
		"svc": {"port": int64(2), "name": "all", "list": []any{"a"}}, "off": {"v": int64(0)},
	}, one.Settings); diff != "" {
		t.Errorf("settings of one (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]map[string]any{"svc": {"port": int64(3), "name": "all", "list": []any{"a"}}}, two.Settings); diff != "" {
		t.Errorf("settings of two (-want +got):\n%s", diff)
	}
}

func TestOwnLineDecidesBetweenGroups(t *testing.T) {
	f := mustLoad(t, tree(map[string]string{
		"bellhop.yaml": "network: n\ngroups:\n  a: { services: { svc: { port: 1 } } }\n  b: { services: { svc: { port: 2 } } }\nhosts:\n" +
			"  h: { address: x, host_key: " + hostKey("h") + ", tags: [a, b], services: { svc: { port: 3 } } }\n",
		"services/svc/service.yaml": "settings: { port: 0 }\n",
	}))
	if h, _ := f.Host("h"); h.Settings["svc"]["port"] != int64(3) {
		t.Errorf("settings %v", h.Settings)
	}
}

func TestSelect(t *testing.T) {
	var b strings.Builder
	b.WriteString("network: n\nhosts:\n")
	for name, tags := range map[string]string{"kos-mos": "[bots, web]", "chrysalis": "[bots]", "lufta": "[]", "web1": "[web]", "web2": "[web]"} {
		b.WriteString("  " + name + ": { address: " + name + ", host_key: " + hostKey(name) + ", tags: " + tags + " }\n")
	}
	f := mustLoad(t, tree(map[string]string{"bellhop.yaml": b.String()}))
	for expr, want := range map[string]string{
		"":               "chrysalis kos-mos lufta web1 web2",
		"@bots,!kos-mos": "chrysalis",
		"!kos-mos,@bots": "chrysalis",
		"web*":           "web1 web2",
		"lufta, web[12]": "lufta web1 web2",
		"!@web":          "chrysalis lufta",
		"@b*":            "chrysalis kos-mos",
	} {
		hs, err := f.Select(expr)
		var names []string
		for _, h := range hs {
			names = append(names, h.Name)
		}
		if got := strings.Join(names, " "); err != nil || got != want {
			t.Errorf("Select(%q) = %q, %v; want %q", expr, got, err, want)
		}
	}
	for expr, want := range map[string]string{"lutfa": `no host fits "lutfa"; did you mean "lufta"?`, "@bot": `did you mean "@bots"?`, "bots": `did you mean "@bots"?`,
		"@lufta": `did you mean "lufta"?`, "lufta,!lufta": "no host is left", "!*": "no host is left", "a,,b": "an empty word", "[": "bad pattern"} {
		if _, err := f.Select(expr); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Select(%q) = %v, want %q", expr, err, want)
		}
	}
}

func TestReaders(t *testing.T) {
	m := tree(map[string]string{"bellhop.yaml": `network: n
readers:
  cadey: age1cadey
  mara: [age1mara, ssh-ed25519 AAAA]
  deployer: age1deployer
  admins: [cadey, mara]
  everyone: [admins, deployer]
  secrets/web/*: [admins, deployer]
  secrets/*.age: cadey
verify:
  allow: [test/fixture.key]
`})
	want := fleet.Readers{
		Names: map[string][]string{"cadey": {"age1cadey"}, "mara": {"age1mara", "ssh-ed25519 AAAA"}, "deployer": {"age1deployer"},
			"admins": {"age1cadey", "age1mara", "ssh-ed25519 AAAA"}, "everyone": {"age1cadey", "age1deployer", "age1mara", "ssh-ed25519 AAAA"}},
		Rules: []fleet.Rule{{Pattern: "secrets/web/*", Readers: []string{"admins", "deployer"}, File: "bellhop.yaml", Line: 8}, {Pattern: "secrets/*.age", Readers: []string{"cadey"}, File: "bellhop.yaml", Line: 9}},
		Allow: []string{"test/fixture.key"},
	}
	got, err := fleet.ReadReaders(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ReadReaders (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, mustLoad(t, m).Readers); diff != "" {
		t.Errorf("Readers (-want +got):\n%s", diff)
	}
}

func TestEnvQuote(t *testing.T) {
	for in, want := range map[string]string{"": `""`, "abc": "abc", "a b": `"a b"`, `a"b`: `"a\"b"`, "$x`y`": "\"\\$x\\`y\\`\"", `\`: `"\\"`, "postgres://u:p@h/db?x=1": `"postgres://u:p@h/db?x=1"`} {
		if got, err := fleet.EnvQuote(in); err != nil || got != want {
			t.Errorf("EnvQuote(%q) = %s, %v; want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"a\nb", "a\r", "a\x00b", "\xff"} {
		if got, err := fleet.EnvQuote(in); err == nil {
			t.Errorf("EnvQuote(%q) = %s, want a refusal", in, got)
		}
	}
}
