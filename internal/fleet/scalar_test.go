package fleet_test

import (
	"maps"
	"strings"
	"testing"

	"bellhop/internal/fleet"
)

// renderOf is what a template makes of the settings of service.yaml and of the host's switch.
func renderOf(t *testing.T, service, host, tmpl string) (string, error) {
	t.Helper()
	more := main2(host)
	maps.Copy(more, map[string]string{"services/svc/files/etc/out.tmpl": tmpl})
	f, err := loader().Load(t.Context(), small(service, more))
	if err != nil {
		return "", err
	}
	return fileText(t, mustBundle(t, f, "a"), "/etc/out"), nil
}

func fileText(t *testing.T, b *fleet.Bundle, path string) string {
	t.Helper()
	for _, f := range b.Files {
		if f.Path == path {
			data, err := b.File(f.Digest)
			if err != nil {
				t.Fatal(err)
			}
			return string(data)
		}
	}
	t.Fatalf("no file %s", path)
	return ""
}

// A scalar is the text that was written, wherever it stands: as a default, on a host, in a list, in a
// mapping, behind an anchor, and in JSON where JSON can hold it.
func TestScalarsKeepTheirText(t *testing.T) {
	for written, want := range map[string]string{
		"0077": "", "0o77": "", "0x1F": "", "0b101": "", "1_000": "", "+5": "", "-0": "", "00": "", "089": "", "-5": "", "5000": "",
		"1.10": "", "1.0": "", "0.0": "", ".5": "", "5.": "", "1.50e-3": "", "1e3": "", "1E3": "", "6e23": "", "1e400": "", "100000000.0": "",
		"12345678901234567890": "", "123456789012345678901234567890": "", "9007199254740993": "", "18446744073709551615": "",
		".inf": "", "-.Inf": "", ".nan": "", "yes": "", "No": "", "on": "", "True": "", "FALSE": "", "true": "", "false": "",
		"2024-01-01": "", "2024-01-01T00:00:00Z": "", "12:30": "", "1:2:3": "", "1.2.3": "", "1,000": "", "0777 0": "", "éà": "", "a b": "",
		`'0077'`: "0077", `"1.10"`: "1.10", `"~"`: "~", `"null"`: "null", `'yes'`: "yes", `""`: "", `"a\tb"`: "a\tb", `'it''s'`: "it's",
		"!!str 0077": "0077", "!!str ~": "~", `!!int "5"`: "5", "!!float 1": "1", `!!bool "true"`: "true", "&x 0077": "0077", "5 # a comment": "5",
	} {
		if want == "" && written != `""` {
			want = written
		}
		for place, c := range map[string]struct{ service, host, tmpl string }{
			"default": {"settings:\n  x: " + written + "\n", "{ svc: true }", "{{ .Settings.x }}"},
			"host":    {"settings:\n  x: ''\n", "\n      svc:\n        x: " + written, "{{ .Settings.x }}"},
			"list":    {"settings:\n  x:\n    - " + written + "\n", "{ svc: true }", `{{ index .Settings.x 0 }}`},
			"joined":  {"settings:\n  x:\n    - " + written + "\n", "{ svc: true }", `{{ join "" .Settings.x }}`},
			"mapping": {"settings:\n  x:\n    y: " + written + "\n", "{ svc: true }", "{{ .Settings.x.y }}"},
			"printf":  {"settings:\n  x: " + written + "\n", "{ svc: true }", `{{ printf "%s" .Settings.x }}`},
			"print":   {"settings:\n  x: " + written + "\n", "{ svc: true }", `{{ print .Settings.x }}`},
			"alias":   {"settings:\n  y: &y " + strings.TrimPrefix(written, "&x ") + "\n  x: *y\n", "{ svc: true }", "{{ .Settings.x }}"},
		} {
			if place == "host" && strings.Contains("true false True FALSE !!bool \"true\"", written) && written != `""` {
				continue // text by default, true or false here
			}
			got, err := renderOf(t, c.service, c.host, c.tmpl)
			if got != want || err != nil {
				t.Errorf("%s as %s is %q, %v; want %q", written, place, got, err, want)
			}
		}
	}
}

