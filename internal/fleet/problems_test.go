package fleet_test

import (
	"errors"
	"io/fs"
	"maps"
	"strings"
	"testing"
	"testing/fstest"

	"bellhop/internal/fleet"
)

// small is a fleet of one host that has one service, svc.
func small(service string, more map[string]string) fstest.MapFS {
	m := map[string]string{
		"bellhop.yaml":              "network: n\nhosts:\n  a: { address: 10.0.0.1, host_key: " + hostKey("a") + ", arch: amd64, services: { svc: true } }\n",
		"services/svc/service.yaml": service,
		"services/svc/svc.service":  plainUnit,
		"secrets/k.age":             "value of k",
	}
	for name, data := range more {
		m[name] = data
	}
	t := tree(m)
	for name, data := range more {
		if data == "" {
			delete(t, name)
		}
	}
	return t
}

func main2(services string) map[string]string {
	return map[string]string{"bellhop.yaml": "network: n\nhosts:\n  a:\n    address: 10.0.0.1\n    host_key: " + hostKey("a") + "\n    services: " + services + "\n"}
}

func TestProblems(t *testing.T) {
	for name, c := range map[string]struct {
		service string
		more    map[string]string
		want    []string // each must stand in the error
	}{
		"no network":             {"", map[string]string{"bellhop.yaml": "hosts: {}\n"}, []string{"bellhop.yaml:1:1: network is missing"}},
		"not YAML":               {"", map[string]string{"bellhop.yaml": "network: [n\n"}, []string{"bellhop.yaml:1:"}},
		"a tab":                  {"", map[string]string{"bellhop.yaml": "network: n\nhosts:\n\ta: {}\n"}, []string{"bellhop.yaml:3:1: a tab: YAML is indented with spaces"}},
		"address in brackets":    {"", map[string]string{"bellhop.yaml": "network: n\nhosts:\n  a:\n    address: [fd77::13]:22\n"}, []string{"bellhop.yaml:4:", "in quotes here: '[fd77::13]:22'"}},
		"byte order mark":        {"", map[string]string{"bellhop.yaml": "\ufeffnetwork: n\n"}, []string{"bellhop.yaml:1:1: the file begins with a byte order mark; save it without one"}},
		"unknown field, hint":    {"", map[string]string{"bellhop.yaml": "network: n\nhots:\n  a: {}\n"}, []string{`bellhop.yaml:2:1: unknown field "hots"; did you mean "hosts"?`, "\n    hots:"}},
		"a key twice":            {"user: a\nuser: b\n", nil, []string{`service.yaml:2:1: "user" stands here a second time; first in line 1`}},
		"host without all":       {"", map[string]string{"bellhop.yaml": "network: n\nhosts:\n  a: {}\n  b:\n"}, []string{"bellhop.yaml:3:3: host a has no address", "host a has no host_key", "bellhop.yaml:4:3: host b has no address"}},
		"bad host key":           {"", map[string]string{"bellhop.yaml": "network: n\nhosts:\n  a: { address: b, host_key: ssh-ed25519 AAAA }\n"}, []string{"bellhop.yaml:3:30: host a: host_key: not an SSH public key"}},
		"bad addresses":          {"", map[string]string{"bellhop.yaml": "network: n\nhosts:\n  a: { address: ['a b', '1.2.3', 'h:0', ''], host_key: x }\n"}, []string{`address "a b"`, `address "1.2.3"`, `address "h:0"`, `address ""`}},
		"one address twice":      {"", map[string]string{"bellhop.yaml": "network: n\nhosts:\n  a: { address: 10.0.0.1, host_key: " + hostKey("a") + " }\n  b: { address: '10.0.0.1:22', host_key: " + hostKey("b") + " }\n"}, []string{"bellhop.yaml:4:3: hosts a and b have one address, 10.0.0.1:22"}},
		"hosts differ by case":   {"", map[string]string{"hosts/A.yaml": "address: x\nhost_key: " + hostKey("x") + "\n"}, []string{"differs only by case"}},
		"host twice":             {"", map[string]string{"hosts/a.yaml": "address: x\nhost_key: " + hostKey("x") + "\n"}, []string{"host a stands in"}},
		"problem in a host file": {"", map[string]string{"hosts/b.yaml": "address: x\nhost_kee: y\n"}, []string{`hosts/b.yaml:2:1: unknown field "host_kee"; did you mean "host_key"?`}},
		"stray in hosts":         {"", map[string]string{"hosts/b.txt": "x"}, []string{"hosts/b.txt: hosts/ holds NAME.yaml"}},
		"jump to nowhere":        {"", map[string]string{"bellhop.yaml": "network: n\nhosts:\n  a: { address: x, host_key: " + hostKey("a") + ", jump: luffa }\n  lufta: { address: y, host_key: " + hostKey("b") + ", jump: lufta }\n"}, []string{`jump "luffa" is no host of the fleet; did you mean "lufta"?`, "host lufta: jump goes round in a circle"}},
		"bad arch":               {"", map[string]string{"bellhop.yaml": "network: n\nhosts:\n  a: { address: x, host_key: " + hostKey("a") + ", arch: x86_64 }\n"}, []string{`Go calls it "amd64"`}},
		"groups clash": {"settings: { port: 1 }", map[string]string{"bellhop.yaml": "network: n\ngroups:\n  g1: { services: { svc: { port: 2 } } }\n  g2:\n    services: { svc: { port: 3 } }\nhosts:\n  a: { address: x, host_key: " + hostKey("a") + ", tags: [g1, g2] }\n"},
			[]string{"bellhop.yaml:5:24: groups g1 and g2 set port of service svc differently, and host a has both tags"}},
		"groups clash on enable": {"", map[string]string{"bellhop.yaml": "network: n\ngroups:\n  g1: { services: { svc: true } }\n  g2: { services: { svc: false } }\nhosts:\n  a: { address: x, host_key: " + hostKey("a") + ", tags: [g1, g2] }\n"},
			[]string{"groups g1 and g2 switch service svc differently"}},
		"unknown service":            {"", main2("{ svk: true }"), []string{`bellhop.yaml:6:17: no service "svk": there is no folder services/svk; did you mean "svc"?`}},
		"unknown setting":            {"settings: { port: 1, name: x }", main2("{ svc: { prot: 2 } }"), []string{`bellhop.yaml:6:24: service svc has no setting "prot"; did you mean "port"?`}},
		"setting of another kind":    {"settings: { port: 1 }", main2("{ svc: { port: abc } }"), []string{"setting port of service svc is a number by default; here it is text"}},
		"switch is no switch":        {"", main2("{ svc: 3 }"), []string{"want true, false or settings, not the number 3"}},
		"setting called enable":      {"settings: { enable: 1 }", nil, []string{"service.yaml:1:13: a setting can't be called enable"}},
		"a private key as reader":    {"", map[string]string{"bellhop.yaml": "network: n\nreaders:\n  me: AGE-SECRET-KEY-1ABC\n"}, []string{"readers: me is a private key"}},
		"unknown reader":             {"", map[string]string{"bellhop.yaml": "network: n\nreaders:\n  cadey: age1x\n  secrets/*: [cadye]\n"}, []string{`bellhop.yaml:4:15: readers: "cadye" is no age recipient`, `did you mean "cadey"?`}},
		"parallel in octal":          {"", map[string]string{"bellhop.yaml": "network: n\nrollout: { parallel: 010 }\n"}, []string{"want a whole number, not the number 010"}},
		"bad parallel":               {"", map[string]string{"bellhop.yaml": "network: n\nrollout: { parallel: 0 }\n"}, []string{"bellhop.yaml:2:22: rollout: parallel is 0"}},
		"bad waves":                  {"", map[string]string{"bellhop.yaml": "network: n\nrollout: { waves: ['1', canary, 0%, '@canary', -1] }\n"}, []string{`bellhop.yaml:2:25: rollout: waves: "canary" is no wave`, `"0%" is no share of hosts`, `"-1" is no wave`}},
		"bad max_failures":           {"", map[string]string{"bellhop.yaml": "network: n\nrollout: { max_failures: -1 }\n"}, []string{"bellhop.yaml:2:26: rollout: max_failures is -1; want 0 or more"}},
		"after":                      {"", map[string]string{"bellhop.yaml": "network: n\nhosts:\n  a: { address: x, host_key: " + hostKey("a") + ", after: [luffa, b] }\n  b: { address: y, host_key: " + hostKey("b") + ", after: a }\n  lufta: { address: z, host_key: " + hostKey("c") + ", after: lufta }\n"}, []string{`host a: after: "luffa" is no host of the fleet; did you mean "lufta"?`, "host a: after goes round in a circle", "host b: after goes round in a circle", "host lufta: after goes round in a circle"}},
		"expected":                   {"", map[string]string{"bellhop.yaml": "network: n\nhosts:\n  a: { address: x, host_key: " + hostKey("a") + ", expected: never }\n"}, []string{`host a: expected: "never"; want always or sometimes`}},
		"bad user":                   {"user: Bot.x\n", nil, []string{`service.yaml:1:7: bad name "Bot.x" for a user`}},
		"home of the system":         {"user: { name: bot, home: /etc }\n", nil, []string{`home "/etc" is a place of the system`}},
		"home with a blank":          {"user: { name: bot, home: '/srv/a b' }\n", nil, []string{"want a clean absolute path"}},
		"package ftp":                {"package: { url: 'ftp://e.com/x.tar.gz', sha256: " + sha + " }\n", nil, []string{"want http:// or https://"}},
		"package deb":                {"package: { url: 'http://e.com/x_1.deb', sha256: " + sha + " }\n", nil, []string{"service.yaml:1:10: package: x_1.deb: .deb is a package of a distribution"}},
		"package 7z":                 {"package: { url: 'http://e.com/x.7Z?a=b', sha256: " + sha + " }\n", nil, []string{"package: x.7Z: bellhop unpacks no .7z: pack it anew as tar.gz"}},
		"package of Arch":            {"package: { url: 'http://e.com/x.pkg.tar.zst', sha256: " + sha + " }\n", nil, []string{"is a package of a distribution"}},
		"package lz4":                {"package: { url: 'http://e.com/x.tar.lz4', sha256: " + sha + " }\n", nil, []string{"bellhop unpacks no .lz4"}},
		"package kind":               {"package: { url: 'http://e.com/x', kind: tar.lz4, sha256: " + sha + " }\n", nil, []string{`kind "tar.lz4": want tar.gz, tar.xz,`}},
		"package that is an archive": {"package: app\n", map[string]string{"services/svc/app": "\xfd7zXZ\x00rest"}, []string{"package: services/svc/app: it is compressed by xz, which its name does not say: write kind: tar.xz for an archive, kind: xz for one program"}},
		"package that is a deb":      {"package: app\n", map[string]string{"services/svc/app": "!<arch>\ndebian-binary"}, []string{".deb is a package of a distribution"}},
		"package without sum":        {"package: { url: 'https://e.com/x.tar.gz' }\n", nil, []string{"service.yaml:1:10: package: url without sha256"}},
		"package placeholders":       {"package: { url: 'https://e.com/{version}-{os}.zip', sha256: " + sha + " }\n", nil, []string{"there is no version:", "unknown placeholder {os}"}},
		"package arch":               {"package: { url: 'https://e.com/{arch}.zip', sha256: { aarch64: " + sha + " } }\n", nil, []string{`unknown architecture "aarch64"; Go calls it "arm64"`}},
		"package sum of blob":        {"package: { file: bot, sha256: " + sha + " }\n", map[string]string{"services/svc/bot": "x"}, []string{"package: sha256 of services/svc/bot is"}},
		"package not there":          {"package: bot.tar.gz\n", nil, []string{"package: no file services/svc/bot.tar.gz"}},
		"secret missing":             {"keys: [kk]\n", nil, []string{`service.yaml:1:8: key kk: no file secrets/kk.age`}},
		"secret elsewhere":           {"keys: { k: { source: ../k.age } }\n", nil, []string{`key k: source "../k.age": want an age file`}},
		"bad key name":               {"keys: ['a b']\n", nil, []string{`bad name "a b" for a key`}},
		"bad mode":                   {"keys: { k: { permissions: '4755' } }\nfiles: { /etc/x: { mode: rw } }\n", map[string]string{"services/svc/files/etc/x": "x"}, []string{"no setuid", `mode "rw": want three or four octal digits`}},
		"persist":                    {"keys: { k: { persist: yes } }\n", nil, []string{`persist "yes"`}},
		"crlf in an age file":        {"keys: [k]\n", map[string]string{"secrets/k.age": "age-encryption.org/v1\r\n-> X25519 x\r\n"}, []string{"secrets/k.age: carriage returns in the age file"}},
		"crlf in armor":              {"keys: [k]\n", map[string]string{"secrets/k.age": "-----BEGIN AGE ENCRYPTED FILE-----\r\nYWdl\r\n"}, []string{"carriage returns"}},
		"file rule without file":     {"files: { /etc/xx: {} }\n", map[string]string{"services/svc/files/etc/xy": "x"}, []string{`files: no file /etc/xx below files/; did you mean "/etc/xy"?`}},
		"units typo":                 {"units: { scv.service: {} }\n", nil, []string{`units: no scv.service in this folder; did you mean "svc.service"?`}},
		"on_change":                  {"units: { svc.service: { on_change: relaod } }\n", nil, []string{`on_change "relaod": want restart, reload or none; did you mean "reload"?`}},
		"instances of no template":   {"units: { svc.service: { instances: [a] } }\n", nil, []string{"svc.service has no instances"}},
		"a rule of an instance":      {"units: { 'app@7.service': {} }\n", map[string]string{"services/svc/app@.service": plainUnit}, []string{`units: app@7.service is one of app@.service of this folder: an instance takes no rule of its own; want "app@.service": { instances: [7] }`}},
		"needs":                      {"needs: ['a b']\n", nil, []string{`needs: "a b" is no name of a command`}},
		"stray file":                 {"", map[string]string{"services/svc/notes.txt": "x"}, []string{"services/svc/notes.txt: bellhop does not know what to do with this"}},
		"stray unit":                 {"", map[string]string{"services/svc/svc.servce": "x"}, []string{"did you mean .service?"}},
		"service.yml":                {"", map[string]string{"services/svc/service.yml": "x"}, []string{"this file is called service.yaml"}},
		"stray in services":          {"", map[string]string{"services/x.txt": "x"}, []string{"services/x.txt: services/ holds one folder"}},
		"unit below files":           {"", map[string]string{"services/svc/files/etc/systemd/system/x.service": "x"}, []string{"stands at the top of the service's folder"}},
		"accounts as a file":         {"", map[string]string{"services/svc/files/etc/passwd": "x"}, []string{"services/svc/files/etc/passwd: accounts come from user:"}},
		"file in a closed place":     {"", map[string]string{"services/svc/files/run/keys/x": "x"}, []string{"below /run/keys is no place for this"}},
		"lfs":                        {"", map[string]string{"services/svc/files/etc/x": "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"}, []string{"services/svc/files/etc/x: a git-lfs pointer"}},
		"too large":                  {"", map[string]string{"services/svc/files/etc/x": strings.Repeat("x", 32<<20+1)}, []string{"services/svc/files/etc/x: larger than 32 MiB: a file of that size comes from a web server"}},
		"names differ by case":       {"", map[string]string{"services/svc/x.service": plainUnit, "services/svc/X.service": plainUnit}, []string{"differs from X.service only by case"}},
		"gate name taken":            {"", map[string]string{"services/svc/svc.service.d/50-bellhop.conf": "[Unit]\n"}, []string{"50-bellhop.conf is the drop-in that bellhop writes"}},
		"drop-in is no conf":         {"", map[string]string{"services/svc/svc.service.d/x": "[Unit]\n"}, []string{"systemd reads only *.conf here"}},
		"bellhop's own unit":         {"", map[string]string{"services/svc/bellhop-settle.service": plainUnit}, []string{"this name is bellhop's own"}},
		"a key unit as unit":         {"keys: [k]\n", map[string]string{"services/svc/k-key.service": plainUnit}, []string{"claims /etc/systemd/system/k-key.service twice"}},
		"file and template":          {"", map[string]string{"services/svc/files/etc/x": "1", "services/svc/files/etc/x.tmpl": "2"}, []string{"claims /etc/x twice"}},
		"file below a file":          {"keys: { k: { path: /etc/x/k } }\n", map[string]string{"services/svc/files/etc/x": "1"}, []string{"would be below the file /etc/x"}},
		"file and its template":      {"", map[string]string{"services/svc/files/etc/b": "1", "services/svc/files/etc/b.tmpl": "1"}, []string{"claims /etc/b twice, as services/svc/files/etc/b and as services/svc/files/etc/b.tmpl"}},
		"unit and its template":      {"", map[string]string{"services/svc/svc.service.tmpl": plainUnit}, []string{"svc.service twice, as services/svc/svc.service and as services/svc/svc.service.tmpl"}},
		"template: parse":            {"", map[string]string{"services/svc/files/etc/x.tmpl": "a\n{{ .Settings.port "}, []string{"services/svc/files/etc/x.tmpl:2:"}},
		"template: missing key":      {"", map[string]string{"services/svc/files/etc/x.tmpl": "a\n{{ .Settings.port }}"}, []string{`services/svc/files/etc/x.tmpl:2:13: service svc: at <.Settings.port>: map has no entry for key "port"`}},
		"template: output":           {"", map[string]string{"services/svc/files/etc/x.tmpl": `{{ range 1000000 }}0123456789{{ end }}`}, []string{"output is larger than 1 MiB"}},
		"template: endless":          {"", map[string]string{"services/svc/files/etc/x.tmpl": `{{ range 1000000000 }}{{ end }}`}, []string{"loops turn more than a million times"}},
		"template: calls itself":     {"", map[string]string{"services/svc/files/etc/x.tmpl": `{{ define "a" }}{{ template "a" }}{{ template "a" }}{{ end }}{{ template "a" }}`}, []string{"services/svc/files/etc/x.tmpl:1:"}},
		"template: key in a unit":    {"keys: [k]\n", map[string]string{"services/svc/x.service.tmpl": "[Service]\nEnvironment={{ key \"k\" }}\n"}, []string{`x.service.tmpl:2:16: a unit file is readable by all`}},
		"template: key by variable":  {"keys: [k]\n", map[string]string{"services/svc/files/etc/x.tmpl": `{{ $k := "k" }}{{ key $k }}`}, []string{"want the name of a key written out"}},
		"template: key of no secret": {"", map[string]string{"services/svc/files/etc/x.tmpl": "\n{{ key \"kk\" }}"}, []string{"services/svc/files/etc/x.tmpl:2:4: key files-etc-x: no file secrets/kk.age"}},
		"template: no such function": {"", map[string]string{"services/svc/files/etc/x.tmpl": `{{ now }}`}, []string{`function "now" not defined`}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := loader().Load(t.Context(), small(c.service, c.more))
			var ps fleet.Problems
			if !errors.As(err, &ps) {
				t.Fatalf("Load = %v, want Problems", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Load =\n%v\nwant in it: %s", err, want)
				}
			}
			for _, p := range ps {
				if p.Host != "" || p.Warning {
					t.Errorf("%v does not refuse the push", p)
				}
			}
		})
	}
}

