package secrets_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"bellhop/secrets"

	"bellhop/secrets/agefile/agetest"
)

func names(t *testing.T, r secrets.Rules, file string) []string {
	t.Helper()
	readers, err := r.Readers(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, rd := range readers {
		out = append(out, rd.Name)
	}
	return out
}

func TestMostSpecificRule(t *testing.T) {
	a, b, c := agetest.New(t), agetest.New(t), agetest.New(t)
	r := secrets.Rules{
		Names: map[string][]string{"a": {a.Pub.String()}, "b": {b.Pub.String()}, "c": {c.Pub.String()}, "all": {"a", "b", "c"}, "ab": {a.Pub.String(), b.Pub.String()}},
		Rules: []secrets.Rule{
			{Pattern: "secrets/**", Readers: []string{"all"}},
			{Pattern: "secrets/web/*", Readers: []string{"ab"}},
			{Pattern: "secrets/web/db", Readers: []string{"b", "b", b.Pub.String()}},
			{Pattern: "secrets/*.key", Readers: []string{"c"}},
			{Pattern: "secrets/vpn/", Readers: []string{"a"}},
		},
	}
	for i := range 2 { // order must not matter
		for file, want := range map[string][]string{
			"secrets/x.age":          {"a", "b", "c"},
			"secrets/deep/er/x.age":  {"a", "b", "c"},
			"secrets/web/x.age":      {"a", "b"},
			"secrets/web/db.age":     {"b"},
			"secrets/tls.key.age":    {"c"},
			"secrets/vpn/a/b/wg.age": {"a"},
		} {
			if got := names(t, r, file); !slices.Equal(got, want) {
				t.Errorf("Readers(%s), order %d = %v, want %v", file, i, got, want)
			}
		}
		slices.Reverse(r.Rules)
	}
	if _, err := r.Readers("other/x.age"); !errors.Is(err, secrets.ErrNoRule) {
		t.Errorf("Readers(no rule) = %v, want ErrNoRule", err)
	}
	r.Rules = nil
	if got := names(t, r, "secrets/x.age"); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("Readers without rules = %v, want everybody", got)
	}
}

func TestBadRules(t *testing.T) {
	a, q := agetest.New(t), agetest.NewHybrid(t)
	r := secrets.Rules{
		Names: map[string][]string{"a": {a.Pub.String()}, "q": {q.Pub.String()}, "loop": {"pool"}, "pool": {"loop"}, "key": {a.Priv}, "none": {}},
		Rules: []secrets.Rule{
			{Pattern: "secrets/1", Readers: []string{"cadye"}, File: "bellhop.yaml", Line: 1},
			{Pattern: "secrets/2", Readers: []string{"loop"}, File: "bellhop.yaml", Line: 2},
			{Pattern: "secrets/3", Readers: []string{"key"}, File: "bellhop.yaml", Line: 3},
			{Pattern: "secrets/4", Readers: []string{"a", "q"}, File: "bellhop.yaml", Line: 4},
			{Pattern: "secrets/[", Readers: []string{"a"}, File: "bellhop.yaml", Line: 5},
			{Pattern: "../x", Readers: []string{"a"}, File: "bellhop.yaml", Line: 6},
			{Pattern: "secrets/7", Readers: []string{"none"}, File: "bellhop.yaml", Line: 7},
			{Pattern: "secrets/ok", Readers: []string{"a"}, File: "bellhop.yaml", Line: 8},
		},
	}
	found := r.Check()
	if len(found) != 7 {
		t.Fatalf("Check found %d, want 7: %v", len(found), len(found))
	}
	for i, f := range found {
		if f.Line != i+1 || f.Refuses || strings.Contains(f.Message, a.Priv) {
			t.Errorf("finding %d is at line %d, or refuses, or quotes a key", i, f.Line)
		}
	}
	if found[3].Rule != secrets.Mixed || !strings.Contains(found[3].Message, "age-keygen -pq") {
		t.Errorf("mixed readers: %v, want the way out", found[3])
	}
}

func FuzzRules(f *testing.F) {
	f.Add("secrets/web/*", "secrets/**", "secrets/web/x.age")
	f.Add("**/**/**/**/**", "[", "a/b/c/d/e")
	f.Add("secrets/\\*", "?", "")
	f.Fuzz(func(t *testing.T, p, q, file string) {
		if len(p)+len(q)+len(file) > 4096 {
			return
		}
		r := secrets.Rules{Rules: []secrets.Rule{{Pattern: p}, {Pattern: q}}}
		r.Check()
		x, err := r.Find(file)
		r.Rules[0], r.Rules[1] = r.Rules[1], r.Rules[0]
		y, err2 := r.Find(file)
		if (err == nil) != (err2 == nil) {
			t.Fatalf("Find(%q) depends on the order of %q and %q", file, p, q)
		}
		if err == nil && (x == nil || y == nil) {
			t.Fatalf("Find(%q) gave no rule and no error", file)
		}
	})
}
