// The house as a test: which room may import which. A new arrow is welcome; it is drawn
// here on purpose, in the same commit.
package bellhop_test

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// arrows lists, per room, the rooms that its code (not its tests) imports.
var arrows = map[string][]string{
	"cmd/bellhop":              {"deploy", "gitsync", "internal/bundle", "internal/child", "internal/confine", "internal/durable", "internal/fleet", "internal/history", "internal/host", "internal/host/real", "internal/lab", "internal/link", "internal/owner", "internal/plain", "internal/privatekey", "internal/worktree", "secrets", "server"},
	"cmd/bellhop-host":         {"internal/host", "internal/host/real"},
	"server":                   {"deploy", "internal/fleet", "internal/history", "internal/plain", "internal/privatekey"},
	"secrets":                  {"internal/child", "internal/durable", "internal/limits", "internal/owner", "internal/plain", "internal/privatekey"},
	"gitsync":                  {"gitsync/objects", "internal/durable", "internal/plain", "internal/privatekey"},
	"gitsync/objects":          {"internal/limits"},
	"deploy":                   {"gitsync", "internal/bundle", "internal/fleet", "internal/history", "internal/link", "internal/plain", "internal/privatekey", "internal/push"},
	"internal/fleet":           {"internal/bundle", "internal/confine", "internal/plain", "internal/privatekey", "internal/limits", "internal/unitfile"},
	"internal/unitfile":        {},
	"internal/limits":          {},
	"internal/confine":         {},
	"internal/bundle":          {"internal/plain"},
	"internal/link":            {"internal/bundle", "internal/child", "internal/owner", "internal/plain"},
	"internal/plain":           {},
	"internal/privatekey":      {},
	"internal/child":           {},
	"internal/worktree":        {"internal/child", "internal/limits", "internal/plain"},
	"internal/durable":         {},
	"internal/owner":           {},
	"internal/push":            {"internal/bundle", "internal/fleet", "internal/link", "internal/plain"},
	"internal/host":            {"internal/bundle", "internal/host/owned", "internal/host/packages", "internal/host/runs", "internal/unitfile"},
	"internal/host/owned":      {"internal/bundle"},
	"internal/host/packages":   {"internal/bundle"},
	"internal/host/runs":       {"internal/bundle"},
	"internal/host/systemd":    {"internal/bundle", "internal/host"},
	"internal/host/keys":       {"internal/bundle", "internal/host"},
	"internal/host/real":       {"internal/bundle", "internal/host", "internal/host/keys", "internal/host/systemd"},
	"internal/history":         {"internal/bundle"},
	"internal/lab":             {"gitsync", "internal/bundle", "internal/host", "internal/host/owned", "internal/link", "secrets"},
	"internal/lab/conformance": {"internal/bundle", "internal/host"},
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
			continue // tests of the whole house
		}
		seen[room] = true
		allowed, listed := arrows[room]
		if !listed {
			t.Errorf("room %s is not in the picture: add it to arrows", room)
		}
		for _, imp := range pkg.Imports {
			if to, ok := strings.CutPrefix(imp, "bellhop/"); ok && !slices.Contains(allowed, to) {
				t.Errorf("new arrow %s -> %s: add it to arrows on purpose, or turn the dependency around", room, to)
			}
		}
	}
	for _, room := range slices.Sorted(maps.Keys(arrows)) {
		if !seen[room] {
			t.Errorf("room %s is in the picture and not in the house", room)
		}
	}
}