func TestManyProblemsAtOnce(t *testing.T) {
	m := small("usr: x\nkeys: [missing]\n", map[string]string{
		"services/svc/notes.txt":        "x",
		"services/svc/files/etc/x.tmpl": "{{",
		"services/other/service.yaml":   "nets: 1\n",
		"bellhop.yaml":                  "netwrk: n\nhosts:\n  a: { address: x, host_key: y }\n  b: { addres: x }\n",
	})
	_, err := loader().Load(t.Context(), m)
	var ps fleet.Problems
	if !errors.As(err, &ps) {
		t.Fatal(err)
	}
	files := map[string]bool{}
	for _, p := range ps {
		files[p.File] = true
	}
	for _, want := range []string{"bellhop.yaml", "services/svc/service.yaml", "services/svc/notes.txt", "services/svc/files/etc/x.tmpl", "services/other/service.yaml"} {
		if !files[want] {
			t.Errorf("nothing about %s in:\n%v", want, err)
		}
	}
	if len(ps) < 9 {
		t.Errorf("%d problems, want at least 9:\n%v", len(ps), err)
	}
}

func TestNoConfig(t *testing.T) {
	_, err := loader().Load(t.Context(), fstest.MapFS{})
	if err == nil || !strings.Contains(err.Error(), "bellhop.yaml: missing") {
		t.Errorf("Load of nothing = %v", err)
	}
}

