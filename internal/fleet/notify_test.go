package fleet_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bellhop/internal/fleet"
	"bellhop/internal/fleet/inventory"
)

const aged = "age-encryption.org/v1\n"

// notifying is a small tree with notify: at the end of bellhop.yaml, and an age file.
func notifying(text string) map[string]string {
	return map[string]string{
		"bellhop.yaml":       "network: n\nhosts:\n  a: { address: x, host_key: " + hostKey("a") + ", tags: [bots] }\nnotify:\n" + text,
		"secrets/ops.age":    aged,
		"secrets/broken.age": "version https://git-lfs.github.com/spec/v1\noid sha256:x\nsize 1\n",
	}
}

func TestNotify(t *testing.T) {
	f := mustLoad(t, tree(notifying("  ops: { source: secrets/ops.age }\n  bots:\n    source: secrets/ops.age\n    on: failed\n    hosts: '@bots'\n")))
	want := []inventory.Notify{
		{Name: "bots", Source: "secrets/ops.age", On: []string{"failed"}, Hosts: "@bots", Line: 6},
		{Name: "ops", Source: "secrets/ops.age", On: []string{"failed", "recovered", "away"}, Line: 5},
	}
	if diff := cmp.Diff(want, f.Notify); diff != "" {
		t.Error(diff)
	}
	if got := f.Secrets(); len(got) != 1 || got[0] != "secrets/ops.age" {
		t.Errorf("secrets in use: %q", got)
	}
}

// What is wrong with a target is told where it stands.
func TestNotifyProblems(t *testing.T) {
	for text, want := range map[string]string{
		"  ops: {}\n":                                                              "bellhop.yaml:5:3: notify: ops: source",
		"  ops: { source: ops.age }\n":                                             `bellhop.yaml:5:18: notify: ops: source "ops.age": want an age file, as in secrets/notify/ops.age`,
		"  ops: { source: secrets/../x.age }\n":                                    "want an age file",
		"  ops: { source: secrets/none.age }\n":                                    "notify: ops: no file secrets/none.age; `bellhop secret set` makes it",
		"  ops: { source: secrets/broken.age }\n":                                  "a git-lfs pointer",
		"  ops: { source: secrets/ops.age, on: [failed, recoverd] }\n":             `bellhop.yaml:5:48: notify: ops: on "recoverd": want failed, recovered, away, drift, paused; did you mean "recovered"?`,
		"  ops: { source: secrets/ops.age, on: [drifted] }\n":                      `on "drifted"`,
		"  ops: { source: secrets/ops.age, hosts: '@bot' }\n":                      `bellhop.yaml:5:42: notify: ops: no host fits "@bot"; did you mean "@bots"?`,
		"  ops: { source: secrets/ops.age, url: 'https://x' }\n":                   "url",
		"  -x: { source: secrets/ops.age }\n":                                      "bad name",
		"  ops: https://example.org/hook\n":                                        "bellhop.yaml:5:8",
		"  ops: { source: secrets/ops.age }\n  ops: { source: secrets/ops.age }\n": "ops",
	} {
		_, err := (&fleet.Loader{}).Load(t.Context(), tree(notifying(text)))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v\nwant %s", text, err, want)
		}
	}
}
