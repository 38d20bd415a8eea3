package fleet_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
)

// hostKey is a public key that depends on seed alone.
func hostKey(seed string) string {
	sum := sha256.Sum256([]byte(seed))
	pub, err := ssh.NewPublicKey(ed25519.NewKeyFromSeed(sum[:]).Public())
	if err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub)))
}

// designYAML is bellhop.yaml as DESIGN.md shows it, with real keys for the ellipses.
func designYAML() string {
	return `network: hexagone
readers:                            # who can open the secrets
  cadey: age1cadey
  deployer: age1deployer
deployer: ` + hostKey("deployer") + `
all:                                # every host; a group's line wins over it, a host's own over both
  services: { node-exporter: true }
groups:                             # by tag
  bots:
    services: { withinbot: { enable: true } }
hosts:
  chrysalis:
    address: 192.168.0.12           # IP, [v6]:port, name, name:port; or a list tried in order
    host_key: ` + hostKey("chrysalis") + `
    arch: amd64
    user: root                      # another user: the helper runs under sudo -n
    jump: lufta                     # through another host
    tags: [bots]
    services:
      printerfacts: { enable: true, port: 5000 }   # settings stand beside enable, as in a NixOS module
      oldbot: false
  lufta:
    address: lufta.lan
    host_key: ` + hostKey("lufta") + `
rollout:                            # optional
  parallel: 10
`
}

var sha = strings.Repeat("9f86", 16)

var designService = `description: the furryhole chatbot
user: { name: withinbot, group: within, home: /srv/within/withinbot, extra_groups: [keys] }   # or: user: withinbot
package:                            # reached as /opt/bellhop/withinbot
  version: 0.1.0
  url: https://example.com/withinbot-{version}-linux-{arch}.tar.gz
  sha256: { amd64: ` + sha + `, arm64: ` + strings.Repeat("6030", 16) + ` }
keys:                               # or: keys: [withinbot] with secrets/withinbot.age, the user above, 0400
  withinbot: { source: secrets/withinbot.env.age, user: withinbot, group: within, permissions: "0640" }
settings: { port: 3030 }            # defaults; an unknown setting on a host is an error
files: { /etc/within/facts.txt: { user: withinbot, mode: "0640" } }    # only what differs from root, 0644/0755
units: { withinbot.service: { on_change: reload } }                    # only what differs from the rules below
needs: [python3]                    # commands that must be there; told before anything is touched
`

const designUnit = `[Service]
User=withinbot
Group=within
WorkingDirectory=/srv/within/withinbot
EnvironmentFile=/run/keys/withinbot
Environment=CAMPAIGN_FOLDER=/opt/bellhop/withinbot/campaigns
ExecStart=/opt/bellhop/withinbot/bin/withinbot
Restart=on-failure
RestartSec=30s
[Install]
WantedBy=multi-user.target
`

const plainUnit = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"

func file(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s), Mode: 0o644} }

func tree(files map[string]string) fstest.MapFS {
	t := fstest.MapFS{}
	for name, data := range files {
		t[name] = file(data)
	}
	return t
}

func designTree() fstest.MapFS {
	return tree(map[string]string{
		"bellhop.yaml":                                    designYAML(),
		"services/withinbot/service.yaml":                 designService,
		"services/withinbot/withinbot.service":            designUnit,
		"services/withinbot/README.md":                    "about",
		"services/withinbot/files/etc/within/facts.txt":   "printers are alive\n",
		"services/printerfacts/service.yaml":              "settings: { port: 80 }\n",
		"services/printerfacts/printerfacts.service":      plainUnit,
		"services/printerfacts/files/etc/facts.conf.tmpl": "port={{ .Settings.port }}\n",
		"services/node-exporter/node-exporter.service":    plainUnit,
		"secrets/withinbot.env.age":                       "TOKEN=1",
	})
}

// open stands for secrets: the sealed file is its own plaintext, unless it says broken.
func open(t fs.FS, name string) ([]byte, error) {
	p, err := fs.ReadFile(t, name)
	if err == nil && strings.HasPrefix(string(p), "broken") {
		return nil, fmt.Errorf("%s: no identity matched", name)
	}
	return p, err
}

