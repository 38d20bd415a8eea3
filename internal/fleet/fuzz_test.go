package fleet

import (
	"bytes"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"bellhop/internal/fleet/inventory"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/wire"
)

// loadFuzz loads a tree with one strange file; it must end in a fleet or in Problems.
func loadFuzz(t *testing.T, name string, data []byte) {
	m := fstest.MapFS{
		"bellhop.yaml":             {Data: []byte("network: n\nhosts: { a: { address: b, host_key: " + fuzzKey + ", services: { svc: true } } }\n")},
		"services/svc/svc.service": {Data: []byte("[Service]\nExecStart=/bin/true\n")},
	}
	m[name] = &fstest.MapFile{Data: data}
	if former, err := (&Loader{Former: true}).Load(t.Context(), m); err == nil { // refuses nothing, so what is made of it must hold
		for _, h := range former.Hosts {
			former.Bundle(h.Name)
		}
	}
	f, err := (&Loader{}).Load(t.Context(), m)
	var ps problem.Problems
	if err != nil && (!errors.As(err, &ps) || len(ps) == 0) {
		t.Fatalf("Load = %v, want Problems", err)
	}
	for _, p := range ps {
		if !utf8.ValidString(p.Source) || p.Message == "" || p.Line < 0 {
			t.Errorf("problem %+v", p)
		}
	}
	if f == nil {
		return
	}
	for _, h := range f.Hosts {
		if b, err := f.Bundle(h.Name); err == nil && b.Digest != b.Manifest.Digest() {
			t.Errorf("bundle of %s has digest %s, its manifest %s", h.Name, b.Digest, b.Manifest.Digest())
		}
	}
}

