package bellhop_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"bellhop/internal/fleet"
	"bellhop/internal/fleet/render"
	"bellhop/internal/history"
)

var block = regexp.MustCompile("(?ms)^```(yaml|ini)\n(.*?)^```")

// What docs/repo.md shows is a config repo that loads.
func TestRepoDocLoads(t *testing.T) {
	doc, err := os.ReadFile("docs/repo.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := block.FindAllStringSubmatch(string(doc), -1)
	if len(blocks) < 3 {
		t.Fatalf("docs/repo.md has %d blocks, want bellhop.yaml, service.yaml and a unit", len(blocks))
	}
	unit := "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
	tree := fstest.MapFS{}
	for name, content := range map[string]string{
		"bellhop.yaml":                                  blocks[0][2],
		"services/withinbot/service.yaml":               blocks[1][2],
		"services/withinbot/withinbot.service":          blocks[2][2],
		"services/withinbot/files/etc/within/facts.txt": "a printer has no feelings\n",
		"services/withinbot/README.md":                  "ignored\n",
		"services/node-exporter/node-exporter.service":  unit,
		"services/oldbot/oldbot.service":                unit,
		"services/printerfacts/printerfacts.service":    unit,
		"services/printerfacts/service.yaml":            "settings: { port: 3000 }\n",
		"secrets/withinbot.env.age":                     "age-encryption.org/v1\n",
		"secrets/notify/ops.age":                        "age-encryption.org/v1\n",
		"secrets/ghcr.age":                              "age-encryption.org/v1\n",
	} {
		tree[name] = &fstest.MapFile{Data: []byte(content), Mode: 0o644}
	}
	f, err := (&fleet.Loader{}).Load(t.Context(), tree)
	if err != nil {
		t.Fatalf("docs/repo.md does not load:\n%v", err)
	}
	b, err := f.Bundle("chrysalis")
	if err != nil {
		t.Fatalf("docs/repo.md, bundle of chrysalis:\n%v", err)
	}
	if len(b.Keys) != 1 || len(b.Packages) != 1 || b.Keys[0].Mode != 0o640 {
		t.Errorf("chrysalis should hold one key 0640 and one package: %+v %+v", b.Keys, b.Packages)
	}
}

// Every verb that a page names is one that bellhop has.
func TestDocsNameRealVerbs(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "bellhop")
	if out, err := exec.Command("go", "build", "-o", bin, "./cmd/bellhop").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	help := func(args ...string) string {
		out, err := exec.Command(bin, append(args, "--help")...).CombinedOutput()
		if err != nil {
			t.Fatalf("bellhop %v --help: %v\n%s", args, err, out)
		}
		return string(out)
	}
	verbs := help()
	named := regexp.MustCompile("(?m)(?:^    |`)bellhop ([a-z]+)(?: ([a-z]+))?")
	for _, page := range []string{"README.md", "docs/repo.md", "docs/secrets.md", "docs/operations.md", "docs/recover.md", "docs/security.md", "docs/promises.md", "docs/notify.md", "docs/from-docker.md", "docs/nixos.md", "docs/from-nixops.md", "docs/from-colmena.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(text), -1) {
			hidden := func() bool { return strings.Contains(help(m[1]), "  bellhop "+m[1]) }
			if !regexp.MustCompile(`(?m)^  `+m[1]+` `).MatchString(verbs) && !hidden() {
				t.Errorf("%s names `bellhop %s`, which is not there", page, m[1])
				continue
			}
			if group := m[1]; strings.Contains(" secret key host hook webhook notify ", " "+group+" ") && m[2] != "" {
				if !regexp.MustCompile(`(?m)^  ` + m[2] + ` `).MatchString(help(group)) {
					t.Errorf("%s names `bellhop %s %s`, which is not there", page, group, m[2])
				}
			}
		}
	}
}

