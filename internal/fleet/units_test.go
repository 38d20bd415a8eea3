package fleet_test

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"

	"github.com/google/go-cmp/cmp"
)

const (
	noInstall = "[Service]\nExecStart=/bin/true\n"
	oneshot   = "[Service]\nType=oneshot\nExecStart=/bin/true\n"
	install   = "[Install]\nWantedBy=multi-user.target\n"
)

// act is what systemd is asked to do with each unit: e enabled, s started, o oneshot,
// f foreign, and on_change where it is not restart.
func act(b *fleet.Bundle) map[string]string {
	out := map[string]string{}
	for _, u := range b.Units {
		if u.KeyUnit {
			continue
		}
		var s string
		for _, c := range []struct {
			on   bool
			flag string
		}{{u.Enable, "e"}, {u.Start, "s"}, {u.Oneshot, "o"}, {u.Foreign, "f"}, {u.OnChange != "restart", " " + u.OnChange}} {
			if c.on {
				s += c.flag
			}
		}
		out[u.Name] = s
	}
	return out
}

func TestUnitTable(t *testing.T) {
	for name, c := range map[string]struct {
		service string
		files   map[string]string
		want    map[string]string
	}{
		"install":            {"", map[string]string{"a.service": noInstall + install}, map[string]string{"a.service": "es"}},
		"no install":         {"", map[string]string{"a.service": noInstall}, map[string]string{"a.service": ""}},
		"empty install":      {"", map[string]string{"a.service": noInstall + "[Install]\nWantedBy=x.target\nWantedBy=\n"}, map[string]string{"a.service": ""}},
		"Also counts":        {"", map[string]string{"a.service": noInstall + "[Install]\nAlso=b.service\n", "b.service": noInstall + install}, map[string]string{"a.service": "es", "b.service": "es"}},
		"install by drop-in": {"", map[string]string{"a.service": noInstall, "a.service.d/x.conf": install}, map[string]string{"a.service": "es"}},
		"timer":              {"", map[string]string{"a.service": oneshot + install, "a.timer": "[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target\n"}, map[string]string{"a.service": "", "a.timer": "es"}},
		"timer, no install":  {"", map[string]string{"a.service": oneshot, "a.timer": "[Timer]\nOnCalendar=daily\n"}, map[string]string{"a.service": "", "a.timer": "s"}},
		"timer of another":   {"", map[string]string{"b.service": oneshot + install, "a.timer": "[Timer]\nOnCalendar=daily\nUnit=b.service\n"}, map[string]string{"b.service": "", "a.timer": "s"}},
		"socket":             {"", map[string]string{"a.service": noInstall + install, "a.socket": "[Socket]\nListenStream=1\n[Install]\nWantedBy=sockets.target\n"}, map[string]string{"a.service": "", "a.socket": "es"}},
		"socket, Service=":   {"", map[string]string{"b.service": noInstall + install, "a.socket": "[Socket]\nListenStream=1\nService=b.service\n"}, map[string]string{"b.service": "", "a.socket": "s"}},
		"socket, Accept":     {"", map[string]string{"a@.service": noInstall, "a.socket": "[Socket]\nListenStream=1\nAccept=yes\n"}, map[string]string{"a.socket": "s"}},
		"path":               {"", map[string]string{"a.service": noInstall, "a.path": "[Path]\nPathExists=/x\n"}, map[string]string{"a.service": "", "a.path": "s"}},
		"instances":          {"units: { a@.service: { instances: [x, y] } }", map[string]string{"a@.service": noInstall + install}, map[string]string{"a@x.service": "es", "a@y.service": "es"}},
		"no instances":       {"", map[string]string{"a@.service": noInstall + install}, map[string]string{}},
		"timer instances":    {"units: { a@.timer: { instances: [x] } }", map[string]string{"a@.service": oneshot, "a@.timer": "[Timer]\nOnCalendar=daily\n" + install}, map[string]string{"a@x.service": "", "a@x.timer": "es"}},
		"foreign drop-in":    {"", map[string]string{"nginx.service.d/b.conf": "[Service]\nNice=1\n"}, map[string]string{"nginx.service": "f"}},
		"foreign, named":     {"units: { nginx.service: {} }", map[string]string{"nginx.service.d/b.conf": "[Service]\nNice=1\n"}, map[string]string{"nginx.service": "esf"}},
		"foreign, reload":    {"units: { nginx.service: { on_change: reload } }", nil, map[string]string{"nginx.service": "esf reload"}},
		"foreign, not on":    {"units: { nginx.service: { enable: false } }", nil, map[string]string{"nginx.service": "f"}},
		"container":          {"", map[string]string{"a.container": "[Container]\nImage=x\n" + install}, map[string]string{"a.service": "s"}},
		"quadlet names": {"", map[string]string{"a.volume": "[Volume]\n", "a.network": "[Network]\n", "a.pod": "[Pod]\n" + install, "b.kube": "[Kube]\nYaml=x\n", "c.container": "[Container]\nImage=x\nServiceName=other\n"},
			map[string]string{"a-volume.service": "", "a-network.service": "", "a-pod.service": "s", "b.service": "", "other.service": ""}},
		"oneshot":                 {"", map[string]string{"a.service": oneshot + install}, map[string]string{"a.service": "eso"}},
		"oneshot that remains":    {"", map[string]string{"a.service": oneshot + "RemainAfterExit=yes\n" + install}, map[string]string{"a.service": "es"}},
		"oneshot by drop-in":      {"", map[string]string{"a.service": noInstall + install, "a.service.d/x.conf": "[Service]\nType=oneshot\n"}, map[string]string{"a.service": "eso"}},
		"oneshot without install": {"", map[string]string{"a.service": oneshot}, map[string]string{"a.service": ""}},
		"enable false":            {"units: { a.service: { enable: false } }", map[string]string{"a.service": noInstall + install}, map[string]string{"a.service": ""}},
		"on_change none":          {"units: { a.service: { on_change: none } }", map[string]string{"a.service": noInstall + install}, map[string]string{"a.service": "es none"}},
		"unit is a template":      {"settings: { boot: true }", map[string]string{"a.service.tmpl": noInstall + "{{ if .Settings.boot }}" + install + "{{ end }}"}, map[string]string{"a.service": "es"}},
	} {
		t.Run(name, func(t *testing.T) {
			more := map[string]string{"services/svc/svc.service": ""}
			for f, data := range c.files {
				more["services/svc/"+f] = data
			}
			b := mustBundle(t, mustLoad(t, small(c.service, more)), "a")
			if diff := cmp.Diff(c.want, act(b)); diff != "" {
				t.Errorf("units (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTriggers(t *testing.T) {
	b := mustBundle(t, mustLoad(t, small(`package: bot.zip
keys: { k: { restart: [b.service], path: /etc/k }, k2: {}, tls: { reload: [nginx.service] } }
units:
  a.service: { watch: [/etc/svc/, "/etc/*.conf"] }
  b.service: {}
`, map[string]string{
		"services/svc/svc.service":          "",
		"services/svc/bot.zip":              "zip",
		"services/svc/a.service":            noInstall,
		"services/svc/b.service":            noInstall,
		"services/svc/b.service.d/x.conf":   "[Service]\nNice=1\n",
		"services/svc/b.timer":              "[Timer]\nOnCalendar=daily\n",
		"services/svc/files/etc/svc/deep/x": "1",
		"services/svc/files/etc/top.conf":   "2",
		"services/svc/files/etc/other":      "3",
		"secrets/k2.age":                    "k2",
		"secrets/tls.age":                   "tls",
	})), "a")
	const u = "file:/etc/systemd/system/"
	for name, want := range map[string][]string{
		"a.service":     {"file:/etc/svc/deep/x", u + "a.service", u + "a.service.d/50-bellhop.conf", "file:/etc/top.conf"},
		"b.timer":       {u + "b.timer"},
		"nginx.service": {"key:tls"},
		"b.service": {"file:/etc/other", "file:/etc/svc/deep/x", u + "a.service", u + "b.service", u + "b.service.d/50-bellhop.conf", u + "b.service.d/x.conf", u + "b.timer",
			"file:/etc/top.conf", "key:k", "key:k2", "link:/etc/k", "package:svc"},
	} {
		got := slices.Clone(unit(t, b, name).Triggers)
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("triggers of %s (-want +got):\n%s", name, diff)
		}
	}
	if u := unit(t, b, "nginx.service"); u.On["key:tls"] != "reload" || !u.Foreign || u.Start {
		t.Errorf("nginx.service = %+v, want a foreign unit that its key reloads", u)
	}
	want := []bundle.Link{{Path: "/etc/k", Target: "/run/keys/k", Service: "svc"}}
	if diff := cmp.Diff(want, b.Links); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
	r, size, err := b.Package(b.Packages[0].Digest)
	if err != nil || size != 3 || b.Packages[0].Kind != "zip" {
		t.Fatalf("Package = %d, %v; %+v", size, err, b.Packages[0])
	}
	r.Close()
}

func TestGates(t *testing.T) {
	m := small(`user: { name: bot, extra_groups: [video, keys] }
keys: { k: { persist: sealed, user: postgres, permissions: "0440" } }
units: { i@.service: { instances: [x] }, nginx.service: {} }
`, map[string]string{
		"services/svc/svc.service":            "",
		"services/svc/app.service":            noInstall + install,
		"services/svc/app.socket":             "[Socket]\nListenStream=1\n" + install,
		"services/svc/job.service":            oneshot + install,
		"services/svc/job.timer":              "[Timer]\nOnCalendar=daily\n",
		"services/svc/i@.service":             noInstall + install,
		"services/svc/idle.service":           noInstall,
		"services/svc/web.container":          "[Container]\nImage=x\n" + install,
		"services/svc/other.service.d/x.conf": "[Service]\nNice=1\n",
		"services/other/service.yaml":         "keys: { k: { persist: sealed, user: postgres, permissions: '0440' } }\n",
		"services/other/second.service":       noInstall + install,
		"bellhop.yaml":                        "network: n\nhosts:\n  a: { address: x, host_key: " + hostKey("a") + ", services: { svc: true, other: true } }\n",
	})
	b := mustBundle(t, mustLoad(t, m), "a")
	if len(b.Keys) != 1 {
		t.Errorf("keys %v, want the one that both services share", b.Keys)
	}
	want := `[Unit]
Description=Key k
DefaultDependencies=no
RequiresMountsFor=/run/keys /var/lib/bellhop
After=local-fs.target systemd-sysusers.service
Before=shutdown.target app.socket i@x.service nginx.service second.service web.service
Conflicts=shutdown.target
Wants=app.socket i@x.service nginx.service second.service web.service
StartLimitIntervalSec=0
[Service]
Type=oneshot
RemainAfterExit=yes
UMask=0077
ExecStart=/bin/sh -c 'chown root:keys /run/keys; test -e /run/keys/k && exit 0; systemd-creds decrypt --name=k /var/lib/bellhop/sealed/k /run/keys/.k.new && chown postgres:postgres /run/keys/.k.new && chmod 0440 /run/keys/.k.new && mv -T /run/keys/.k.new /run/keys/k && exit 0; echo "key k has not come since this boot" >&2; exit 1'
`
	if diff := cmp.Diff(want, text(t, b, "/etc/systemd/system/k-key.service")); diff != "" {
		t.Errorf("key unit (-want +got):\n%s", diff)
	}
	const gate = "[Unit]\nRequires=k-key.service\nAfter=k-key.service\nAssertPathExists=/run/keys/k\n"
	const own, none = "[Service]\nSupplementaryGroups=keys video\n", "[Service]\nSupplementaryGroups=keys\n"
	for name, want := range map[string]string{
		"app.service": gate + own, "job.service": gate + own, "i@.service": gate + own, "web.service": gate + own, "idle.service": gate + own,
		"app.socket": gate, "nginx.service": gate + none, "second.service": gate + none,
	} {
		if got := text(t, b, "/etc/systemd/system/"+name+".d/50-bellhop.conf"); got != want {
			t.Errorf("gate of %s =\n%s\nwant\n%s", name, got, want)
		}
	}
	for _, p := range paths(b) {
		if strings.Contains(p, "other.service.d/50-") || strings.Contains(p, "job.timer.d") {
			t.Errorf("%s is there, but that unit is not gated", p)
		}
	}
	if !slices.Equal(b.Groups, []string{"bot", "video"}) {
		t.Errorf("groups %v, want bot and video", b.Groups)
	}
	if u := unit(t, b, "i@x.service"); !slices.Equal(u.Files, []string{"/etc/systemd/system/i@.service", "/etc/systemd/system/i@.service.d/50-bellhop.conf"}) {
		t.Errorf("files of i@x.service: %v", u.Files)
	}
}

func TestServicesThatCollide(t *testing.T) {
	for name, c := range map[string]struct {
		a, b  string
		files map[string]string
		want  string // "" is no problem
	}{
		"same user":         {"user: { name: u, group: g, home: /srv/u }", "user: { name: u, group: g, home: /srv/u }", nil, ""},
		"user differs":      {"user: { name: u, home: /srv/u }", "user: u", nil, "services a and b both have the user u, and differ in a field of it"},
		"same key":          {"keys: [k]", "keys: [k]", nil, ""},
		"key differs":       {"keys: [k]", "keys: { k: { permissions: '0440' } }", nil, "services a and b both have the key k, and differ in a field of it: make it alike, or call one b-k"},
		"same file":         {"", "", map[string]string{"services/a/files/etc/x": "1", "services/b/files/etc/x": "1"}, "services a and b both claim the file /etc/x"},
		"link and file":     {"keys: { k: { path: /etc/x } }", "", map[string]string{"services/b/files/etc/x": "1"}, "both claim the file /etc/x"},
		"same unit":         {"", "", map[string]string{"services/a/u.service": plainUnit, "services/b/u.service": plainUnit}, "both claim the unit file"},
		"unit and quadlet":  {"", "", map[string]string{"services/a/u.service": plainUnit, "services/b/u.container": "[Container]\nImage=x\n"}, "both claim the unit u.service"},
		"file below a file": {"", "", map[string]string{"services/a/files/etc/x": "1", "services/b/files/etc/x/y": "1"}, "which is no folder"},
	} {
		m := map[string]string{
			"bellhop.yaml":            "network: n\nhosts:\n  h: { address: x, host_key: " + hostKey("a") + ", services: { a: true, b: true } }\n",
			"services/a/service.yaml": c.a, "services/b/service.yaml": c.b, "secrets/k.age": "k",
		}
		for f, data := range c.files {
			m[f] = data
		}
		_, err := loader().Load(t.Context(), tree(m))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: Load = %v, want %q", name, err, c.want)
		}
		m["bellhop.yaml"] = strings.Replace(m["bellhop.yaml"], "b: true", "b: false", 1)
		if _, err := loader().Load(t.Context(), tree(m)); err != nil {
			t.Errorf("%s, but on no host together: Load = %v", name, err)
		}
	}
}

func TestSecretTemplate(t *testing.T) {
	m := small(`user: { name: bot, group: within }
keys: { k: { path: /etc/k } }
files: { /etc/own.conf: { mode: "0440", user: root } }
`, map[string]string{
		"services/svc/files/etc/app-1.conf.tmpl": "db={{ key \"db\" | trim | env }}\nk={{ env (key \"k\") }}\n",
		"services/svc/files/etc/own.conf.tmpl":   "{{ key \"db\" }}",
		"secrets/db.age":                         `p$a"ss{{ .Settings }}` + "\n",
	})
	f := mustLoad(t, m)
	if got := f.Secrets(); !slices.Equal(got, []string{"secrets/db.age", "secrets/k.age"}) {
		t.Errorf("Secrets() = %q, want that of the template too", got)
	}
	b := mustBundle(t, f, "a")
	for _, f := range b.Files {
		p, err := b.File(f.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(p), "value of k") || strings.Contains(string(p), "p$a") || f.Path == "/etc/app-1.conf" {
			t.Errorf("%s holds a secret", f.Path)
		}
	}
	var name string
	for _, k := range b.Keys {
		if k.Path == "/run/keys/files/etc/app-1.conf" {
			name = k.Name
			if k.User != "bot" || k.Group != "within" || k.Mode != 0o400 || k.Digest == "" {
				t.Errorf("key %+v", k)
			}
		}
		if k.Path == "/run/keys/files/etc/own.conf" && (k.Name != "files-etc-own.conf" || k.User != "root" || k.Group != "root" || k.Mode != 0o440) {
			t.Errorf("key %+v", k)
		}
	}
	v, err := b.Key(name)
	if want := "db=\"p\\$a\\\"ss{{ .Settings }}\"\nk=\"value of k\"\n"; err != nil || string(v) != want {
		t.Errorf("Key(%s) = %q, %v; want %q", name, v, err, want)
	}
	if !slices.ContainsFunc(b.Links, func(l bundle.Link) bool {
		return l.Path == "/etc/app-1.conf" && l.Target == "/run/keys/files/etc/app-1.conf"
	}) {
		t.Errorf("no link to the rendered template: %v", b.Links)
	}
	unit(t, b, name+"-key.service")
	if got := text(t, b, "/etc/systemd/system/svc.service.d/50-bellhop.conf"); !strings.Contains(got, "AssertPathExists=/run/keys/files/etc/app-1.conf\n") || !strings.Contains(got, name+"-key.service") {
		t.Errorf("the app does not wait for the template:\n%s", got)
	}
}

// What a template says about a value must not come out by its error.
func TestSecretTemplateErrorsHoldNoValue(t *testing.T) {
	const canary = "kanarienvogel"
	for name, tmpl := range map[string]string{
		"a missing setting by value": `{{ index .Settings (key "k") }}{{ .Settings.nosuch }}`,
		"a broken line":              `{{ key "k" | env }}`,
		"an index":                   `{{ index (split "x" (key "k")) 7 }}`,
		"a template of that name":    `{{ if eq (key "k") "value" }}{{ else }}{{ .Settings.x }}{{ end }}`,
		"a function that fails":      `{{ slice (key "k") 3 2 }}`,
	} {
		m := small("", map[string]string{"services/svc/files/etc/x.tmpl": tmpl, "secrets/k.age": canary + "\nx"})
		f, err := loader().Load(t.Context(), m)
		if err == nil {
			_, err = f.Bundle("a")
		}
		if err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOffline(t *testing.T) {
	m := designTree()
	m["secrets/withinbot.env.age"] = file("broken")
	l := &fleet.Loader{}
	f, err := l.Load(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	b := mustBundle(t, f, "chrysalis")
	if b.Keys[0].Digest != "" {
		t.Errorf("key digest %q offline", b.Keys[0].Digest)
	}
	if _, err := b.Key("withinbot"); err == nil {
		t.Error("a key opened offline")
	}
}

func TestLinksAndModes(t *testing.T) {
	m := small("files: { /etc/m: { user: bot, mode: '0600' } }\nuser: { name: bot, group: within }\n", map[string]string{"services/svc/files/etc/m": "1"})
	m["services/svc/files/etc/l"] = &fstest.MapFile{Mode: fs.ModeSymlink | 0o777, Data: []byte("../usr/x")}
	m["services/svc/files/usr/local/bin/run"] = &fstest.MapFile{Mode: 0o755, Data: []byte("#!/bin/sh\n")}
	b := mustBundle(t, mustLoad(t, m), "a")
	got := map[string]string{}
	for _, f := range b.Files {
		got[f.Path] = fmt.Sprintf("%04o %s:%s", f.Mode, f.User, f.Group)
	}
	if got["/etc/m"] != "0600 bot:within" || got["/usr/local/bin/run"] != "0755 root:root" {
		t.Errorf("files %v", got)
	}
	if diff := cmp.Diff([]bundle.Link{{Path: "/etc/l", Target: "../usr/x", Service: "svc"}}, b.Links); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
}

func TestDescriptionIsInNoBundle(t *testing.T) {
	a := mustBundle(t, mustLoad(t, small("description: old\nuser: bot\n", nil)), "a")
	b := mustBundle(t, mustLoad(t, small("description: new\nuser: bot\n", map[string]string{"services/svc/README": "x", "services/svc/.gitignore": "y", "services/svc/LICENSE": "z", "services/svc/NOTES.md": "n"})), "a")
	if a.Digest != b.Digest {
		t.Error("a description or a README changed the digest")
	}
}

// A key says what it does to the units that it names, whatever they do on other changes.
func TestKeysRestartAndReload(t *testing.T) {
	b := mustBundle(t, mustLoad(t, small(`keys: { cert: { reload: [svc.service] }, token: { restart: [quiet.service] }, plain: {} }
units: { quiet.service: { on_change: none } }
`, map[string]string{
		"services/svc/quiet.service":   noInstall,
		"services/svc/files/etc/svc/x": "1",
		"secrets/cert.age":             "cert",
		"secrets/token.age":            "token",
		"secrets/plain.age":            "plain",
	})), "a")
	for _, c := range []struct{ unit, thing, want string }{
		{"svc.service", "key:cert", bundle.Reload},
		{"svc.service", "key:token", ""},
		{"svc.service", "key:plain", bundle.Restart},
		{"svc.service", "file:/etc/svc/x", bundle.Restart},
		{"quiet.service", "key:cert", ""},
		{"quiet.service", "key:token", bundle.Restart},
		{"quiet.service", "key:plain", bundle.None},
	} {
		u := unit(t, b, c.unit)
		if got := u.Action(func(thing string) bool { return thing == c.thing }); got != c.want {
			t.Errorf("%s changed, and %s does %q, want %q", c.thing, c.unit, got, c.want)
		}
	}
	u := unit(t, b, "svc.service")
	if got := u.Action(func(string) bool { return true }); got != bundle.Restart {
		t.Errorf("all changed, and svc.service does %q, want one restart", got)
	}
}
