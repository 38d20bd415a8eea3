package nixos

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

const hash = "0ajz40m7nklbncf2czaz0iinq4frg726"

func TestPathInfoHasTwoShapes(t *testing.T) {
	list := `[{"path":"/nix/store/` + hash + `-a-1","narSize":10,"references":[]},{"path":"/nix/store/` + hash + `-b","narSize":5}]`
	object := `{"/nix/store/` + hash + `-a-1":{"narSize":10,"references":[]},"/nix/store/` + hash + `-b":{"narSize":5}}`
	for _, text := range []string{list, object} {
		c, err := parsePathInfo([]byte(text))
		if err != nil || len(c) != 2 || c["/nix/store/"+hash+"-a-1"] != 10 || c["/nix/store/"+hash+"-b"] != 5 {
			t.Errorf("parsePathInfo(%s) = %v, %v", text, c, err)
		}
	}
	for _, text := range []string{`[{"path":"/nix/store/` + hash + `-a","valid":false}]`, `{"/nix/store/` + hash + `-a":null}`} {
		if _, err := parsePathInfo([]byte(text)); !errors.Is(err, ErrNotHere) {
			t.Errorf("parsePathInfo(%s): %v, want ErrNotHere", text, err)
		}
	}
	for _, text := range []string{"", "7", `[{"path":"/etc/passwd","narSize":1}]`, `{"../x":{"narSize":1}}`, `[{"path":"/nix/store/` + hash + `-a","narSize":-1}]`} {
		if c, err := parsePathInfo([]byte(text)); err == nil {
			t.Errorf("parsePathInfo(%q) = %v, want an error", text, c)
		}
	}
}