// The operations page has every flag of serve and every state.
func TestOperationsDocIsWhole(t *testing.T) {
	page, err := os.ReadFile("docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "run", "./cmd/bellhop", "serve", "--help").CombinedOutput()
	if err != nil {
		t.Fatalf("bellhop serve --help: %v\n%s", err, out)
	}
	for _, m := range regexp.MustCompile(`(?m)^ +(?:-\w, )?(--[a-z-]+)`).FindAllStringSubmatch(string(out), -1) {
		if flag := m[1]; flag != "--help" && !strings.Contains(string(page), flag) {
			t.Errorf("docs/operations.md does not name serve's %s", flag)
		}
	}
	for _, state := range []history.State{history.Current, history.Behind, history.Deploying, history.Pending, history.Failed, history.RolledBack,
		history.Unconfirmed, history.Held, history.Refused, history.Released, history.Unknown, history.Never} {
		if !strings.Contains(string(page), "`"+string(state)+"`") {
			t.Errorf("docs/operations.md does not explain the state %s", state)
		}
	}
}

// Every module that go.mod asks for directly has its line in docs/dependencies.md.
func TestDependenciesHaveALine(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^\t(\S+) v\S+$`).FindAllStringSubmatch(string(mod), -1) {
		name := strings.TrimPrefix(m[1], "github.com/")
		if strings.HasPrefix(name, "golang.org/x/") {
			name = "golang.org/x/"
		}
		if short := strings.TrimSuffix(name, "/v6"); !strings.Contains(string(page), short) {
			t.Errorf("%s has no line in docs/dependencies.md", m[1])
		}
	}
}

// The table of units in docs/repo.md is the one in code.
func TestUnitTableInDocs(t *testing.T) {
	doc, err := os.ReadFile("docs/repo.md")
	if err != nil {
		t.Fatal(err)
	}
	want := "### Units\n\n| case | rule |\n| --- | --- |\n"
	for _, row := range render.UnitTable {
		want += "| " + row.Case + " | " + row.Rule + " |\n"
	}
	if !strings.Contains(string(doc), want+"\n") {
		t.Errorf("docs/repo.md does not have the table of render.UnitTable, which is\n%s", want)
	}
}

// Each row of the table of units names the function that decides it, which is there.
func TestUnitTableNamesFunctions(t *testing.T) {
	for _, row := range render.UnitTable {
		name := strings.Split(row.By, ".")
		pattern := `(?m)^func ` + name[len(name)-1] + `\(`
		if len(name) == 3 {
			pattern = `(?m)^func \(\w* ?\*?` + name[1] + `\) ` + name[2] + `\(`
		}

		dirs, _ := filepath.Glob("internal/" + name[0])
		deeper, _ := filepath.Glob("internal/*/" + name[0])
		found := false
		for _, dir := range append(dirs, deeper...) {
			files, _ := filepath.Glob(dir + "/*.go")
			for _, file := range files {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				found = found || regexp.MustCompile(pattern).Match(text)
			}
		}
		if !found {
			t.Errorf("%q is decided by %s, which is nowhere", row.Case, row.By)
		}
	}
}

var testName = regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)`")

// Every test that the security model and the promises name is there: a row whose test was renamed or
// removed promises nothing.
func TestDocsNameRealTests(t *testing.T) {
	sources := testSources(t)
	for page, least := range map[string]int{"docs/security.md": 40, "docs/promises.md": 40} {
		doc, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		names := testName.FindAllStringSubmatch(string(doc), -1)
		if len(names) < least {
			t.Errorf("%s names %d tests, want one or more for each row", page, len(names))
		}
		for _, n := range names {
			if !strings.Contains(sources, "func "+n[1]+"(") {
				t.Errorf("%s names %s, which is no test", page, n[1])
			}
		}
	}
}

// testSources is the text of all tests.
func testSources(t *testing.T) string {
	t.Helper()
	var sources strings.Builder
	err := filepath.WalkDir(".", func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		src, err := os.ReadFile(path)
		sources.Write(src)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sources.String()
}

var promise = regexp.MustCompile(`(?m)^(?:## )?(\d+)\. (.+)$`)

// What the README promises is what docs/promises.md does, word for word, and each promise has tests: some
// that everybody can run, and for what hosts go through, some on real hosts.
func TestPromisesHaveTests(t *testing.T) {
	page, err := os.ReadFile("docs/promises.md")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(readme), "## What it promises")
	list, _, _ = strings.Cut(list, "\n## ")

	short := promise.FindAllString(list, -1)
	sections := strings.Split(string(page), "\n## ")[1:]
	if len(short) != 10 || len(sections) != len(short) {
		t.Fatalf("README.md has %d promises, docs/promises.md %d, want 10", len(short), len(sections))
	}
	for i, s := range sections {
		title, text, _ := strings.Cut(s, "\n")
		if title != short[i] {
			t.Errorf("docs/promises.md says %q, README.md %q", title, short[i])
		}
		if n := len(testName.FindAllString(text, -1)); n < 2 {
			t.Errorf("promise %q names %d tests", title, n)
		}
		if isOfHosts := i < 7; isOfHosts && !strings.Contains(text, "*`Test") {
			t.Errorf("promise %q names no test on real hosts", title)
		}
	}
}