func TestBlockScalars(t *testing.T) {
	for written, want := range map[string]string{
		"|\n    a: 1\n      b\n\n    c\n":         "a: 1\n  b\n\nc\n",
		"|-\n    0077\n":                          "0077",
		"|+\n    a\n\n  y: 1\n":                   "a\n\n",
		">\n    a\n    b\n\n    c\n":              "a b\nc\n",
		">-\n    1.10\n    x\n":                   "1.10 x",
		"|2\n      a\n":                           "  a\n",
		"\"a\\\n    b\"\n":                        "ab",
		"plain\n    goes on\n":                    "plain goes on",
		"'single\n\n    quoted'\n":                "single\nquoted",
		"|\n    # no comment\n    x # nor this\n": "# no comment\nx # nor this\n",
	} {
		got, err := renderOf(t, "settings:\n  x: "+written, "{ svc: true }", "{{ .Settings.x }}")
		if got != want || err != nil {
			t.Errorf("%q is %q, %v; want %q", written, got, err, want)
		}
	}
}

// What a template does with scalars beside printing them.
func TestScalarsInTemplates(t *testing.T) {
	const service = `settings: { port: 5000, umask: 0077, version: 1.10, delay: 1.5, big: 12345678901234567890, off: false, Off: False, on: True, word: abc, exp: 1e3, zero: 0, quoted: "5000", hex: 0x1F }` + "\n"
	for tmpl, want := range map[string]string{
		`{{ if .Settings.off }}y{{ else }}n{{ end }}{{ if .Settings.Off }}y{{ else }}n{{ end }}{{ if .Settings.on }}y{{ else }}n{{ end }}{{ if .Settings.zero }}y{{ else }}n{{ end }}`:                                                                                     "nnyn",
		`{{ not .Settings.Off }} {{ and .Settings.on .Settings.port }} {{ or .Settings.off .Settings.word }}`:                                                                                                                                                              "true 5000 abc",
		`{{ eq .Settings.port 5000 }} {{ eq .Settings.port "5000" }} {{ eq .Settings.quoted 5000 }} {{ eq .Settings.port 80 5000 }} {{ ne .Settings.port 5001 }}`:                                                                                                          "true true true true true",
		`{{ eq .Settings.umask "0077" }} {{ eq .Settings.umask 0077 }} {{ eq .Settings.hex 31 }} {{ eq .Settings.version 1.1 }} {{ eq .Settings.version "1.1" }}`:                                                                                                          "true true true true false",
		`{{ lt .Settings.port 6000 }} {{ gt .Settings.delay 1 }} {{ le .Settings.version 1.1 }} {{ ge .Settings.exp 1000 }} {{ lt .Settings.big 12345 }} {{ lt "a" .Settings.word }}`:                                                                                      "true true true true false true",
		`{{ eq .Settings.big "12345678901234567891" }} {{ eq .Settings.big "12345678901234567890" }}`:                                                                                                                                                                      "false true",
		`{{ eq .Settings.off false }} {{ eq .Settings.Off false }} {{ eq .Settings.off "false" }} {{ eq .Settings.on true }}`:                                                                                                                                              "true true true true",
		`{{ printf "%d %05d %x %s:%s %q %v" .Settings.port .Settings.port .Settings.port .Settings.word .Settings.port .Settings.port .Settings.off }}`:                                                                                                                    `5000 05000 1388 abc:5000 "5000" false`,
		`{{ printf "%d %s %.1f %o" .Settings.umask .Settings.umask .Settings.version .Settings.umask }}`:                                                                                                                                                                   "63 0077 1.1 77",
		`{{ json .Settings.version }} {{ json .Settings.umask }} {{ json .Settings.port }} {{ json .Settings.big }} {{ json .Settings.off }} {{ json .Settings.Off }} {{ json .Settings.exp }}`:                                                                            `1.10 "0077" 5000 12345678901234567890 false false "1e3"`,
		`{{ env .Settings.port }} {{ upper .Settings.umask }} {{ replace "0" "o" .Settings.port }} {{ base64 .Settings.version }} {{ indent 2 .Settings.port }} {{ split "." .Settings.version }} {{ trim .Settings.off }} {{ join .Settings.zero .Settings.port | len }}`: "error",
		`{{ env .Settings.port }} {{ upper .Settings.umask }} {{ replace 0 "o" .Settings.port }} {{ base64 .Settings.version }} {{ indent 2 .Settings.port }} {{ split "." .Settings.version }} {{ trim .Settings.off }}`:                                                  "5000 0077 5ooo MS4xMA== 5000 [1 10] false",
		`{{ default 7 .Settings.zero }} {{ len .Settings.umask }} {{ range .Settings.zero }}x{{ end }}`:                                                                                                                                                                    "0 4 ",
		`{{ lt .Settings.word 5 }}`:        "error",
		`{{ eq .Settings.off 0 }}`:         "error",
		`{{ printf "%d" .Settings.word }}`: "error",
		`{{ printf "%s" }}`:                "error",
		`{{ upper .Settings }}`:            "error",
		`{{ .Settings.absent }}`:           "error",
		`{{ .Settings.port.x }}`:           "error",
		`{{ add .Settings.port 1 }}`:       "error",
		`{{ eq .Settings.port }}`:          "error",
		`{{ printf "100%% %s" "%!d(x)" }}`: "100% %!d(x)",
	} {
		got, err := renderOf(t, service, "{ svc: true }", tmpl)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%s\n gives %q, %v\n want  %q", tmpl, got, err, want)
		}
	}
}

