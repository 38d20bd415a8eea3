package fleet_test

import (
	"strings"
	"testing"

	"bellhop/internal/fleet"
)

// The folders services/ and hosts/ of a repo whose hosts were NixOS before bellhop came hold modules of NixOS. They
// are Nix's, and services beside them are services.
func TestNixModulesAreNoServices(t *testing.T) {
	files := nixosFleet("{ keys: true }")
	for name, text := range map[string]string{
		"hosts/b.nix":                         "{ }",
		"hosts/a/configuration.nix":           "{ }",
		"services/default.nix":                "{ }",
		"services/blog.nix":                   "{ }",
		"services/bot/default.nix":            "{ }",
		"services/bot/settings.toml":          "x = 1",
		"services/web/shell.nix":              "{ }",
		"services/keys/default.nix":           "{ }",
		"services/bot/sub/deeper/default.nix": "{ }",
	} {
		files[name] = file(text)
	}
	l := (&nixWorld{results: map[string]*fleet.HostSystem{"a": {Path: system1}}}).loader()
	f, err := l.Load(t.Context(), files)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range f.Warnings {
		if !strings.Contains(w.Error(), "services/web: ") {
			t.Errorf("%v", w)
		}
	}
	if b, err := f.Bundle("a"); err != nil || len(b.Keys) != 1 {
		t.Errorf("the service with service.yaml and default.nix: %v, %+v", err, b)
	}

	files["bellhop.yaml"] = file(strings.Replace(string(files["bellhop.yaml"].Data), "keys: true", "bot: true", 1))
	if _, err := l.Load(t.Context(), files); err == nil || !strings.Contains(err.Error(), `no service "bot"`) {
		t.Errorf("a module of NixOS as a service: %v", err)
	}

	files["services/bot/bot.service"] = file(plainUnit)
	if _, err := l.Load(t.Context(), files); err == nil || !strings.Contains(err.Error(), "services/bot/settings.toml: bellhop does not know") {
		t.Errorf("a folder with a unit is a service: %v", err)
	}
	files["hosts/a/notes"] = file("x")
	delete(files, "hosts/a/configuration.nix")
	if _, err := l.Load(t.Context(), files); err == nil || !strings.Contains(err.Error(), "hosts/a: hosts/ holds NAME.yaml") {
		t.Errorf("a folder below hosts without Nix files: %v", err)
	}
}