func FuzzFleetFile(f *testing.F) {
	for _, s := range []string{
		"network: n\nreaders: { a: age1x, b: [a], secrets/*: [b] }\nall: { services: { svc: true } }\nhosts:\n  h: { address: ['[::1]:2', x], host_key: k, tags: [g] }\n",
		"network: &a n\ngroups: { g: { services: { svc: { enable: false, x: [1, {y: 2}] } } } }\n", "a: *a\n", "&a [*a]\n", "? [x]\n: y\n", "<<: {}\n", "---\n---\n", "\x00", "network: !!set n\n", "{", "- a\n", "hosts: |\n  x\n",
		"network: n\nconfirm: 1h30m\nisolate: false\n", "network: n\nconfirm: -1s\nhealth: x\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) { loadFuzz(t, "bellhop.yaml", data) })
}

func FuzzServiceFile(f *testing.F) {
	for _, s := range []string{
		"user: { name: a, group: b, home: /srv/a, extra_groups: [c] }\nkeys: { k: { persist: sealed, path: /etc/k, restart: svc.service } }\n",
		"package: { url: 'https://e.com/{arch}.zip', sha256: { amd64: x } }\nsettings: { port: 1 }\nhealth: ['http://x:{port}/']\n",
		"files: { /x: }\nunits: { a@.service: { instances: [b], watch: /etc } }\n", "keys: [a, a]\n", "needs: {}\n", "package: x\n",
		"settings: { p: 1 }\nsettle: 0s\nhealth:\n- http://{host}:{p}/\n- { tcp: '[::1]:{p}', grace: 0s, interval: 200ms, timeout: 1s }\n- { command: 'a {{ .Settings.p }}', user: postgres }\n",
		"before:\n- { command: \"a\\n{{ .Host.Name }}\", timeout: 1h, first: true }\n- { command: '{{ key \"k\" }}' }\n", "health: [{ http: x, tcp: y, expect: 9 }, [1], &a { tcp: z }, *a]\n", "before: x\nisolate: true\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) { loadFuzz(t, "services/svc/service.yaml", data) })
}

// FuzzScalar writes a word as a setting: it is refused, or stands in a file as it was written.
func FuzzScalar(f *testing.F) {
	for _, s := range []string{"0077", "1.10", "1e3", "0x1F", "yes", "~", ".inf", "+5", "1_000", "-0", "2024-01-01", "12345678901234567890", "True", "<<", "1e999999999", "0b2", "0o8", "._", "+.nan"} {
		f.Add(s)
	}
	plain := regexp.MustCompile(`^[A-Za-z0-9._+~-]{1,64}$`)
	f.Fuzz(func(t *testing.T, word string) {
		if !plain.MatchString(word) {
			return
		}
		fl, err := (&Loader{}).Load(t.Context(), fstest.MapFS{
			"bellhop.yaml":                    {Data: []byte("network: n\nhosts: { a: { address: b, host_key: " + fuzzKey + ", services: { svc: true } } }\n")},
			"services/svc/service.yaml":       {Data: []byte("settings:\n  x: " + word + "\n")},
			"services/svc/files/etc/out.tmpl": {Data: []byte("{{ .Settings.x }}")},
		})
		if err != nil {
			return
		}
		b, err := fl.Bundle("a")
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.File(b.Files[0].Digest)
		if string(got) != word || err != nil {
			t.Errorf("%q stands as %q, %v", word, got, err)
		}
	})
}

const fuzzKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDzXOiJvGA2rhP+9Br/FsKJmIJh4RWTOO1RF8Ak93uJR"

func FuzzUnit(f *testing.F) {
	for _, s := range []string{"[Unit]\nA=b\\\n c\n[Install]\nWantedBy=x\nWantedBy=\n", "A=b\n", "[", "[a]\n#\\\n;\nb", "[S]\r\nType=oneshot\r\n", "\\", "[x]\n=\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) { loadFuzz(t, "services/svc/svc.service", data) })
}

func FuzzSelect(f *testing.F) {
	fl, err := (&Loader{}).Load(f.Context(), fstest.MapFS{"bellhop.yaml": {Data: []byte("network: n\n")}})
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range []string{"a", "b1", "b2"} {
		fl.Hosts = append(fl.Hosts, &inventory.Host{Name: name, Tags: []string{"t" + name[:1]}})
	}
	for _, s := range []string{"", "a", "b*", "@tb,!b1", "!a", "[", ",", "@", "!!a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		hs, err := fl.Select(expr)
		if err != nil && hs != nil {
			t.Errorf("Select(%q) = %v, %v", expr, hs, err)
		}
		if !slices.IsSortedFunc(hs, func(a, b *inventory.Host) int { return strings.Compare(a.Name, b.Name) }) {
			t.Errorf("Select(%q) is not in order", expr)
		}
	})
}

// FuzzTemplate: a template renders or is refused, within its budget, whatever it says.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{
		"{{.Host.Name}} {{.Settings.port}}", "{{range .Fleet.Hosts}}{{.Name}}{{end}}", "{{template \"services/svc/files/etc/x.tmpl\" .}}",
		"{{$a := printf \"%1000000d\" 1}}{{replace \" \" $a $a}}", "{{define \"x\"}}{{template \"x\" .}}{{end}}{{template \"x\"}}",
		"{{if}}", "{{(((1)))}}", "{{range 9999999}}{{end}}", "{{printf \"%*[1]d %[2]s\" 9 .}}", "{{key \"db\"}}", "{{json .}}{{js .}}{{html .}}", "{{- /* */ -}}", "{{`",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := boundsTree(map[string]string{
			"bellhop.yaml":              "network: n\nhosts: { h: { address: 10.0.0.1, host_key: " + boundsKey + ", services: { svc: true } } }\n",
			"services/svc/service.yaml": "settings: { port: 80, list: [a, b] }\n",
		})
		m["services/svc/files/etc/x.tmpl"] = &fstest.MapFile{Data: data}
		var ps problem.Problems
		if _, err := (&Loader{}).Load(t.Context(), m); err != nil && !errors.As(err, &ps) {
			t.Fatalf("Load = %v, want Problems", err)
		}
	})
}

// FuzzWire: the deployer reads what a loader says, whatever that is.
func FuzzWire(f *testing.F) {
	var b bytes.Buffer
	c := wire.Conn{W: &b}
	if err := c.Send(&wire.Message{Op: wire.OpAnswer, Head: &wire.Head{}, Count: 1, Hosts: []wire.Host{{At: 0, Host: &inventory.Host{Name: "a"}, Changed: true}}, Was: []int{-1}, Data: []byte("x")}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("\x00\x00\x00\x02\x00\x00\x00\x00{}"))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		far := wire.Conn{R: bytes.NewReader(data)}
		m, err := far.Receive()
		if err != nil {
			return
		}
		l := &Loader{}
		if fl, err := l.fleetOf(m, nil); err == nil {
			for _, h := range fl.Hosts {
				fl.Host(h.Name)
			}
		}
		if m.Composition != nil {
			wire.Compose(m.Composition, nil)
		}
	})
}
