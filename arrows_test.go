// The layering as a test: which package may import which. A new import is welcome; it is listed
// here on purpose, in the same commit.
package bellhop_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// arrows lists, per package, the packages of this module that its code (not its tests) imports.
var arrows = map[string][]string{
	"cmd/bellhop":              {"deploy", "deploy/actions", "deploy/bell", "deploy/commits", "deploy/drift", "deploy/follow", "deploy/keys", "deploy/plan", "deploy/routes", "deploy/testbranch", "gitsync", "internal/adopt", "internal/bundle", "internal/causes", "internal/child", "internal/confine", "internal/doctor", "internal/durable", "internal/fleet", "internal/fleet/inventory", "internal/forge", "internal/history", "internal/history/deliveries", "internal/history/results", "internal/history/services", "internal/history/stops", "internal/host/helper", "internal/host/real", "internal/images", "internal/lab", "internal/link", "internal/mask", "internal/metrics", "internal/newhost", "internal/newrepo", "internal/nixfleet", "internal/nixhosts", "internal/nixos", "internal/notify", "internal/owner", "internal/page", "internal/plain", "internal/prefixed", "internal/privatekey", "internal/registry", "internal/requests", "internal/runplans", "internal/screen", "internal/trace", "internal/unitlog", "internal/worktree", "internal/yamledit", "secrets", "secrets/agefile", "secrets/edit", "secrets/precommit", "secrets/privatefile", "server"},
	"cmd/bellhop-host":         {"internal/host/helper", "internal/host/real"},
	"server":                   {"internal/history/deliveries", "internal/plain", "server/admission"},
	"server/admission":         {},
	"secrets":                  {"internal/durable", "internal/limits", "internal/plain", "internal/privatekey", "secrets/agefile", "secrets/edit"},
	"secrets/agefile":          {"internal/child", "internal/plain", "secrets/privatefile"},
	"secrets/agefile/agetest":  {"secrets/agefile"},
	"secrets/edit":             {"internal/child"},
	"secrets/precommit":        {"internal/child", "internal/dirfile", "internal/durable", "internal/plain", "secrets"},
	"secrets/privatefile":      {"internal/durable"},
	"gitsync":                  {"gitsync/bare", "gitsync/objects", "gitsync/protocol", "gitsync/refs", "internal/dirfile", "internal/plain"},
	"gitsync/protocol":         {"gitsync/bare", "gitsync/objects", "gitsync/refs", "internal/plain"},
	"gitsync/bare":             {"gitsync/objects", "internal/durable"},
	"gitsync/objects":          {"internal/durable", "internal/limits"},
	"gitsync/refs":             {"internal/plain"},
	"deploy":                   {"deploy/actions", "deploy/bell", "deploy/commits", "deploy/contact", "deploy/drift", "deploy/follow", "deploy/hosts", "deploy/keys", "deploy/lines", "deploy/outcome", "deploy/plan", "deploy/repostate", "deploy/routes", "deploy/runlimit", "deploy/systems", "deploy/tally", "deploy/testbranch", "internal/bundle", "internal/fleet", "internal/history", "internal/history/services", "internal/history/stops", "internal/link", "internal/nixos", "internal/plain", "internal/push", "internal/trace"},
	"deploy/runlimit":          {"deploy/plan", "internal/push"},
	"deploy/tally":             {"deploy/plan", "internal/history", "internal/history/results", "internal/plain"},
	"deploy/hosts":             {"internal/history", "internal/history/services", "internal/plain"},
	"deploy/routes":            {"deploy/hosts", "internal/bundle", "internal/fleet", "internal/history", "internal/link", "internal/plain", "internal/push"},
	"deploy/commits":           {"gitsync", "internal/bundle", "internal/fleet", "internal/history", "internal/history/stops", "internal/plain", "internal/push"},
	"deploy/actions":           {"deploy/commits", "deploy/contact", "deploy/keys", "deploy/routes", "internal/bundle", "internal/history", "internal/link", "internal/plain", "internal/push"},
	"deploy/contact":           {"deploy/commits", "deploy/hosts", "deploy/routes", "internal/fleet", "internal/history", "internal/plain", "internal/push"},
	"deploy/drift":             {"deploy/contact", "deploy/keys", "deploy/routes", "internal/bundle", "internal/bundle/wire", "internal/fleet", "internal/history", "internal/history/looks", "internal/plain", "internal/privatekey", "internal/push", "internal/textdiff"},
	"deploy/keys":              {"deploy/commits", "deploy/contact", "deploy/routes", "internal/bundle", "internal/bundle/wire", "internal/fleet", "internal/history", "internal/link", "internal/plain", "internal/push"},
	"deploy/plan":              {"deploy/commits", "deploy/contact", "deploy/follow", "deploy/hosts", "deploy/routes", "deploy/testbranch", "gitsync", "internal/bundle", "internal/fleet", "internal/history", "internal/history/results", "internal/history/services", "internal/history/stops", "internal/nixos", "internal/plain", "internal/plandigest", "internal/push", "internal/rollout", "internal/textdiff"},
	"deploy/testbranch":        {"deploy/commits", "internal/fleet", "internal/plain"},
	"deploy/lines":             {"deploy/contact", "deploy/hosts", "deploy/plan", "deploy/routes", "internal/history", "internal/link", "internal/push"},
	"deploy/systems":           {"deploy/contact", "deploy/plan", "deploy/routes", "internal/fleet", "internal/link", "internal/nixos", "internal/push"},
	"deploy/outcome":           {"deploy/commits", "deploy/contact", "deploy/hosts", "deploy/plan", "internal/bundle", "internal/history", "internal/history/results", "internal/link", "internal/plain", "internal/push"},
	"deploy/bell":              {"deploy/commits", "deploy/follow", "deploy/plan", "internal/history", "internal/history/stops"},
	"deploy/follow":            {"internal/history", "internal/plain"},
	"deploy/repostate":         {"internal/fleet", "internal/history"},
	"internal/fleet/problem":   {"internal/plain", "internal/privatekey"},
	"internal/fleet/tree":      {"internal/archive", "internal/bundle", "internal/fleet/problem", "internal/limits", "internal/plain"},
	"internal/fleet/scalar":    {},
	"internal/fleet/yaml":      {"internal/fleet/problem", "internal/fleet/scalar", "internal/fleet/tree"},
	"internal/fleet/syntax":    {"internal/bundle", "internal/fleet/problem", "internal/fleet/scalar", "internal/fleet/yaml", "internal/unitfile"},
	"internal/fleet/template":  {"internal/fleet/problem", "internal/fleet/scalar", "internal/fleet/syntax", "internal/fleet/tree"},
	"internal/fleet/compose":   {"internal/bundle", "internal/fleet/problem"},
	"internal/fleet/inventory": {"internal/fleet/problem", "internal/fleet/scalar", "internal/fleet/service", "internal/fleet/syntax", "internal/fleet/tree", "internal/fleet/yaml", "internal/registry/login", "internal/rollout"},
	"internal/registry/login":  {},
	"internal/registry":        {"internal/plain", "internal/registry/login"},
	"internal/images":          {"internal/bundle", "internal/fleet", "internal/host/containers", "internal/link", "internal/registry", "internal/registry/login", "internal/unitfile"},
	"internal/nameshape":       {},
	"internal/prefixed":        {},
	"internal/adopt":           {"internal/bundle", "internal/fleet/compose", "internal/plain", "internal/privatekey"},
	"internal/archive":         {},
	"internal/causes":          {},
	"internal/requests":        {"gitsync", "internal/fleet", "internal/forge", "internal/plain", "internal/preview"},
	"internal/rollout":         {},
	"internal/runplans":        {"internal/durable", "internal/plain"},
	"internal/screen":          {},
	"internal/fleet/service":   {"internal/archive", "internal/bundle", "internal/fleet/compose", "internal/fleet/problem", "internal/fleet/scalar", "internal/fleet/syntax", "internal/fleet/template", "internal/fleet/tree", "internal/fleet/yaml", "internal/unitfile"},
	"internal/fleet/render":    {"internal/bundle", "internal/fleet/compose", "internal/fleet/problem", "internal/fleet/scalar", "internal/fleet/service", "internal/fleet/syntax", "internal/fleet/template", "internal/fleet/tree", "internal/registry/login", "internal/unitfile"},
	"internal/fleet/wire":      {"internal/bundle", "internal/fleet/inventory", "internal/fleet/problem", "internal/fleet/render", "internal/fleet/service", "internal/fleet/tree"},
	"internal/fleet":           {"internal/bundle", "internal/confine", "internal/fleet/inventory", "internal/fleet/problem", "internal/fleet/render", "internal/fleet/service", "internal/fleet/syntax", "internal/fleet/template", "internal/fleet/tree", "internal/fleet/wire", "internal/fleet/yaml", "internal/unitfile"},
	"internal/trace":           {"internal/plain"},
	"internal/simulator":       {},
	"internal/forge":           {"internal/forge/rest", "internal/history", "internal/history/deliveries", "internal/history/outbox", "internal/history/stops", "internal/plain"},
	"internal/forge/fakeforge": {},
	"internal/preview":         {"internal/bundle", "internal/fleet", "internal/plain", "internal/plandigest"},
	"internal/plandigest":      {"internal/bundle", "internal/fleet"},
	"internal/unitfile":        {},
	"internal/unitlog":         {"internal/bundle"},
	"internal/limits":          {},
	"internal/confine":         {},
	"internal/bundle":          {"internal/nameshape", "internal/plain"},
	"internal/bundle/wire":     {"internal/bundle", "internal/nameshape", "internal/plain"},
	"internal/link":            {"internal/bundle", "internal/child", "internal/owner", "internal/plain"},
	"internal/newhost":         {"internal/child", "internal/link", "internal/plain"},
	"internal/mask":            {"internal/plain"},
	"internal/metrics":         {"internal/history"},
	"internal/newrepo":         {},
	"internal/nixfleet":        {"internal/child", "internal/nixos", "internal/plain"},
	"internal/nixhosts":        {"internal/bundle", "internal/child", "internal/fleet", "internal/nixos", "internal/nixos/nixtree"},
	"internal/nixos":           {"internal/child", "internal/durable", "internal/nixos/nixtree", "internal/plain"},
	"internal/nixos/nixtree":   {},
	"internal/nixos/nixtest":   {"internal/nixos"},
	"internal/notify":          {"internal/history", "internal/history/outbox", "internal/mask", "internal/plain"},
	"internal/page":            {"internal/bundle", "internal/history", "internal/history/deliveries", "internal/history/looks", "internal/history/results", "internal/history/services", "internal/history/stops"},
	"internal/plain":           {},
	"internal/privatekey":      {},
	"internal/child":           {},
	"internal/worktree":        {"internal/child", "internal/dirfile", "internal/limits", "internal/plain"},
	"internal/yamledit":        {},
	"internal/dirfile":         {},
	"internal/doctor":          {"internal/history", "internal/history/deliveries", "internal/newhost"},
	"internal/durable":         {},
	"internal/forge/rest":      {"internal/mask", "internal/plain"},
	"internal/owner":           {},
	"internal/push":            {"internal/archive", "internal/bundle", "internal/bundle/wire", "internal/durable", "internal/fleet", "internal/link", "internal/plain", "internal/trace"},
	"internal/host":            {"internal/bundle", "internal/host/before", "internal/host/blame", "internal/host/check", "internal/host/confirm", "internal/host/containers", "internal/host/health", "internal/host/keyfiles", "internal/host/keyunits", "internal/host/machine", "internal/host/nixsystem", "internal/host/owned", "internal/host/plan", "internal/host/quadlets", "internal/host/rootless", "internal/host/runs", "internal/host/stacks", "internal/host/stamps", "internal/host/state", "internal/host/undo", "internal/unitfile"},
	"internal/host/keyunits":   {"internal/bundle", "internal/host/blame", "internal/host/machine", "internal/host/state"},
	"internal/host/restart":    {"internal/bundle", "internal/host/blame", "internal/host/check", "internal/host/containers", "internal/host/health", "internal/host/keyfiles", "internal/host/machine", "internal/host/state"},
	"internal/host/stamps":     {"internal/host/owned", "internal/host/plan", "internal/host/state"},
	"internal/host/undo":       {"internal/bundle", "internal/host/blame", "internal/host/containers", "internal/host/keyfiles", "internal/host/machine", "internal/host/nixsystem", "internal/host/owned", "internal/host/quadlets", "internal/host/stacks", "internal/host/stamps", "internal/host/state", "internal/host/usersystemd"},
	"internal/host/quadlets":   {"internal/bundle", "internal/host/containers", "internal/host/plan", "internal/host/stacks", "internal/host/state"},
	"internal/host/rootless":   {"internal/bundle", "internal/host/blame", "internal/host/check", "internal/host/containers", "internal/host/machine", "internal/host/owned", "internal/host/plan", "internal/host/state", "internal/host/usersystemd"},
	"internal/host/stacks":     {"internal/host/containers", "internal/host/state"},
	"internal/host/helper":     {"internal/bundle", "internal/bundle/wire", "internal/host", "internal/host/check", "internal/host/confirm", "internal/host/keyfiles", "internal/host/look", "internal/host/machine", "internal/host/nixsystem", "internal/host/owned", "internal/host/plan", "internal/host/restart", "internal/host/state"},
	"internal/host/look":       {"internal/bundle", "internal/bundle/wire", "internal/host/confirm", "internal/host/containers", "internal/host/keyfiles", "internal/host/machine", "internal/host/nixsystem", "internal/host/owned", "internal/host/state", "internal/plain"},
	"internal/host/plan":       {"internal/bundle", "internal/host/check", "internal/host/keyfiles", "internal/host/machine", "internal/host/nixsystem", "internal/host/owned", "internal/host/packages", "internal/host/state", "internal/unitfile"},
	"internal/host/nixsystem":  {"internal/bundle", "internal/host/check", "internal/host/command", "internal/host/health", "internal/host/machine", "internal/host/state"},
	"internal/host/check":      {"internal/archive", "internal/bundle", "internal/nameshape"},
	"internal/host/containers": {"internal/bundle", "internal/host/machine", "internal/host/owned", "internal/plain", "internal/unitfile"},
	"internal/host/confirm":    {},
	"internal/host/keyfiles":   {"internal/bundle", "internal/durable", "internal/host/owned", "internal/host/state", "internal/mask", "internal/nameshape"},
	"internal/host/health":     {"internal/bundle", "internal/host/machine"},
	"internal/host/probes":     {"internal/bundle", "internal/host/command", "internal/host/machine"},
	"internal/host/command":    {"internal/host/machine"},
	"internal/host/before":     {"internal/bundle", "internal/host/command", "internal/host/machine"},
	"internal/host/machine":    {"internal/bundle", "internal/host/owned", "internal/host/packages"},
	"internal/host/state":      {"internal/bundle", "internal/durable", "internal/host/check", "internal/host/machine", "internal/host/owned", "internal/host/packages", "internal/host/runs"},
	"internal/host/owned":      {"internal/bundle"},
	"internal/host/packages":   {"internal/archive", "internal/bundle"},
	"internal/host/runs":       {"internal/bundle"},
	"internal/host/systemd":    {"internal/bundle", "internal/host/machine", "internal/nameshape"},
	"internal/host/keys":       {"internal/bundle", "internal/durable", "internal/host/machine"},
	"internal/host/real":       {"internal/bundle", "internal/host/keys", "internal/host/machine", "internal/host/probes", "internal/host/systemd", "internal/host/usersystemd", "internal/nameshape"},

	"internal/history":             {"internal/bundle", "internal/history/deliveries", "internal/history/generations", "internal/history/hosttable", "internal/history/looks", "internal/history/manifests", "internal/history/null", "internal/history/openruns", "internal/history/outbox", "internal/history/results", "internal/history/runcache", "internal/history/runlist", "internal/history/services", "internal/history/states", "internal/history/stops", "internal/history/store"},
	"internal/history/runlist":     {"internal/history/null", "internal/history/results", "internal/history/runcache", "internal/history/states", "internal/history/store"},
	"internal/history/states":      {"internal/bundle"},
	"internal/history/runcache":    {},
	"internal/history/deliveries":  {"internal/history/store"},
	"internal/history/generations": {"internal/bundle", "internal/history/packedrows", "internal/history/store"},
	"internal/history/hosttable":   {"internal/history/store"},
	"internal/history/looks":       {"internal/bundle", "internal/history/hosttable"},
	"internal/history/manifests":   {"internal/bundle", "internal/history/store"},
	"internal/history/null":        {"internal/history/store"},
	"internal/history/openruns":    {"internal/bundle", "internal/history/packedrows", "internal/history/store"},
	"internal/history/outbox":      {"internal/history/store"},
	"internal/history/packedrows":  {"internal/history/store"},
	"internal/history/results":     {"internal/bundle", "internal/history/null", "internal/history/store"},
	"internal/history/services":    {"internal/bundle", "internal/history/hosttable", "internal/history/null", "internal/history/store"},
	"internal/history/stops":       {"internal/bundle", "internal/history/hosttable", "internal/history/null", "internal/history/store"},
	"internal/history/store":       {},
	"internal/host/blame":          {"internal/bundle", "internal/host/containers", "internal/host/health", "internal/host/machine", "internal/mask"},

	"internal/host/usersystemd": {"internal/bundle", "internal/host/machine"},
	"internal/lab":              {"internal/bundle", "internal/host", "internal/host/helper", "internal/host/machine", "internal/host/owned", "internal/host/usersystemd", "internal/lab/port", "internal/lab/systemd", "internal/link", "internal/newhost"},
	"internal/lab/canary":       {},
	"internal/lab/port":         {},
	"internal/lab/systemd":      {"internal/bundle", "internal/host/machine"},
	"internal/lab/conformance":  {"internal/bundle", "internal/host/machine"},
	"internal/textdiff":         {},
}

