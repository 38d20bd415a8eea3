package fleet_test

import (
	"maps"
	"strings"
	"testing"

	"bellhop/internal/fleet"
)

func varsTree(groups, hosts string, tmpl string) map[string]string {
	return map[string]string{
		"bellhop.yaml": "network: n\nall: { vars: { domain: example.org, ttl: 0300, list: [a, b] }, services: { svc: true } }\ngroups:\n" + groups +
			"hosts:\n  a: { address: a, host_key: " + hostKey("a") + ", tags: [x, y]" + hosts + " }\n",
		"hosts/b.yaml":                    "address: b\nhost_key: " + hostKey("b") + "\ntags: [x]\nvars: { wg_ip: 10.8.0.2, domain: b.example.org }\n",
		"services/svc/svc.service":        plainUnit,
		"services/svc/files/etc/out.tmpl": tmpl,
	}
}

func TestVars(t *testing.T) {
	const groups = "  x: { vars: { region: eu, wg_ip: none } }\n  y: { vars: { region: eu, up: true } }\n"
	const tmpl = `{{ .Vars.domain }} {{ .Vars.ttl }} {{ .Host.Vars.region }} {{ join "," .Vars.list }}{{ range .Fleet.Hosts }} {{ .Name }}={{ .Vars.wg_ip }}{{ end }}`
	f := mustLoad(t, tree(varsTree(groups, ", vars: { region: us }", tmpl)))

	for host, want := range map[string]string{
		"a": "example.org 0300 us a,b a=none b=10.8.0.2",
		"b": "b.example.org 0300 eu a,b a=none b=10.8.0.2",
	} {
		if got := fileText(t, mustBundle(t, f, host), "/etc/out"); got != want {
			t.Errorf("on %s %q, want %q", host, got, want)
		}
	}
}

// What a template sees prints as its name, by itself and by every verb: its fields hold addresses of
// memory, and a file of them would differ at each load.
func TestViewsPrintAsTheirNames(t *testing.T) {
	for tmpl, want := range map[string]string{
		"{{ . }} {{ .Host }} {{ .Fleet }}":                                  "bellhop a n",
		"{{ .Fleet.Hosts }} {{ range .Fleet.Hosts }}{{ . }} {{ end }}":      "[a b] a b ",
		`{{ print .Host }} {{ println .Fleet }}`:                            "a n\n",
		`{{ printf "%v %+v %#v %s %q" .Host .Host .Fleet .Fleet . }}`:       "a a n n bellhop",
		`{{ $h := .Fleet.Host "b" }}{{ $h }} {{ html $h }} {{ js .Fleet }}`: "b b n",
	} {
		f := mustLoad(t, tree(varsTree("  x: {}\n  y: {}\n", "", tmpl)))
		if got := fileText(t, mustBundle(t, f, "a"), "/etc/out"); got != want {
			t.Errorf("%s gives %q, want %q", tmpl, got, want)
		}
	}
}

// A field that is not there is told without Go's names of types.
func TestFieldThatIsNotThere(t *testing.T) {
	for tmpl, want := range map[string]string{
		"{{ .Port }}":        "at <.Port>: there is no .Port; known are .Settings, .Vars, .Host and .Fleet",
		"{{ .Host.Adress }}": "at <.Host.Adress>: a host has no field Adress",
		"{{ range .Fleet.Hosts }}{{ .Ip }}{{ end }}": "at <.Ip>: a host has no field Ip",
		"{{ .Fleet.Machines }}":                      "at <.Fleet.Machines>: the fleet has no field Machines",
		"{{ .Vars.domain.name }}":                    "at <.Vars.domain.name>: no field name: the value before it is neither a mapping nor a host",
		"{{ .Fleet.Hosts.Name }}":                    "no field Name: the value before it is neither",
	} {
		_, err := loader().Load(t.Context(), tree(varsTree("  x: {}\n  y: {}\n", "", tmpl)))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", tmpl, err, want)
		}
	}
}

func TestVarsProblems(t *testing.T) {
	for name, c := range map[string]struct{ groups, hosts, tmpl, want string }{
		"groups clash": {"  x: { vars: { r: eu } }\n  y: { vars: { r: us } }\n", "", "", "bellhop.yaml:5:16: groups x and y set the variable r differently, and host a has both tags"},
		"spelled apart": {"  x: { vars: { r: 077 } }\n  y: { vars: { r: 63 } }\n", "", "",
			"groups x and y set the variable r differently"},
		"no such variable": {"  x: {}\n  y: {}\n", "", "{{ .Vars.wg_ip }}", `services/svc/files/etc/out.tmpl:1:9: service svc on host a: at <.Vars.wg_ip>: map has no entry for key "wg_ip"`},
		"null":             {"  x: { vars: { r: } }\n  y: {}\n", "", "", "bellhop.yaml:4:"},
		"twice":            {"  x: { vars: { r: 1, r: 2 } }\n  y: {}\n", "", "", `"r" stands here a second time`},
	} {
		if _, err := loader().Load(t.Context(), tree(varsTree(c.groups, c.hosts, c.tmpl))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", name, err, c.want)
		}
	}
	if _, err := loader().Load(t.Context(), tree(varsTree("  x: { vars: { r: eu } }\n  y: { vars: { r: us } }\n", ", vars: { r: asia }", "{{ .Vars.r }}"))); err != nil {
		t.Errorf("the host's own line does not decide: %v", err)
	}
}

// A variable of one host changes the file that names it, on that host and where others read it.
func TestVarsChange(t *testing.T) {
	files := varsTree("  x: {}\n  y: {}\n", ", vars: { wg_ip: 10.8.0.1 }", "{{ range .Fleet.Hosts }}{{ .Vars.wg_ip }} {{ end }}")
	l := loader()
	before, err := l.Load(t.Context(), tree(files))
	if err != nil {
		t.Fatal(err)
	}

	changed := maps.Clone(files)
	changed["hosts/b.yaml"] = strings.Replace(files["hosts/b.yaml"], "10.8.0.2", "10.8.0.3", 1)
	after, err := l.Load(t.Context(), tree(changed))
	if err != nil {
		t.Fatal(err)
	}

	text := func(f *fleet.Fleet) string { return fileText(t, mustBundle(t, f, "a"), "/etc/out") }
	if text(before) != "10.8.0.1 10.8.0.2 " || text(after) != "10.8.0.1 10.8.0.3 " {
		t.Errorf("before %q, after %q", text(before), text(after))
	}
}