func FuzzPathInfo(f *testing.F) {
	f.Add([]byte(`[{"path":"/nix/store/` + hash + `-a-1","narSize":10}]`))
	f.Add([]byte(`{"/nix/store/` + hash + `-a-1":{"narSize":10}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parsePathInfo(text)
		if err != nil {
			return
		}
		for p := range c {
			if !IsStorePath(p) {
				t.Errorf("%q is no store path", p)
			}
		}
	})
}

func TestIsStorePath(t *testing.T) {
	for p, want := range map[string]bool{
		"/nix/store/" + hash + "-nixos-system-a-24.05": true,
		"/nix/store/" + hash + "-a.drv":                true,
		"/nix/store/" + hash:                           false,
		"/nix/store/" + hash + "-":                     false,
		"/nix/store/" + hash + "-a/b":                  false,
		"/nix/store/" + hash + "-a b":                  false,
		"/nix/store/" + hash + "-a;b":                  false,
		"/nix/store/../../" + hash + "-a":              false,
		"/nix/store/" + hash + "-a\n":                  false,
		"/home/" + hash + "-a":                         false,
		"/nix/store/" + strings.ToUpper(hash) + "-a":   false,
	} {
		if got := IsStorePath(p); got != want {
			t.Errorf("IsStorePath(%q) = %v", p, got)
		}
	}
}

func TestSplitName(t *testing.T) {
	for name, want := range map[string][2]string{
		"curl-8.1.2":               {"curl", "8.1.2"},
		"curl-8.1.2-bin":           {"curl", "8.1.2-bin"},
		"nixos-system-web-24.05":   {"nixos-system-web", "24.05"},
		"unit-web.service":         {"unit-web.service", ""},
		"gtk+3-3.24-dev":           {"gtk+3", "3.24-dev"},
		"source":                   {"source", ""},
		"perl5.38.2-JSON-PP-4.16":  {"perl5.38.2-JSON-PP", "4.16"},
		"linux-6.6.32-modules":     {"linux", "6.6.32-modules"},
		"python3.11-six-1.16.0":    {"python3.11-six", "1.16.0"},
		"extra-utils":              {"extra-utils", ""},
		"glibc-2.39-52":            {"glibc", "2.39-52"},
		"X-Restart-Triggers-man":   {"X-Restart-Triggers", "-man"},
		"etc-machine-id-1-machine": {"etc-machine-id", "1-machine"},
	} {
		n, v := splitName(StoreDir + "/" + hash + "-" + name)
		if n != want[0] || v != want[1] {
			t.Errorf("splitName(%s) = %q, %q, want %q", name, n, v, want)
		}
	}
}

func TestCompareClosures(t *testing.T) {
	path := func(h byte, name string) string { return StoreDir + "/" + strings.Repeat(string(h), 32) + "-" + name }
	old := closure{path('a', "glibc-2.39"): 100, path('a', "curl-8.1"): 50, path('a', "gone-1"): 7, path('a', "cfg"): 1, path('a', "multi-1"): 1, path('b', "multi-2"): 1}
	now := closure{path('a', "glibc-2.39"): 100, path('b', "curl-8.2"): 60, path('a', "new-3"): 9, path('b', "cfg"): 2, path('a', "multi-1"): 1, path('c', "multi-3"): 1}
	d := compareClosures(old, now)
	var text []string
	for _, p := range d.Packages {
		text = append(text, p.String())
	}
	want := []string{"cfg  (rebuilt)", "curl 8.1 → 8.2", "- gone 1", "multi 2 → 3", "+ new 3"}
	if !slices.Equal(text, want) {
		t.Errorf("packages %q, want %q", text, want)
	}
	if d.Size != 60+9+2+1-50-7-1-1 || d.Added != 72 {
		t.Errorf("size %d, added %d", d.Size, d.Added)
	}
	if d := compareClosures(old, old); len(d.Packages) > 0 || d.Size != 0 {
		t.Errorf("a closure differs from itself: %+v", d)
	}
}

// mark is a line of Nix's log in which the evaluation traces something.
func trace(m *marks, text string) logLine {
	return parseLogLine([]byte(fmt.Sprintf(`@nix {"action":"msg","level":0,"msg":"trace: %s %s"}`, m.word, text)))
}

func TestMarks(t *testing.T) {
	m := newMarks()
	done := `done a {\"drv\":\"/nix/store/` + hash + `-s.drv\",\"out\":\"/nix/store/` + hash + `-s\",\"keys\":[]}`
	m.line(trace(m, "source /nix/store/"+hash+"-source"))
	m.line(trace(m, "begin a"))
	m.line(parseLogLine([]byte(`@nix {"action":"msg","level":1,"msg":"\u001b[35;1mwarning:\u001b[0m old option"}`)))
	m.line(trace(m, done))
	m.line(trace(m, "begin b"))
	m.line(parseLogLine([]byte("trace: @bellhop done c {}"))) // a configuration may trace what it likes
	m.line(parseLogLine([]byte(`@nix {"action":"msg","level":0,"msg":"\u001b[31;1merror:\u001b[0m the disk\n       at file"}`)))
	if s := m.done["a"]; s.Out != "/nix/store/"+hash+"-s" || s.Err != "" {
		t.Errorf("a came to %+v", s)
	}
	if _, forged := m.done["c"]; forged || m.at != "b" {
		t.Errorf("the host under way is %q, want b; results %v", m.at, m.done)
	}
	if got := headline(m.errs.lines); got != "the disk" {
		t.Errorf("the error is %q", got)
	}

	for _, bad := range []string{`done b {\"drv\":\"/nix/store/` + hash + `-s.drv\",\"out\":\"/etc\"}`, `done b {`, `done b {\"drv\":\"/nix/store/` + hash + `-s\",\"out\":\"/nix/store/` + hash + `-s\"}`} {
		m.at = "b"
		m.line(trace(m, bad))
		if m.done["b"].Err == "" {
			t.Errorf("%s was taken: %+v", bad, m.done["b"])
		}
	}
}

func FuzzLog(f *testing.F) {
	f.Add([]byte("@nix {\"action\":\"msg\",\"level\":0,\"msg\":\"trace: x\"}\nplain\n"))
	f.Add([]byte(`@nix {"action":"result","type":101,"id":1,"fields":["line"]}`))
	f.Fuzz(func(t *testing.T, log []byte) {
		m := newMarks()
		b := &buildLog{drv: map[uint64]string{}, lines: map[string]*tail{}}
		if err := readLog(strings.NewReader(string(log)), func(l logLine) { m.line(l); b.line(l) }); err != nil {
			t.Fatal(err)
		}
		if len(m.errs.lines) > maxEvidence {
			t.Errorf("%d lines are kept", len(m.errs.lines))
		}
	})
}

func TestKeyRules(t *testing.T) {
	good := func() evaluatedKey {
		return evaluatedKey{Name: "db", Text: true, Dir: "/run/keys", User: "root", Group: "root", Permissions: "0400"}
	}
	if k, err := (&evaluatedKey{Name: "db", Text: true, Dir: "/run/keys/", Permissions: "0400"}).key("/x"); err != nil || k.Path != "/run/keys/db" || k.Mode != 0o400 {
		t.Errorf("a good key: %+v, %v", k, err)
	}
	for want, change := range map[string]func(*evaluatedKey){
		"octal":              func(k *evaluatedKey) { k.Permissions = "rw" },
		"\"7777\"":           func(k *evaluatedKey) { k.Permissions = "7777" },
		"/run/keysother":     func(k *evaluatedKey) { k.Dir = "/run/keysother" },
		"/run/keys/../shm":   func(k *evaluatedKey) { k.Dir = "/run/keys/../shm" },
		"one of text":        func(k *evaluatedKey) { k.Command = []string{"x"} },
		"want one":           func(k *evaluatedKey) { k.Text = false },
		"keyCommand is empt": func(k *evaluatedKey) { k.Text, k.Command = false, []string{} },
	} {
		k := good()
		change(&k)
		if _, err := k.key("/x"); err == nil || !strings.Contains(err.Error(), strings.Trim(want, `"`)) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestMemAvailable(t *testing.T) {
	if got := memAvailable("MemTotal:  10 kB\nMemAvailable:   24104 kB\n"); got != 24104<<10 {
		t.Errorf("MemAvailable is %d", got)
	}
}

func TestQuote(t *testing.T) {
	if got, want := quote("a\"b\\${c}\n"), `"a\"b\\\${c}\n"`; got != want {
		t.Errorf("quote = %s, want %s", got, want)
	}
}
