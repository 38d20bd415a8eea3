package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// planted makes a config as another user might put it above a folder of ours, and goes there.
func planted(t *testing.T) (config, below string) {
	t.Helper()
	config = filepath.Join(t.TempDir(), "config")
	below = filepath.Join(config, "ours", "deep")
	for _, dir := range []string{below, filepath.Join(config, "secrets", "deep"), filepath.Join(config, "hosts")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"bellhop.yaml": "network: x\nhosts: {}\n", "hosts/a.yaml": "address: 127.0.0.1\n"} {
		if err := os.WriteFile(filepath.Join(config, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("GIT_CONFIG_GLOBAL", filepath.Join(t.TempDir(), "gitconfig"))
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	t.Chdir(below)
	return config, below
}

// run gives the exit code of a command line, and what it printed.
func run(t *testing.T, stdin string, args ...string) (int, string) {
	t.Helper()
	var out bytes.Buffer
	e := &Env{Args: args, Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &out, Getenv: func(string) string { return "" }}
	return e.Run(t.Context()), out.String()
}

func TestSearchEndsAtTheWorkTree(t *testing.T) {
	config, below := planted(t)
	if got, err := configDir(""); got != config || err != nil {
		t.Fatalf("configDir = %q, %v, want %s", got, err, config)
	}

	for _, top := range []string{below, filepath.Dir(below)} { // a work tree, then a linked one
		mark := filepath.Join(top, ".git")
		if err := os.WriteFile(mark, []byte("gitdir: elsewhere\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := configDir(""); err == nil {
			t.Errorf("configDir below the work tree %s = %q, beyond its top", top, got)
		}
		os.Remove(mark)
	}
}

// A config under nearly the right name is told by it, and with what to type.
func TestMisnamedConfigIsTold(t *testing.T) {
	for _, name := range []string{"bellhop.yml", "Bellhop.yaml"} {
		config := t.TempDir()
		below := filepath.Join(config, "services")
		if err := os.Mkdir(below, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(config, name), []byte("network: n\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Chdir(below)

		for _, args := range [][]string{{"check"}, {"check", config}, {"secret", "list", "-C", config}} {
			code, out := run(t, "", args...)
			want := filepath.Join(config, name) + " is not read: this file is called bellhop.yaml"
			if code == 0 || !strings.Contains(out, want) || !strings.Contains(out, "hint: mv ") {
				t.Errorf("%s: %v = %d %q, want %q", name, args, code, out, want)
			}
		}
	}
}

func TestConfigThatOthersCanWriteIsRefused(t *testing.T) {
	config, _ := planted(t)
	for _, part := range []string{".", "bellhop.yaml", "secrets", "secrets/deep", "hosts", "hosts/a.yaml"} {
		path := filepath.Join(config, part)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		os.Chmod(path, info.Mode().Perm()|0o002)
		for _, args := range [][]string{{"secret", "set", "x"}, {"secret", "set", "x", "-C", config}, {"secret", "list"}, {"host", "add", "b", "root@127.0.0.1"}} {
			code, out := run(t, "hunter2-hunter2", args...)
			if code != exitError || !strings.Contains(out, "can be written to by others") || !strings.Contains(out, "safe.directory") {
				t.Errorf("%v with %s open to others: exit %d, %s", args, part, code, out)
			}
		}
		os.Chmod(path, info.Mode().Perm())
	}
	if left, _ := filepath.Glob(filepath.Join(config, "secrets", "*.age")); len(left) > 0 {
		t.Errorf("sealed for another's readers: %v", left)
	}
}

func TestConfigOfAnotherUserIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it gives files to another user")
	}
	config, _ := planted(t)
	for _, part := range []string{".", "bellhop.yaml", "secrets", "hosts/a.yaml"} {
		os.Chown(filepath.Join(config, part), 65534, -1)
		if code, out := run(t, "hunter2-hunter2", "secret", "set", "x"); code != exitError || !strings.Contains(out, "belongs to") {
			t.Errorf("secret set with another's %s: exit %d, %s", part, code, out)
		}
		os.Chown(filepath.Join(config, part), 0, -1)
	}

	os.Chown(filepath.Join(config, "bellhop.yaml"), 65534, -1)
	t.Setenv("SUDO_UID", "65534")
	if got, err := configDir(""); got != config || err != nil {
		t.Errorf("configDir of who typed sudo = %q, %v", got, err)
	}
	t.Setenv("SUDO_UID", "")
	if err := os.WriteFile(os.Getenv("GIT_CONFIG_GLOBAL"), []byte("[safe]\n\tdirectory = "+config+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := configDir(""); got != config || err != nil {
		t.Errorf("configDir of a safe.directory = %q, %v", got, err)
	}
}

func TestCommandsDoNotGoWhereAPlantedConfigSays(t *testing.T) {
	config, _ := planted(t)
	os.Chmod(config, 0o777)
	for _, args := range [][]string{{"ssh", "a", "true"}, {"exec", "--on", "a", "--", "true"}, {"logs", "a"}, {"doctor"}, {"hook", "install"}} {
		if code, out := run(t, "", args...); code != exitError || !strings.Contains(out, "can be written to by others") {
			t.Errorf("%v below a planted config: exit %d, %s", args, code, out)
		}
	}
}