func TestTreeTraps(t *testing.T) {
	for name, c := range map[string]struct {
		path string
		mode fs.FileMode
		want string
	}{
		"submodule in a service": {"services/svc/files/etc/mod", fs.ModeIrregular, "services/svc/files/etc/mod: a submodule"},
		"submodule as a service": {"services/mod", fs.ModeIrregular, "services/mod: a submodule"},
		"link as a unit":         {"services/svc/x.service", fs.ModeSymlink, "x.service: a symbolic link"},
		"link as a host":         {"hosts/b.yaml", fs.ModeSymlink, "hosts/b.yaml: a symbolic link"},
		"link as the secrets":    {"secrets/kk.age", fs.ModeSymlink, "secrets/kk.age: a symbolic link"},
		"link as the services":   {"services", fs.ModeSymlink, "services: a symbolic link"},
		"link as the config":     {"bellhop.yaml", fs.ModeSymlink, "bellhop.yaml: a symbolic link"},
		"device":                 {"services/svc/files/etc/dev", fs.ModeDevice, "not a regular file"},
	} {
		m := small("keys: [kk]\n", map[string]string{"secrets/kk.age": "x"})
		if c.path == "services" {
			maps.DeleteFunc(m, func(name string, _ *fstest.MapFile) bool { return strings.HasPrefix(name, "services/") })
		}
		m[c.path] = &fstest.MapFile{Mode: c.mode, Data: []byte("k.age")}
		_, err := loader().Load(t.Context(), m)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Load = %v, want %q", name, err, c.want)
		}
	}
}

