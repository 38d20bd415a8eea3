package child_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bellhop/internal/child"
)

func TestEnvHasNoSecrets(t *testing.T) {
	for _, name := range []string{
		"BELLHOP_PASSPHRASE", "BELLHOP_REPO_TOKEN", "BELLHOP_FORGE_TOKEN", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN",
		"VAULT_TOKEN", "CREDENTIALS_DIRECTORY", "SSH_PASS", "GIT_ASKPASS", "GIT_SSH_COMMAND",
	} {
		t.Setenv(name, "hunter2")
	}
	t.Setenv("LC_TIME", "C")
	t.Setenv("NIX_PATH", "nixpkgs")

	for _, own := range [][]string{nil, child.Editor, child.SSH, child.Plugin} {
		env := child.Env(own)
		if all := strings.Join(env, "\n"); strings.Contains(all, "hunter2") {
			t.Errorf("Env(%v) passes a secret on:\n%s", own, all)
		}
		for _, want := range []string{"LC_TIME=C", "NIX_PATH=nixpkgs", "PATH=" + os.Getenv("PATH")} {
			if !slices.Contains(env, want) {
				t.Errorf("Env(%v) lacks %s", own, want)
			}
		}
	}
	if env := child.Git(t.Context(), ".", "version").Env; strings.Contains(strings.Join(env, "\n"), "hunter2") {
		t.Errorf("git is given a secret: %v", env)
	}
}

// TestGitRunsNoProgramOfTheRepository plants, in a repository's own configuration, all that git
// runs while it reads.
func TestGitRunsNoProgramOfTheRepository(t *testing.T) {
	dir := t.TempDir()
	ran := filepath.Join(dir, "ran")
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho \"$0 $*\" >>"+ran+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	repo := filepath.Join(dir, "repo")
	plain := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-c", "user.name=c", "-c", "user.email=c@example.com"}, args...)...)
		cmd.Dir = repo
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	if err := os.Mkdir(repo, 0o755); err != nil {
		t.Fatal(err)
	}
	plain("init", "-q")
	if err := os.WriteFile(filepath.Join(repo, "f"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	plain("add", "f")
	plain("commit", "-qm", "first")
	for _, key := range []string{"core.fsmonitor", "core.pager", "diff.external", "core.alternateRefsCommand", "core.sshCommand"} {
		plain("config", key, program)
	}
	for key, value := range map[string]string{
		"remote.origin.url": "ext::" + program, "remote.origin.promisor": "true", "protocol.ext.allow": "always",
		"extensions.partialClone": "origin", "core.repositoryFormatVersion": "1",
	} {
		plain("config", key, value)
	}
	os.Remove(ran) // while it was planted it may have run

	for _, args := range [][]string{
		{"ls-files", "--stage", "-z"},
		{"ls-files", "-o", "-c", "--exclude-standard"},
		{"ls-tree", "-r", "HEAD"},
		{"rev-parse", "--show-toplevel"},
		{"cat-file", "blob", "HEAD:f"},
		{"cat-file", "-e", "1234567890123456789012345678901234567890"}, // a promised object would be fetched
		{"log", "--oneline"},
		{"config", "--get", "user.name"},
	} {
		_, err := child.Git(context.Background(), repo, args...).Output()
		if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
			t.Fatalf("git %v: %v", args, err)
		}
	}
	if out, err := os.ReadFile(ran); err == nil {
		t.Errorf("git ran what the repository named:\n%s", out)
	}
}