func loader() *fleet.Loader {
	return &fleet.Loader{Open: open, KeyDigest: func(v []byte) string { return fmt.Sprintf("%x", bundle.KeyMAC([]byte("k"), v)) }}
}

func mustLoad(t *testing.T, tree fs.FS) *fleet.Fleet {
	t.Helper()
	f, err := loader().Load(t.Context(), tree)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return f
}

func mustBundle(t *testing.T, f *fleet.Fleet, host string) *fleet.Bundle {
	t.Helper()
	b, err := f.Bundle(host)
	if err != nil {
		t.Fatalf("Bundle(%s): %v", host, err)
	}
	return b
}

// text is the content of a file in a bundle.
func text(t *testing.T, b *fleet.Bundle, path string) string {
	t.Helper()
	for _, f := range b.Files {
		if f.Path == path {
			p, err := b.File(f.Digest)
			if err != nil {
				t.Fatalf("File(%s): %v", path, err)
			}
			if bundle.DigestBytes(p) != f.Digest || int64(len(p)) != f.Size {
				t.Errorf("File(%s) has digest %s and %d bytes, manifest says %s and %d", path, bundle.DigestBytes(p), len(p), f.Digest, f.Size)
			}
			return string(p)
		}
	}
	t.Fatalf("no file %s in bundle of %s: %v", path, b.Host, paths(b))
	return ""
}

func paths(b *fleet.Bundle) []string {
	var out []string
	for _, f := range b.Files {
		out = append(out, f.Path)
	}
	return out
}

func unit(t *testing.T, b *fleet.Bundle, name string) bundle.Unit {
	t.Helper()
	i := slices.IndexFunc(b.Units, func(u bundle.Unit) bool { return u.Name == name })
	if i < 0 {
		t.Fatalf("no unit %s: %v", name, b.Units)
	}
	return b.Units[i]
}

