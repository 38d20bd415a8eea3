package precommit_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"filippo.io/age"

	"bellhop/secrets"
	"bellhop/secrets/agefile"
	"bellhop/secrets/precommit"
)

func gitRepo(t *testing.T) (dir string, git func(args ...string) string) {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	dir = t.TempDir()
	for k, v := range map[string]string{"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"} {
		t.Setenv(k, v)
	}
	git = func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	git("init", "-q")
	return dir, git
}

func writeFile(t *testing.T, name string, data []byte, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, mode); err != nil {
		t.Fatal(err)
	}
}

// sealedValue is a private key made on the spot, and an age file sealed for it.
func sealedValue(t *testing.T) (key string, file []byte) {
	t.Helper()
	k, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	to, err := agefile.ParseRecipient(k.Recipient().String())
	if err != nil {
		t.Fatal(err)
	}
	file, err = agefile.Seal([]byte("v"), []agefile.Recipient{to}, agefile.SealOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return k.String(), file
}

func TestStagedTree(t *testing.T) {
	dir, git := gitRepo(t)
	key, sealed := sealedValue(t)
	if tree, err := precommit.Committed(dir, "HEAD"); tree != nil || err != nil {
		t.Errorf("Committed before the first commit = %v, %v, want nil", tree, err)
	}
	writeFile(t, filepath.Join(dir, "conf/bellhop.yaml"), []byte("network: x\n"), 0o644)
	writeFile(t, filepath.Join(dir, "conf/secrets/ünï x.age"), sealed, 0o644)
	writeFile(t, filepath.Join(dir, "outside/key"), []byte(key), 0o644)
	git("add", ".")
	conf := filepath.Join(dir, "conf")
	tree, err := precommit.Staged(conf)
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(tree, "bellhop.yaml", "secrets/ünï x.age"); err != nil {
		t.Error(err)
	}
	if got := secrets.Verify(t.Context(), tree, secrets.Check{Staged: true}); secrets.Refused(got) {
		t.Errorf("Verify of what is staged = %v", got)
	}
	git("commit", "-qm", "one")
	head, err := precommit.Committed(conf, "HEAD")
	if err != nil || head == nil {
		t.Fatal(head, err)
	}
	writeFile(t, filepath.Join(conf, "secrets/plain"), []byte("hunter2"), 0o644)
	tree, err = precommit.Staged(conf)
	if err != nil {
		t.Fatal(err)
	}
	if got := secrets.CheckPush(t.Context(), head, tree, secrets.Rules{}); len(got) != 0 {
		t.Errorf("what is not staged was found: %v", got)
	}
	git("add", ".")
	if tree, err = precommit.Staged(conf); err != nil {
		t.Fatal(err)
	}
	if got := secrets.CheckPush(t.Context(), head, tree, secrets.Rules{}); len(got) != 1 || got[0].File != "secrets/plain" || got[0].Rule != secrets.Plaintext {
		t.Errorf("CheckPush(HEAD, staged) = %v, want secrets/plain", got)
	}
}

func TestHook(t *testing.T) {
	dir, git := gitRepo(t)
	conf := filepath.Join(dir, "it's conf")
	writeFile(t, filepath.Join(conf, "x"), []byte("1"), 0o644)
	bin := t.TempDir()
	log := filepath.Join(bin, "log")
	writeFile(t, filepath.Join(bin, "bellhop"), []byte("#!/bin/sh\npwd > "+log+"\necho \"$@\" >> "+log+"\ngit ls-files >> "+log+"\n[ ! -e "+bin+"/refuse ]\n"), 0o755)
	hook, err := precommit.Install(conf)
	if err != nil || !hook.Fresh {
		t.Fatal(hook, err)
	}
	file := hook.Path
	git("add", ".")
	commit := func() error {
		cmd := exec.Command("git", "commit", "-qm", "x", "--allow-empty")
		cmd.Dir = dir
		return cmd.Run()
	}
	if err := commit(); err == nil {
		t.Error("a commit passed though bellhop is not there")
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	if err := commit(); err != nil {
		t.Errorf("a commit that verify accepts: %v", err)
	}
	if said, _ := os.ReadFile(log); !strings.HasPrefix(string(said), conf+"\nsecret verify --staged\nx\n") {
		t.Errorf("the hook ran %q, want verify --staged in the config's folder", said)
	}
	// A linked worktree tells its hooks of its own git folder and index.
	tree := filepath.Join(t.TempDir(), "linked")
	git("worktree", "add", "-q", tree)
	git("-C", tree, "commit", "-qm", "x", "--allow-empty")
	if said, _ := os.ReadFile(log); !strings.HasPrefix(string(said), filepath.Join(tree, "it's conf")+"\nsecret verify --staged\nx\n") {
		t.Errorf("in a linked worktree the hook ran %q", said)
	}
	git("-C", tree, "commit", "-aqm", "x", "--allow-empty")
	writeFile(t, filepath.Join(bin, "refuse"), nil, 0o644)
	if err := commit(); err == nil {
		t.Error("a commit passed that verify refused")
	}
	if _, err := precommit.Install(conf); err != nil {
		t.Errorf("installing twice: %v", err)
	}
	writeFile(t, file, []byte("#!/bin/sh\nmake lint\n"), 0o755)
	if _, err := precommit.Install(conf); !errors.Is(err, precommit.ErrOtherHook) {
		t.Errorf("Install over another hook = %v, want ErrOtherHook", err)
	}
	if b, _ := os.ReadFile(file); !strings.Contains(string(b), "make lint") {
		t.Error("another hook was overwritten")
	}
}

// A path that no fs.FS can have is named where it would be a secret, and stops nothing elsewhere;
// once it is renamed, the commit that still has it is no bar to the next.
func TestStagedPathThatIsNotUTF8(t *testing.T) {
	dir, git := gitRepo(t)
	writeFile(t, filepath.Join(dir, "bellhop.yaml"), []byte("network: x\n"), 0o644)
	writeFile(t, filepath.Join(dir, "elsewhere\xff"), []byte("x"), 0o644)
	git("add", ".")
	if _, err := precommit.Staged(dir); err != nil {
		t.Errorf("Staged with a path elsewhere that is not UTF-8: %v", err)
	}
	odd := filepath.Join(dir, "secrets", "odd\xff")
	if err := os.MkdirAll(filepath.Dir(odd), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, odd, []byte("x"), 0o644)
	git("add", ".")
	if _, err := precommit.Staged(dir); err == nil || !strings.Contains(err.Error(), `"secrets/odd\xff"`) {
		t.Errorf("Staged with a path that is not UTF-8: %v, want it named", err)
	}
	git("commit", "-qm", "odd")
	git("mv", odd, "fine")
	if _, err := precommit.Staged(dir); err != nil {
		t.Errorf("Staged once it is renamed: %v", err)
	}
	head, err := precommit.Committed(dir, "HEAD")
	if err != nil {
		t.Fatalf("Committed: %v, want the paths that can be read", err)
	}
	if _, err := fs.Stat(head, "bellhop.yaml"); err != nil {
		t.Error(err)
	}
}