func TestArrows(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := map[string]bool{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var pkg struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		room := strings.TrimPrefix(pkg.ImportPath, "bellhop/")
		if strings.HasPrefix(room, "e2e") || room == "bellhop" {
			continue // tests of the whole program
		}
		seen[room] = true
		allowed, listed := arrows[room]
		if !listed {
			t.Errorf("package %s is not listed: add it to arrows", room)
		}
		for _, imp := range pkg.Imports {
			if to, ok := strings.CutPrefix(imp, "bellhop/"); ok && !slices.Contains(allowed, to) {
				t.Errorf("new arrow %s -> %s: add it to arrows on purpose, or turn the dependency around", room, to)
			}
		}
	}
	for _, room := range slices.Sorted(maps.Keys(arrows)) {
		if !seen[room] {
			t.Errorf("package %s is listed in arrows and is not there", room)
		}
	}
}

var update = flag.Bool("update", false, "write the table of packages in CONTRIBUTING.md anew")

// The table of packages in CONTRIBUTING.md says what arrows and the package comments say.
func TestContributingListsPackages(t *testing.T) {
	const begin, end = "<!-- packages: go test -run TestContributing -update . -->\n", "<!-- end of packages -->\n"
	page, err := os.ReadFile("CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(page), begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("CONTRIBUTING.md has no table between %q and %q", begin, end)
	}

	want := before + begin + packageTable(t) + end + after
	if string(page) == want {
		return
	}
	if !*update {
		t.Fatal("CONTRIBUTING.md lists other packages or imports than the code: go test -run TestContributing -update .")
	}
	if err := os.WriteFile("CONTRIBUTING.md", []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// packageTable has a row for each package: its name, what it is for, what it imports.
func packageTable(t *testing.T) string {
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}}\t{{.Doc}}", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	docs := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, doc, _ := strings.Cut(strings.TrimSpace(line), "\t")
		docs[strings.TrimPrefix(path, "bellhop/")] = doc
	}

	var b strings.Builder
	b.WriteString("| package | what it is for | imports |\n| --- | --- | --- |\n")
	for _, pkg := range slices.Sorted(maps.Keys(arrows)) {
		doc := docs[pkg]
		for _, word := range []string{"Package " + path.Base(pkg) + " ", "Command " + path.Base(pkg) + " "} {
			doc = strings.TrimPrefix(doc, word)
		}
		imports := slices.Sorted(slices.Values(arrows[pkg]))
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", pkg, doc, strings.Join(imports, ", "))
	}
	return b.String()
}
