package fleet_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
)

func ms(d time.Duration) *int64 { v := d.Milliseconds(); return &v }

// What service.yaml says of starting and judging is in the manifest, less what is the default.
func TestHealth(t *testing.T) {
	for name, c := range map[string]struct {
		service string
		want    *bundle.Service // nil: none; Name and Digest are filled in
	}{
		"nothing":            {"", nil},
		"settle":             {"settle: 1m\n", &bundle.Service{Settle: ms(time.Minute)}},
		"settle off":         {"settle: 0s\n", &bundle.Service{Settle: ms(0)}},
		"settle, 0":          {"settle: 0\n", &bundle.Service{Settle: ms(0)}},
		"settle, default":    {"settle: 5s\n", nil},
		"a URL alone":        {"health: http://127.0.0.1/\n", &bundle.Service{Probes: []bundle.Probe{{HTTP: "http://127.0.0.1/"}}}},
		"a list of one URL":  {"health: ['https://[::1]:8443/x?a=b']\n", &bundle.Service{Probes: []bundle.Probe{{HTTP: "https://[::1]:8443/x?a=b"}}}},
		"a mapping alone":    {"health: { tcp: 'db.lan:5432' }\n", &bundle.Service{Probes: []bundle.Probe{{TCP: "db.lan:5432"}}}},
		"all defaults":       {"health: { http: 'http://a/', expect: 200, interval: 1s, timeout: 5s, grace: 30s }\n", &bundle.Service{Probes: []bundle.Probe{{HTTP: "http://a/"}}}},
		"nothing of default": {"health: { http: 'http://a/', expect: 204, interval: 200ms, timeout: 1s, grace: 2m }\n", &bundle.Service{Probes: []bundle.Probe{{HTTP: "http://a/", Status: 204, Interval: 200, Timeout: 1000, Grace: 120_000}}}},
		"no grace":           {"health: { http: 'http://a/', grace: 0s }\n", &bundle.Service{Probes: []bundle.Probe{{HTTP: "http://a/", Grace: 1}}}},
		"in order": {"health:\n- { tcp: '[::1]:5432' }\n- { command: pg_isready, user: postgres }\n- { command: 'true', user: root }\n", &bundle.Service{Probes: []bundle.Probe{
			{TCP: "[::1]:5432"}, {Command: "pg_isready", User: "postgres"}, {Command: "true"}}}},
		"settings": {"settings: { port: 0080, path: x/y }\nhealth: ['http://{host}:1/{path}', { tcp: '{host}.lan:80' }]\n", &bundle.Service{Probes: []bundle.Probe{
			{HTTP: "http://a:1/x/y"}, {TCP: "a.lan:80"}}}},
		"a template": {"settings: { port: 0080 }\nhealth: { command: \"curl {{.Host.Name}}:{{ .Settings.port }} | grep '{host}'\" }\n", &bundle.Service{Probes: []bundle.Probe{
			{Command: "curl a:0080 | grep '{host}'"}}}},
		"steps": {"settings: { db: app }\nbefore:\n- { command: 'pg_dump {{ .Settings.db }}', user: postgres, timeout: 10m }\n- { command: \"a\\nb\", timeout: 1h, first: true }\n", &bundle.Service{Before: []bundle.Step{
			{Command: "pg_dump app", User: "postgres"}, {Command: "a\nb", Timeout: 3_600_000, First: true}}}},
		"a step alone": {"before: { command: 'true', first: false }\n", &bundle.Service{Before: []bundle.Step{{Command: "true"}}}},
	} {
		b := mustBundle(t, mustLoad(t, small(c.service, nil)), "a")
		var want []bundle.Service
		if c.want != nil {
			w := *c.want
			w.Name = "svc"
			if len(w.Before) > 0 {
				w.Digest = bundle.ServiceDigest(&b.Manifest, "svc")
			}
			want = append(want, w)
		}
		if diff := cmp.Diff(want, b.Services); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// How often hosts are looked at is the fleet's, and no host holds another bundle for it.
func TestLook(t *testing.T) {
	digest := mustBundle(t, mustLoad(t, small("", nil)), "a").Digest
	for text, want := range map[string]time.Duration{"": fleet.DefaultLook, "look: 1h\n": time.Hour, "look: 0s\n": 0, "look: 10s\n": 10 * time.Second} {
		m := small("", nil)
		m["bellhop.yaml"].Data = append([]byte(text), m["bellhop.yaml"].Data...)
		f := mustLoad(t, m)
		if f.Look != want {
			t.Errorf("%q: look %v; want %v", text, f.Look, want)
		}
		if mustBundle(t, f, "a").Digest != digest {
			t.Errorf("%q changes a bundle", text)
		}
	}
}

// Confirm and Isolate are the fleet's, with their defaults.
func TestConfirmAndIsolate(t *testing.T) {
	for text, want := range map[string]struct {
		confirm time.Duration
		isolate bool
	}{
		"":                 {fleet.DefaultConfirm, true},
		"confirm: 2m\n":    {2 * time.Minute, true},
		"confirm: 0s\n":    {0, true},
		"isolate: false\n": {30 * time.Second, false},
		"isolate: true\n":  {30 * time.Second, true},
	} {
		m := small("", nil)
		m["bellhop.yaml"].Data = append([]byte(text), m["bellhop.yaml"].Data...)
		f := mustLoad(t, m)
		if f.Confirm != want.confirm || f.Isolate != want.isolate {
			t.Errorf("%q: confirm %v, isolate %v; want %v, %v", text, f.Confirm, f.Isolate, want.confirm, want.isolate)
		}
		b := mustBundle(t, f, "a")
		if b.Digest != mustBundle(t, mustLoad(t, small("", nil)), "a").Digest {
			t.Errorf("%q changes a bundle", text)
		}
	}
}

func TestHealthProblems(t *testing.T) {
	const at = "services/svc/service.yaml:"
	for text, want := range map[string]string{
		"settle: 5\n":              at + `1:9: "5" is no duration: want a number with its unit, as in 500ms, 30s, 5m or 1h30m`,
		"settle: soon\n":           `"soon" is no duration`,
		"settle:\n":                "want a duration, as in 30s, 5m or 1h30m, not nothing",
		"settle: [5s]\n":           "want a duration, as in 30s, 5m or 1h30m, not a list",
		"settle: yes\n":            `"yes" is no duration`,
		"settle: true\n":           "not true",
		"settle: -5s\n":            at + "1:9: settle -5s: a duration is not negative",
		"settle: 1h\n":             at + "1:9: settle 1h is too long: want 10m at most",
		"settle: 1ms\n":            "settle 1ms is too short: want 100ms or more, or 0s to turn it off",
		"settle: 99999999h\n":      "is no duration",
		"settle: 5s\nsettle: 6s\n": at + `2:1: "settle" stands here a second time`,
		"isolate: false\n":         at + "1:1: isolate is written at the top of bellhop.yaml, not here",
		"confirm: 1s\n":            at + "1:1: confirm is written at the top of bellhop.yaml, not here",

		"health: ftp://x/\n":                                      at + `1:9: health: http "ftp://x/": want http:// or https://, as in http://127.0.0.1:8080/healthz`,
		"health: 127.0.0.1:80/x\n":                                "no URL: want one as in",
		"health: x:80\n":                                          "want http:// or https://",
		"health: 'http://:80/'\n":                                 "names no host",
		"health: 'http://'\n":                                     "names no host",
		"health: 'http:x'\n":                                      "names no host",
		"health: 'http://a:/'\n":                                  "want a port from 1 to 65535",
		"health: 'http://a:65536/'\n":                             "want a port from 1 to 65535",
		"health: 'http://a:0/'\n":                                 "want a port from 1 to 65535",
		"health: 'http://a:x/'\n":                                 "no URL",
		"health: 'http://u:hunter2@a/'\n":                         "would be stored on the host as it is",
		"health: 'http://a/#x'\n":                                 "what follows # is sent to no server",
		"health: 'http://a/ b'\n":                                 "want a URL without blanks",
		"health: ''\n":                                            "want a URL without blanks",
		"health: \"http://a/\\0\"\n":                              "want a URL without blanks",
		"health: http://" + strings.Repeat("a", 2048) + "/\n":     "a URL longer than 2048 bytes",
		"health: 5\n":                                             `health: http "5": want http:// or https://`,
		"health: [[a]]\n":                                         at + "1:10: want text, not a list",
		"health: { http: 'http://a/', tcp: 'b:1' }\n":             at + "1:9: health: a probe is one of http, tcp and command, and this one has 2 of them",
		"health: { grace: 1s }\n":                                 "this one has none of them",
		"health: { htp: x }\n":                                    at + `1:11: unknown field "htp"; did you mean "http"?`,
		"health: { tcp: 'b:1', expect: 200 }\n":                   at + "1:31: health: expect is the status of an answer, which only an http probe has",
		"health: { http: 'http://a/', expect: 99 }\n":             "expect 99: want a status of HTTP, as in 200",
		"health: { http: 'http://a/', expect: 600 }\n":            "expect 600",
		"health: { http: 'http://a/', expect: ok }\n":             "want a whole number",
		"health: { http: 'http://a/', user: bot }\n":              at + "1:36: health: only a command runs as a user",
		"health: { tcp: 'b:1', interval: 0s }\n":                  "interval 0s is too short: want 100ms or more\n",
		"health: { tcp: 'b:1', timeout: 11m }\n":                  "timeout 11m is too long: want 10m at most",
		"health: { tcp: 'b:1', grace: 1h1s }\n":                   "grace 1h0m1s is too long: want 1h at most",
		"health: [http://a/, { http: 'http://a/', grace: 1s }]\n": at + "1:21: health: this probe stands here a second time",
		"health: [" + strings.Repeat("http://a/, ", 33) + "]\n":   "health: more than 32 probes",

		"health: { tcp: 'b' }\n":                               at + `1:16: health: tcp "b": want address:port, as in 127.0.0.1:5432 or '[::1]:5432'`,
		"health: { tcp: '::1:5432' }\n":                        "want address:port",
		"health: { tcp: '1.2.3:5432' }\n":                      "want address:port",
		"health: { tcp: ':5432' }\n":                           "want address:port",
		"health: { tcp: 'b:http' }\n":                          "want address:port",
		"health: { tcp: 'b:05432' }\n":                         "want address:port",
		"health: { tcp: 'b c:1' }\n":                           "want address:port",
		"health: { tcp: 'tcp://b:1' }\n":                       "without a scheme",
		"health: { tcp: 'b:{prot}' }\nsettings: { port: 1 }\n": at + `1:16: health: tcp "b:{prot}": no setting "prot"; did you mean "port"?; known here: host, port`,
		"health: 'http://{/'\n":                                "a brace without its partner",
		"health: 'http://{}/'\n":                               `no setting ""`,

		"health: { command: '' }\n":                                    at + "1:20: health: command: it is empty",
		"health: { command: ' ' }\n":                                   "it is empty",
		"health: { command: \"a\\0b\" }\n":                             "health: command: a NUL byte has no place in a command",
		"health: { command: " + strings.Repeat("a", 16<<10+1) + " }\n": "it is larger than 16 KiB",
		"health: { command: a, user: Bot.x }\n":                        at + `1:29: bad name "Bot.x" for a user`,
		"health: { command: a, user: 1000 }\n":                         `bad name "1000" for a user`,
		"health: { command: a, user: '' }\n":                           `bad name "" for a user`,
		"health: { command: '{{ .Settings.x }' }\n":                    at + "1:20: health: command: ",
		"health: { command: '{{ .Settings.x }}' }\n":                   at + `1:20: health: command: at <.Settings.x>: map has no entry for key "x"`,
		"health: { command: \"a\\n{{ .Nope }}\" }\n":                   "health: command, line 2: at <.Nope>: there is no .Nope; known are .Settings",
		"health: { command: '{{ key \"k\" }}' }\n":                     at + "1:20: health: command: a command is stored on the host, so it can't name a key: have it read /run/keys/NAME",
		"health: { command: '{{ include \"shared/k\" . }}' }\n":        "it can't name a key",
		"health: { command: '{{ \"\" }}' }\n":                          "health: command: once rendered, it is empty",
		"health: { command: '{{ printf \"%c\" 0 }}' }\n":               "once rendered, a NUL byte has no place in a command",

		"before: pg_dump\n":                                          at + `1:9: want a mapping, as in { command: "pg_dump app >/srv/backup/app.sql" }, not text`,
		"before: [{ user: postgres }]\n":                             at + "1:10: before: a step has a command, and this one has none",
		"before: { command: '' }\n":                                  "before: command: it is empty",
		"before: { command: a, timeout: 0s }\n":                      "timeout 0s is too short: want 1s or more\n",
		"before: { command: a, timeout: 25h }\n":                     "timeout 25h is too long: want 24h at most",
		"before: { command: a, first: maybe }\n":                     "want true or false",
		"before: { command: a, grace: 1s }\n":                        `unknown field "grace"; known here: command, user, timeout, first`,
		"before: [{ command: a }, { command: a, first: true }]\n":    at + "1:26: before: this step stands here a second time",
		"before: { command: 'a {{ key \"k\" }}' }\n":                 "before: command: a command is stored on the host, so it can't name a key",
		"before: [" + strings.Repeat("{ command: a }, ", 17) + "]\n": "before: more than 16 steps",
	} {
		more := map[string]string{"shared/k": `{{ key "k" }}`}
		f, err := loader().Load(t.Context(), small(text, more))
		if err == nil {
			_, err = f.Bundle("a")
		}
		if err == nil || !strings.Contains(err.Error()+"\n", want) {
			t.Errorf("%s: %v\nwant %s", text, err, want)
		}
	}

	for text, want := range map[string]string{
		"confirm: 11m\n":  "bellhop.yaml:1:10: confirm 11m is too long: want 10m at most",
		"confirm: 10\n":   `bellhop.yaml:1:10: "10" is no duration`,
		"look: -1m\n":     "bellhop.yaml:1:7: look -1m: a duration is not negative",
		"look: 9s\n":      "bellhop.yaml:1:7: look 9s is too short: want 10s or more, or 0s to turn it off",
		"look: 25h\n":     "bellhop.yaml:1:7: look 25h is too long: want 24h at most",
		"look: often\n":   `bellhop.yaml:1:7: "often" is no duration`,
		"isolate: some\n": "bellhop.yaml:1:10: want true or false, not text",
		"settle: 5s\n":    "bellhop.yaml:1:1: settle is written in the service's service.yaml, not here",
		"health: []\n":    "bellhop.yaml:1:1: health is written in the service's service.yaml, not here",
		"confrm: 1s\n":    `did you mean "confirm"?`,
	} {
		m := small("", nil)
		m["bellhop.yaml"].Data = append([]byte(text), m["bellhop.yaml"].Data...)
		if _, err := loader().Load(t.Context(), m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", text, err, want)
		}
	}
}

// What a setting makes of an address concerns the hosts that have it.
func TestHealthOfOneHost(t *testing.T) {
	service := "settings: { at: '127.0.0.1:80', list: [a] }\nhealth: { tcp: '{at}' }\n"
	m := tree(map[string]string{
		"bellhop.yaml":              "network: n\nall: { services: { svc: true } }\nhosts:\n  a: { address: a, host_key: " + hostKey("a") + " }\n  b: { address: b, host_key: " + hostKey("b") + ", services: { svc: { at: localhost } } }\n",
		"services/svc/service.yaml": service,
		"services/svc/svc.service":  plainUnit,
	})
	f := mustLoad(t, m)
	if b := mustBundle(t, f, "a"); b.Services[0].Probes[0].TCP != "127.0.0.1:80" {
		t.Errorf("probe %+v", b.Services[0])
	}
	const want = `services/svc/service.yaml:2:9: b: health: tcp "{at}": here it is "localhost": want address:port`
	if _, err := f.Bundle("b"); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Bundle(b): %v\nwant %s", err, want)
	}

	m["services/svc/service.yaml"].Data = []byte(strings.Replace(service, "{at}", "{list}", 1))
	if _, err := mustLoad(t, m).Bundle("a"); err == nil || !strings.Contains(err.Error(), "setting list is a list, and an address takes text") {
		t.Errorf("Bundle(a): %v", err)
	}
}

// A probe that is filled in for a host makes no other host differ, and a change of it alone differs by
// the one line of its service.
func TestHealthChanges(t *testing.T) {
	m := small("keys: [k]\n", nil)
	l := loader()
	was, err := l.Load(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	old := mustBundle(t, was, "a")

	m["services/svc/service.yaml"] = file("keys: [k]\nhealth: http://127.0.0.1/\nbefore: { command: 'true' }\n")
	now, err := l.Load(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	b := mustBundle(t, now, "a")
	want := []bundle.Change{{Action: bundle.Add, Kind: bundle.KindService, Name: "svc", Service: "svc"}}
	if diff := cmp.Diff(want, bundle.Diff(old.Manifest, b.Manifest)); diff != "" || b.Digest == old.Digest {
		t.Errorf("Diff (-want +got):\n%s", diff)
	}
}