// Nothing at all is no value: it would print as <no value>.
func TestNullIsAProblem(t *testing.T) {
	for name, c := range map[string]struct{ service, host, want string }{
		"a default":    {"settings:\n  token:\n", "{ svc: true }", "services/svc/service.yaml:2:"},
		"a tilde":      {"settings: { token: ~ }\n", "{ svc: true }", "services/svc/service.yaml:1:20: no value stands here"},
		"the word":     {"settings: { token: null }\n", "{ svc: true }", "no value stands here"},
		"a tag":        {"settings: { token: !!null x }\n", "{ svc: true }", "no value stands here"},
		"in a list":    {"settings: { list: [a, ~] }\n", "{ svc: true }", "service.yaml:1:23: no value stands here"},
		"in a mapping": {"settings: { map: { a: } }\n", "{ svc: true }", "no value stands here"},
		"on a host":    {"settings: { token: x }\n", "{ svc: { token: ~ } }", "bellhop.yaml:6:31: no value stands here"},
		"of a group":   {"settings: { token: x }\n", "{ svc: true }\ngroups: { g: { services: { svc: { token: } } } }", "bellhop.yaml:7:"},
	} {
		if _, err := renderOf(t, c.service, c.host, "{{ .Settings }}"); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "no value stands here") {
			t.Errorf("%s: %v\nwant %s", name, err, c.want)
		}
	}
}

// A number may stand where the default is text, and text that reads as a number where it is a number.
func TestKindsOfSettings(t *testing.T) {
	for name, c := range map[string]struct{ def, set, want string }{
		"a version that looks like a number": {"1.2.3", "1.10", "1.10"},
		"a long id":                          {`"x"`, "12345678901234567890", "12345678901234567890"},
		"a quoted number":                    {"80", `"8080"`, "8080"},
		"an exponent":                        {"80", "1e3", "1e3"},
		"octal for a number":                 {"80", "0077", "0077"},
		"a word for a number":                {"80", "http", "error"},
		"a boolean for text":                 {"auto", "true", "error"},
		"yes for a boolean":                  {"true", "yes", "error"},
		"another spelling":                   {"true", "False", "False"},
		"a list for text":                    {"a", "[a]", "error"},
	} {
		got, err := renderOf(t, "settings: { x: "+c.def+" }\n", "{ svc: { x: "+c.set+" } }", "{{ .Settings.x }}")
		if err != nil {
			got = "error"
		}
		if got != c.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
}

// Two hosts with settings that only their spelling tells apart have files of their own.
func TestSpellingsApart(t *testing.T) {
	f := mustLoad(t, tree(map[string]string{
		"bellhop.yaml": "network: n\nhosts:\n  a: { address: a, host_key: " + hostKey("a") + ", services: { svc: { x: 0x1F } } }\n" +
			"  b: { address: b, host_key: " + hostKey("b") + ", services: { svc: { x: 31 } } }\n  c: { address: c, host_key: " + hostKey("c") + ", services: { svc: { x: '0x1F' } } }\n",
		"services/svc/service.yaml":       "settings: { x: 1 }\n",
		"services/svc/files/etc/out.tmpl": "{{ .Settings.x }} {{ eq .Settings.x 31 }}",
	}))
	for host, want := range map[string]string{"a": "0x1F true", "b": "31 true", "c": "0x1F false"} {
		if got := fileText(t, mustBundle(t, f, host), "/etc/out"); got != want {
			t.Errorf("on %s %q, want %q", host, got, want)
		}
	}
}
