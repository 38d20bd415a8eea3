package agefile_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bellhop/secrets/agefile"
	"bellhop/secrets/agefile/agetest"
	"filippo.io/age"
	"filippo.io/age/plugin"
)

// pluginDir holds this test binary under a plugin's name.
func pluginDir(t *testing.T, names ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, n := range names {
		if err := os.Symlink(self, filepath.Join(dir, "age-plugin-"+n)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestPlugin(t *testing.T) {
	dir := pluginDir(t, "known")
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("BELLHOP_TEST_CANARY", "hunter2") // the plugin fails if it sees this
	key := writeFile(t, filepath.Join(t.TempDir(), "id"), []byte(plugin.EncodeIdentity("known", []byte("x"))+"\n"), 0o600)
	rec, err := agefile.ParseRecipient(plugin.EncodeRecipient("known", []byte("x")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := agefile.Seal([]byte("v"), []agefile.Recipient{rec}, agefile.SealOptions{}); err == nil {
		t.Error("Seal ran a plugin that nobody allowed")
	}
	other := agetest.New(t)
	refused := func(p agefile.Plugins) {
		t.Helper()
		ids, err := agefile.Sources{Files: []string{key, other.File}, Plugins: p}.Load()
		if err != nil {
			t.Fatal(err)
		}
		if v, err := ids.Open("f", agetest.Seal(t, "v", other.Pub)); err != nil || string(v) != "v" {
			t.Errorf("%+v: a plugin that is not run keeps another key from opening: %v", p.Allow, err)
		}
		if _, err := ids.Open("f", agetest.Seal(t, "v", agetest.New(t).Pub)); agetest.Class(err) != agefile.PluginMissing || !strings.Contains(err.Error(), "age-plugin-known") {
			t.Errorf("%+v: Open = %v, want plugin-missing", p.Allow, err)
		}
		if err := ids.Unlock(); err == nil {
			t.Errorf("%+v: Unlock does not tell of the plugin", p.Allow)
		}
	}
	refused(agefile.Plugins{})
	for name, allowed := range map[string]agefile.Plugins{
		"on PATH":          {Path: true},
		"by absolute path": {Allow: []string{filepath.Join(dir, "age-plugin-known")}},
	} {
		data, err := agefile.Seal([]byte("v"), []agefile.Recipient{rec, other.Pub}, agefile.SealOptions{Plugins: allowed})
		if err != nil {
			t.Fatalf("%s: Seal: %v", name, err)
		}
		ids, err := agefile.Sources{Files: []string{key}, Plugins: allowed}.Load()
		if err != nil {
			t.Fatalf("%s: Load: %v", name, err)
		}
		if v, err := ids.Open("f", data); err != nil || string(v) != "v" {
			t.Errorf("%s: Open = %d bytes, %v", name, len(v), err)
		}
		if _, err := ids.Open("f", agetest.Seal(t, "v", other.Pub)); agetest.Class(err) != agefile.NoMatch {
			t.Errorf("%s: Open of another's file = %v, want no-match", name, err)
		}
		if strings.Contains(ids.String(), "AGE-PLUGIN") {
			t.Errorf("%s: the plugin's key is printed", name)
		}
		if au, err := agefile.Readers(data); err != nil || !au.Known || au.Stanzas != 2 {
			t.Errorf("%s: Readers = %+v, %v", name, au, err)
		}
	}
	for _, bad := range []agefile.Plugins{{Allow: []string{"age-plugin-known"}}, {Allow: []string{filepath.Join(dir, "age-plugin-other")}}} {
		refused(bad)
	}
}

// TestPluginHangs: neither a plugin nor any other identity can hold an Open beyond its limit.
func TestPluginHangs(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "age-plugin-hang"), []byte("#!/bin/sh\nexec sleep 600\n"), 0o755)
	key := writeFile(t, filepath.Join(dir, "id"), []byte(plugin.EncodeIdentity("hang", []byte("x"))+"\n"), 0o600)
	ids, err := agefile.Sources{Files: []string{key}, Limit: 200 * time.Millisecond,
		Plugins: agefile.Plugins{Allow: []string{filepath.Join(dir, "age-plugin-hang")}}}.Load()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := ids.Open("f", agetest.Seal(t, "v", agetest.New(t).Pub)); agetest.Class(err) != agefile.TimedOut || time.Since(start) > 5*time.Minute {
		t.Errorf("Open = %v after %v, want timed-out", err, time.Since(start))
	}
}

func TestPluginThatDies(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "age-plugin-dies"), []byte("#!/bin/sh\nprintf -- '-> error internal\\naHVudGVy\\n'\nexit 1\n"), 0o755)
	key := writeFile(t, filepath.Join(dir, "id"), []byte(plugin.EncodeIdentity("dies", []byte("x"))+"\n"), 0o600)
	ids, err := agefile.Sources{Files: []string{key}, Plugins: agefile.Plugins{Allow: []string{filepath.Join(dir, "age-plugin-dies")}}}.Load()
	if err != nil {
		t.Fatal(err)
	}
	_, err = ids.Open("f", agetest.Seal(t, "v", agetest.New(t).Pub))
	var oe *agefile.OpenError
	if !errors.As(err, &oe) || oe.Class != agefile.PluginFailed || !strings.Contains(err.Error(), "age-plugin-dies") {
		t.Errorf("Open = %v, want an error that names the plugin", err)
	}
	if errors.Is(err, age.ErrIncorrectIdentity) {
		t.Error("a plugin that died counts as one that did not match")
	}
}
