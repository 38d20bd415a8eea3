package fleet_test

import (
	"strings"
	"testing"
)

// What editors and other systems do to YAML is taken, or told in one sentence.
func TestYAMLQuirks(t *testing.T) {
	host := "hosts:\n  a: { address: x, host_key: " + hostKey("a") + ", services: { svc: true } }\n"
	for name, c := range map[string]struct{ main, service, want string }{
		"plain":                 {"network: n\n" + host, "", ""},
		"%YAML":                 {"%YAML 1.2\n---\nnetwork: n\n" + host, "", ""},
		"%YAML 1.1":             {"%YAML 1.1\n---\nnetwork: n\n" + host, "", ""},
		"%YAML without ---":     {"%YAML 1.2\nnetwork: n\n" + host, "", "bellhop.yaml:1:1: "},
		"%TAG":                  {"%TAG ! tag:x,2000:\n---\nnetwork: n\n" + host, "", ""},
		"one document":          {"---\nnetwork: n\n" + host + "...\n", "", ""},
		"a comment document":    {"# a comment\n---\nnetwork: n\n" + host, "", ""},
		"two documents":         {"network: n\n" + host + "---\nnetwork: m\n", "", "a second document: one file holds one"},
		"an empty second":       {"network: n\n" + host + "---\n", "", ""},
		"BOM":                   {"\ufeffnetwork: n\n" + host, "", "bellhop.yaml:1:1: the file begins with a byte order mark; save it without one"},
		"BOM of a service":      {"network: n\n" + host, "\ufeffuser: svc\n", "services/svc/service.yaml:1:1: the file begins with a byte order mark"},
		"UTF-16":                {"\xff\xfen\x00e\x00", "", "bellhop.yaml:1:1: the file is UTF-16; save it as UTF-8"},
		"CRLF":                  {strings.ReplaceAll("network: n\n"+host, "\n", "\r\n"), "", ""},
		"a tab":                 {"network: n\nhosts:\n\ta: {}\n", "", "bellhop.yaml:3:1: a tab: YAML is indented with spaces"},
		"a tab after a key":     {"network:\tn\n" + host, "", ""},
		"a tab before a note":   {"network: n\t# note\n" + host, "", ""},
		"a key twice":           {"network: n\nnetwork: m\n" + host, "", `bellhop.yaml:2:1: "network" stands here a second time; first in line 1`},
		"a quoted key twice":    {"network: n\n\"network\": m\n" + host, "", `"network" stands here a second time`},
		"a merge":               {"network: n\nall: &a { user: root }\ngroups: { g: { <<: *a } }\n" + host, "", "<< is not supported: write it out, or use groups"},
		"anchor and alias":      {"network: &n n\nall: { vars: { name: *n } }\n" + host, "", ""},
		"no line end at last":   {"network: n\n" + strings.TrimSuffix(host, "\n"), "", ""},
		"blanks at line ends":   {"network: n  \n" + host + "   \n", "", ""},
		"nothing":               {"", "", "network is missing"},
		"comments alone":        {"# nothing\n", "", "network is missing"},
		"a list at the top":     {"- network: n\n", "", "bellhop.yaml:1:"},
		"text at the top":       {"network\n", "", "bellhop.yaml:1:1: "},
		"a control character":   {"network: n\x07\n" + host, "", "bellhop.yaml:"},
		"quotes that stay open": {"network: \"n\n" + host, "", "bellhop.yaml:"},
	} {
		_, err := loader().Load(t.Context(), small(c.service, map[string]string{"bellhop.yaml": c.main}))
		if c.main == "" {
			continue // an empty text takes the file away in small
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v\nwant %q", name, err, c.want)
		}
		if err != nil && strings.Count(err.Error(), "\n") > 5 {
			t.Errorf("%s: told in more than a few lines:\n%v", name, err)
		}
	}
}

// Line ends of Windows are line ends, in quoted text and blocks too.
func TestCRLFInText(t *testing.T) {
	for written, want := range map[string]string{
		"\"a\r\n    b\"\r\n":               "a b",
		"'a\r\n\r\n    b'\r\n":             "a\nb",
		"|\r\n    a\r\n    b\r\n":          "a\nb\n",
		">\r\n    a\r\n    b\r\n":          "a b\n",
		"plain\r\n    goes on\r\n":         "plain goes on",
		"\"a\\r\\nb\"\r\n":                 "a\r\nb",
		"0077\r\n":                         "0077",
		"x # note\r\n":                     "x",
		"[a,\r\n    b]\r\n":                "[a b]",
		"|-\r\n    #!/bin/sh\r\n    x\r\n": "#!/bin/sh\nx",
	} {
		got, err := renderOf(t, "settings:\r\n  x: "+written, "{ svc: true }", "{{ .Settings.x }}")
		if got != want || err != nil {
			t.Errorf("%q is %q, %v; want %q", written, got, err, want)
		}
	}
}

// A file with the other end of its name is told, not passed over.
func TestYMLNames(t *testing.T) {
	for name, c := range map[string]struct {
		more map[string]string
		want string
	}{
		"bellhop.yml":      {map[string]string{"bellhop.yaml": "", "bellhop.yml": "network: n\n"}, "bellhop.yml: this file is called bellhop.yaml"},
		"beside the right": {map[string]string{"bellhop.yml": "network: n\n"}, "bellhop.yml: this file is called bellhop.yaml, which is there too: remove one of them"},
		"hosts":            {map[string]string{"hosts/b.yml": "address: x\n"}, "hosts/b.yml: this file is called b.yaml"},
		"service":          {map[string]string{"services/svc/service.yml": "user: x\n"}, "services/svc/service.yml: this file is called service.yaml"},
		"Service.yaml":     {map[string]string{"services/svc/Service.yaml": "user: x\n", "services/svc/service.yaml": ""}, "services/svc/Service.yaml: this file is called service.yaml"},
		"Bellhop.yaml":     {map[string]string{"bellhop.yaml": "", "Bellhop.yaml": "network: n\n"}, "Bellhop.yaml: this file is called bellhop.yaml"},
	} {
		if _, err := loader().Load(t.Context(), small("", c.more)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", name, err, c.want)
		}
	}
}

// Linux tells names apart by case: both files are installed, and a checkout elsewhere is warned of.
func TestNamesThatDifferByCase(t *testing.T) {
	f := mustLoad(t, small("", map[string]string{"services/svc/files/etc/app/Conf": "one", "services/svc/files/etc/app/conf": "two"}))
	b := mustBundle(t, f, "a")
	if one, two := fileText(t, b, "/etc/app/Conf"), fileText(t, b, "/etc/app/conf"); one != "one" || two != "two" {
		t.Errorf("Conf is %q, conf is %q", one, two)
	}
	if len(f.Warnings) != 1 || !strings.Contains(f.Warnings[0].Message, "differs from Conf only by case: a checkout on macOS or Windows holds only one of them") {
		t.Errorf("warnings %v", f.Warnings)
	}
}