// What concerns one host must not stop the others.
func TestProblemsOfOneHost(t *testing.T) {
	yaml := "network: n\nhosts:\n" +
		"  a: { address: x, host_key: " + hostKey("a") + ", services: { svc: true } }\n" +
		"  b: { address: y, host_key: " + hostKey("b") + " }\n"
	for name, c := range map[string]struct {
		service string
		secret  string
		want    string
	}{
		"secret does not open":    {"keys: [k]\n", "broken", "secrets/k.age: a: key k: secrets/k.age: no identity matched"},
		"architecture is unknown": {"package: { url: 'https://e.com/{arch}.zip', sha256: { arm64: " + sha + " } }\n", "", "services/svc/service.yaml:1:10: a: the architecture is not known yet"},
	} {
		m := small(c.service, map[string]string{"bellhop.yaml": yaml, "secrets/k.age": c.secret})
		f, err := loader().Load(t.Context(), m)
		if err != nil {
			t.Fatalf("%s: Load = %v", name, err)
		}
		_, err = f.Bundle("a")
		var ps fleet.Problems
		if !errors.As(err, &ps) || ps[0].Host != "a" || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Bundle(a) = %v, want %q", name, err, c.want)
		}
		mustBundle(t, f, "b")
	}
}

func TestArchIsRemembered(t *testing.T) {
	l := loader()
	arch := ""
	l.Arch = func(string) string { return arch }
	f, err := l.Load(t.Context(), small("package: { url: 'https://e.com/{arch}.zip', sha256: { arm64: "+sha+" } }\n", map[string]string{
		"bellhop.yaml": "network: n\nhosts:\n  a: { address: x, host_key: " + hostKey("a") + ", services: { svc: true } }\n"}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Bundle("a"); err == nil {
		t.Error("Bundle of a host of unknown architecture went through")
	}
	arch = "arm64"
	if b := mustBundle(t, f, "a"); len(b.Packages) != 1 || b.Packages[0].URL != "https://e.com/arm64.zip" {
		t.Errorf("packages %v", b.Packages)
	}
	arch = "amd64"
	if _, err := f.Bundle("a"); err == nil || !strings.Contains(err.Error(), "no sha256 for amd64, only for arm64") {
		t.Errorf("Bundle on amd64 = %v", err)
	}
}

// An authorized_keys file of the login's own keeps the deployer's line, or bellhop is shut out.
func TestAuthorizedKeysKeepTheDeployer(t *testing.T) {
	deployer, other := hostKey("deployer"), hostKey("other")
	for _, c := range []struct {
		user, path, text string
		fine             bool
	}{
		{"root", "root/.ssh/authorized_keys", other + "\n", false},
		{"root", "root/.ssh/authorized_keys", other + "\n# " + deployer + "\n", false},
		{"root", "root/.ssh/authorized_keys", other + "\nrestrict,pty " + deployer + " bellhop\n", true},
		{"root", "root/.ssh/authorized_keys.tmpl", "# {{ .Host.Name }}\n" + other + "\n", false},
		{"root", "home/cadey/.ssh/authorized_keys", other + "\n", true},
		{"cadey", "home/cadey/.ssh/authorized_keys", other + "\n", false},
		{"cadey", "root/.ssh/authorized_keys", other + "\n", true},
	} {
		m := small("", map[string]string{
			"bellhop.yaml":                 "network: n\ndeployer: " + deployer + " bellhop\nhosts:\n  a: { address: x, host_key: " + hostKey("a") + ", user: " + c.user + ", services: { svc: true } }\n",
			"services/svc/files/" + c.path: c.text,
		})
		_, err := new(fleet.Loader).Load(t.Context(), m)
		if c.fine && err != nil || !c.fine && (err == nil || !strings.Contains(err.Error(), c.path+": host a: the deployer's key is not in it")) {
			t.Errorf("%s of %s with %q: %v, want fine = %v", c.path, c.user, c.text, err, c.fine)
		}
	}
}

// A field that nothing reads is refused, where it stands and in the schema.
func TestNotSupportedYet(t *testing.T) {
	for field, c := range map[string]struct{ file, place, text string }{
		"expected": {"service.yaml", "services/svc/service.yaml:1:1", "expected: x\n"},
		"trust":    {"bellhop.yaml", "bellhop.yaml:2:1", "network: n\ntrust: []\n"},
	} {
		m := small("", map[string]string{c.file: c.text})
		if c.file == "service.yaml" {
			m = small(c.text, nil)
		}
		if _, err := loader().Load(t.Context(), m); err == nil || !strings.Contains(err.Error(), c.place+": "+field+" is not supported yet") {
			t.Errorf("%s: %v\nwant it told at %s", field, err, c.place)
		}
		if err := validate(t, compile(t, c.file), c.text); err == nil {
			t.Errorf("%s is no error of the schema", field)
		}
	}
}

// What a package is called says what it is, and what it keeps as its name.
func TestPackageKinds(t *testing.T) {
	url := func(u string) string {
		return "{ version: 1.10, url: '" + u + "', sha256: " + strings.ToUpper(sha) + " }"
	}
	for _, c := range []struct{ pkg, kind, file, as string }{
		{url("http://nas.lan/app.tar.xz"), "tar.xz", "", ""},
		{url("https://e.com/app-{version}.TXZ?x=1"), "tar.xz", "", ""},
		{url("https://e.com/app.tar.zst"), "tar.zst", "", ""}, {url("https://e.com/app.tbz2"), "tar.bz2", "", ""}, {url("https://e.com/app.tar"), "tar", "", ""},
		{url("https://e.com/app.tgz"), "tar.gz", "", ""}, {url("https://e.com/APP.ZIP"), "zip", "", ""},
		{url("https://e.com/app-{version}.gz"), "gz", "svc", "app-1.10"}, {url("https://e.com/app.xz"), "xz", "svc", "app"},
		{url("https://e.com/app-linux"), "file", "svc", "app-linux"}, {url("https://e.com/svc"), "file", "svc", ""}, {url("https://e.com/app.jar"), "file", "svc", "app.jar"},
		{url("https://e.com/app.AppImage"), "file", "svc", "app.AppImage"}, {url("https://e.com/a%20b"), "file", "svc", ""}, {url("https://e.com/"), "file", "svc", ""},
		{"{ url: 'https://e.com/download', kind: tar.gz, sha256: " + sha + " }", "tar.gz", "", ""},
		{"{ url: 'https://e.com/x.deb', kind: file, sha256: " + sha + " }", "file", "svc", "x.deb"},
		{"{ url: 'https://e.com/x.gz', kind: file, sha256: " + sha + " }", "file", "svc", "x.gz"},
		{"{ url: 'https://e.com/x', name: y, sha256: " + sha + " }", "file", "y", ""},
		{"{ url: 'https://e.com/x-{arch}', sha256: { amd64: " + sha + " } }", "file", "svc", "x-amd64"},
	} {
		f, err := loader().Load(t.Context(), small("package: "+c.pkg+"\n", nil))
		if err != nil {
			t.Errorf("%s: %v", c.pkg, err)
			continue
		}
		p := mustBundle(t, f, "a").Packages[0]
		if p.Kind != c.kind || p.File != c.file || p.As != c.as || p.Digest != sha {
			t.Errorf("%s is %q, file %q as %q, digest %s; want %q, %q, %q", c.pkg, p.Kind, p.File, p.As, p.Digest, c.kind, c.file, c.as)
		}
	}
}

func TestPackageTooLarge(t *testing.T) {
	m := small("package: big\n", nil)
	m["services/svc/big"] = &fstest.MapFile{Data: make([]byte, 32<<20+1)}
	if _, err := loader().Load(t.Context(), m); err == nil || !strings.Contains(err.Error(), "services/svc/big: larger than 32 MiB: a file of that size comes from a web server, by package: { url: https://…, sha256: … }") {
		t.Errorf("Load: %v", err)
	}
}
