package preview_test

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/preview"
)

// nixConfig is a repo with a NixOS host n.
func nixConfig(edit map[string]string) fs.FS {
	all := map[string]string{
		"bellhop.yaml": "network: lab\nhosts:\n  n: { address: 10.0.0.3, host_key: " + pin + ", nixos: \".#n\" }\n",
		"flake.nix":    "{ outputs = { self }: { }; }\n", "services/web/service.yaml": "", "services/web/web.service": "", "services/web/files/etc/web.conf": "",
		"services/web/files/etc/web.env.tmpl": "",
	}
	for name, text := range edit {
		all[name] = text
	}
	return config(all)
}

const (
	head = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	base = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

func storePath(letter, name string) string {
	return "/nix/store/" + strings.Repeat(letter, 32) + "-nixos-system-" + name
}

// nixPlan is the plan of a request whose systems are what of says, by commit.
func nixPlan(t *testing.T, edit map[string]string, of map[string]*fleet.HostSystem) *preview.Plan {
	t.Helper()
	m := preview.Maker{Loader: loader}
	if of != nil {
		m.Systems = func(_ context.Context, _ fs.FS, commit string, hosts []*fleet.Host) map[string]*fleet.HostSystem {
			if len(hosts) != 1 || of[commit] == nil {
				t.Fatalf("systems of %d hosts of commit %q", len(hosts), commit)
			}
			return map[string]*fleet.HostSystem{"n": of[commit]}
		}
	}
	p, err := m.Make(t.Context(), preview.Commit{ID: base, Tree: nixConfig(nil)}, preview.Commit{ID: head, Tree: nixConfig(edit)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A system that could not be told for a reason of the deployer's makes a plan that is made again.
func TestPlanWithoutASystemIsMadeAgain(t *testing.T) {
	there := &fleet.HostSystem{Path: storePath("1", "n")}
	later := &fleet.HostSystem{Err: &fleet.SystemError{Text: "not now", Later: true}}
	broken := &fleet.HostSystem{Err: errors.New("undefined variable")}
	for _, c := range []struct {
		base, head *fleet.HostSystem
		again      string
	}{{there, there, ""}, {there, later, "not now"}, {later, there, "not now"}, {there, broken, ""}} {
		if p := nixPlan(t, nil, map[string]*fleet.HostSystem{base: c.base, head: c.head}); p.Again != c.again {
			t.Errorf("base %v, head %v: again for %q, want %q", c.base.Err, c.head.Err, p.Again, c.again)
		}
	}
}

// NixOS systems are not planned, unless somebody evaluates them: then a plan says that a system changes, and no word that came of
// the evaluation, which can read more than whoever reads the plan.
func TestNixOSOfARequest(t *testing.T) {
	if text := comment(nixPlan(t, nil, nil)); !strings.Contains(text, "\nn\n    its NixOS system is not planned") {
		t.Errorf("without an evaluation:\n%s", text)
	}

	before := &fleet.HostSystem{Path: storePath("a", "n"), Keys: []fleet.SystemKey{{Key: bundle.Key{Name: "db", Path: "/run/keys/db"}, File: "secrets/db.age"}}}
	p := nixPlan(t, nil, map[string]*fleet.HostSystem{base: before, head: before})
	if text := comment(p); !strings.Contains(text, "0 of 1 host would change.") || strings.Contains(text, "not planned") {
		t.Errorf("the same system:\n%s", text)
	}

	after := &fleet.HostSystem{Path: storePath("c", "hunter2"), Keys: []fleet.SystemKey{
		{Key: bundle.Key{Name: "db", Path: "/run/keys/db"}, File: "secrets/db.age"}, {Key: bundle.Key{Name: "hunter2", Path: "/run/keys/hunter2"}}}}
	p = nixPlan(t, map[string]string{"secrets/db.age": age("two")}, map[string]*fleet.HostSystem{base: before, head: after})
	text := comment(p)
	for _, want := range []string{"\n    ~ system nixos\n", "\n    + key of deployment.keys\n", "\n    ~ key of deployment.keys (its files or its declaration)\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("the comment lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "hunter2") || strings.Contains(text, "/nix/store") {
		t.Errorf("a word of the evaluation is in the comment:\n%s", text)
	}
	if strings.Contains(comment(p), "~ key db") {
		t.Errorf("the name of an evaluated key is shown:\n%s", text)
	}
}

func TestNixOSThatCannotBeEvaluated(t *testing.T) {
	good, bad := &fleet.HostSystem{Path: storePath("a", "n")}, &fleet.HostSystem{Err: errors.New("it can't be evaluated")}
	if text := comment(nixPlan(t, nil, map[string]*fleet.HostSystem{base: good, head: bad})); !strings.Contains(text, "\nn\n    can't be planned: it can't be evaluated\n") {
		t.Errorf("the head:\n%s", text)
	}
	if text := comment(nixPlan(t, nil, map[string]*fleet.HostSystem{base: bad, head: good})); !strings.Contains(text, "can't be compared with what is deployed: it can't be evaluated\n") {
		t.Errorf("what is deployed:\n%s", text)
	}
}

// Whoever opens a request says which keys there are, so a key that meets another one is not called by its name either.
func TestEvaluatedKeyThatMeetsAnother(t *testing.T) {
	key := func(name, path string) fleet.SystemKey {
		return fleet.SystemKey{Key: bundle.Key{Name: name, Path: path}}
	}
	good := &fleet.HostSystem{Path: storePath("a", "n")}
	bad := &fleet.HostSystem{Path: storePath("a", "n"), Keys: []fleet.SystemKey{key("db", "/run/keys/db"), key("hunter2", "/run/keys/db")}}
	const same = "a key of deployment.keys has the name or the path of another key\n"
	for want, systems := range map[string]map[string]*fleet.HostSystem{
		"\n    can't be planned: " + same:                        {base: good, head: bad},
		"\n    can't be compared with what is deployed: " + same: {base: bad, head: good},
	} {
		if text := comment(nixPlan(t, nil, systems)); !strings.Contains(text, want) || strings.Contains(text, "hunter2") {
			t.Errorf("the comment lacks %q, or names the key:\n%s", want, text)
		}
	}
}