func TestDesignExample(t *testing.T) {
	f := mustLoad(t, designTree())
	if len(f.Warnings) != 2 || !strings.Contains(f.Warnings[0].Message, "oldbot") || !strings.Contains(f.Warnings[1].Message, "no ExecReload=") {
		t.Errorf("Warnings = %v, want one about oldbot and one about a reload", f.Warnings)
	}
	if f.Network != "hexagone" || f.Rollout.Parallel != 10 {
		t.Errorf("network %q, rollout %+v", f.Network, f.Rollout)
	}
	h, ok := f.Host("chrysalis")
	if !ok || h.Jump != "lufta" || h.User != "root" || !slices.Equal(h.Addresses, []string{"192.168.0.12:22"}) || !slices.Equal(h.Services, []string{"node-exporter", "printerfacts", "withinbot"}) {
		t.Errorf("Host(chrysalis) = %+v", h)
	}
	if got := h.Settings["printerfacts"]["port"]; got != int64(5000) {
		t.Errorf("printerfacts port = %v, want 5000", got)
	}
	b := mustBundle(t, f, "chrysalis")
	want := []string{
		"/etc/facts.conf",
		"/etc/systemd/system/node-exporter.service",
		"/etc/systemd/system/printerfacts.service",
		"/etc/systemd/system/withinbot-key.service",
		"/etc/systemd/system/withinbot.service",
		"/etc/systemd/system/withinbot.service.d/50-bellhop.conf",
		"/etc/sysusers.d/bellhop-withinbot.conf",
		"/etc/tmpfiles.d/bellhop-withinbot.conf",
		"/etc/within/facts.txt",
	}
	if diff := cmp.Diff(want, paths(b)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	for path, want := range map[string]string{
		"/etc/facts.conf":                        "port=5000\n",
		"/etc/sysusers.d/bellhop-withinbot.conf": "g within -\nu withinbot -:within - /srv/within/withinbot -\n",
		"/etc/tmpfiles.d/bellhop-withinbot.conf": "d /srv/within/withinbot 0750 withinbot within - -\n",
		"/etc/systemd/system/withinbot.service.d/50-bellhop.conf": `[Unit]
Requires=withinbot-key.service
After=withinbot-key.service
AssertPathExists=/run/keys/withinbot
[Service]
SupplementaryGroups=keys
`,
		"/etc/systemd/system/withinbot-key.service": `[Unit]
Description=Key withinbot
DefaultDependencies=no
RequiresMountsFor=/run/keys /var/lib/bellhop
After=local-fs.target systemd-sysusers.service
Before=shutdown.target withinbot.service
Conflicts=shutdown.target
Wants=withinbot.service
StartLimitIntervalSec=0
[Service]
Type=oneshot
RemainAfterExit=yes
UMask=0077
ExecStart=/bin/sh -c 'chown root:keys /run/keys; test -e /run/keys/withinbot && exit 0; echo "key withinbot has not come since this boot" >&2; exit 1'
`,
	} {
		if diff := cmp.Diff(want, text(t, b, path)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	wantKey := bundle.Key{Name: "withinbot", Path: "/run/keys/withinbot", User: "withinbot", Group: "within", Mode: 0o640, Source: "secrets/withinbot.env.age", Service: "withinbot",
		Digest: fmt.Sprintf("%x", bundle.KeyMAC([]byte("k"), []byte("TOKEN=1")))}
	if diff := cmp.Diff([]bundle.Key{wantKey}, b.Keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if v, err := b.Key("withinbot"); err != nil || string(v) != "TOKEN=1" {
		t.Errorf("Key(withinbot) = %q, %v", v, err)
	}
	wantPkg := bundle.Package{Name: "withinbot", Service: "withinbot", Digest: sha, Kind: "tar.gz", URL: "https://example.com/withinbot-0.1.0-linux-amd64.tar.gz"}
	if diff := cmp.Diff([]bundle.Package{wantPkg}, b.Packages); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
	wantUnits := []bundle.Unit{
		{Name: "node-exporter.service", Service: "node-exporter", Enable: true, Start: true, OnChange: "restart", Triggers: []string{"file:/etc/systemd/system/node-exporter.service"}, Files: []string{"/etc/systemd/system/node-exporter.service"}},
		{Name: "printerfacts.service", Service: "printerfacts", Enable: true, Start: true, OnChange: "restart", Triggers: []string{"file:/etc/facts.conf", "file:/etc/systemd/system/printerfacts.service"}, Files: []string{"/etc/systemd/system/printerfacts.service"}},
		{Name: "withinbot-key.service", Service: "withinbot", Start: true, OnChange: "none", KeyUnit: true, Files: []string{"/etc/systemd/system/withinbot-key.service"}},
		{Name: "withinbot.service", Service: "withinbot", Enable: true, Start: true, OnChange: "reload", Triggers: []string{
			"file:/etc/systemd/system/withinbot.service", "file:/etc/systemd/system/withinbot.service.d/50-bellhop.conf", "file:/etc/sysusers.d/bellhop-withinbot.conf",
			"file:/etc/tmpfiles.d/bellhop-withinbot.conf", "file:/etc/within/facts.txt", "key:withinbot", "package:withinbot"},
			Files: []string{"/etc/systemd/system/withinbot.service", "/etc/systemd/system/withinbot.service.d/50-bellhop.conf"}},
	}
	if diff := cmp.Diff(wantUnits, b.Units); diff != "" {
		t.Errorf("units (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]bundle.User{{Name: "withinbot", Group: "within", Home: "/srv/within/withinbot", Service: "withinbot"}}, b.Users); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
	if !slices.Equal(b.Groups, []string{"within"}) || b.Digest != b.Manifest.Digest() {
		t.Errorf("groups %v, digest %s", b.Groups, b.Digest)
	}
	if got := paths(mustBundle(t, f, "lufta")); !slices.Equal(got, []string{"/etc/systemd/system/node-exporter.service"}) {
		t.Errorf("lufta has %v", got)
	}
	_ = maps.Keys[map[string]int]
}
