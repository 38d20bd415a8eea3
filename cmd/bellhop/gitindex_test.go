package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/fstest"
)

func TestStagedTree(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{"a", "d/b", "d/e/c", "x.y/z"} {
		p := filepath.Join(dir, "config", f)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(f), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}} {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	at := filepath.Join(dir, "config")
	// what stands beside the index does not count
	if err := os.WriteFile(filepath.Join(at, "d", "untracked"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	tree, err := stagedTree(at)
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(tree, "a", "d/b", "d/e/c", "x.y/z"); err != nil {
		t.Error(err)
	}
	if _, err := tree.Open("d/untracked"); err == nil {
		t.Error("an untracked file is in the staged tree")
	}
	if old, err := headTree(at); old != nil || err != nil {
		t.Errorf("headTree before the first commit = %v, %v, want nil, nil", old, err)
	}
}
