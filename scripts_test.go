package bellhop_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// scripts/e2e runs two halves beside each other: it fails when either fails, only then, and leaves nothing in TMPDIR.
func TestE2EScriptFailsWhenAHalfDoes(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("needs bash")
	}
	// The script is read here so that a change of it is one of the test's inputs, by which go test keeps its answers.
	if _, err := os.ReadFile("scripts/e2e"); err != nil {
		t.Fatal(err)
	}
	bin, tmp := t.TempDir(), t.TempDir()
	// A go command that runs nothing: the half of the rig's second lane is the one that has BELLHOP_RIG_LANE.
	fake := "#!/bin/sh\nif [ -n \"$BELLHOP_RIG_LANE\" ]; then echo second; exit \"$SECOND\"; fi\necho first; exit \"$FIRST\"\n"
	if err := os.WriteFile(filepath.Join(bin, "go"), []byte(fake), 0o755); err != nil {
		t.Fatal(err)
	}

	for _, halves := range []struct {
		first, second string
		fails         bool
	}{{"0", "0", false}, {"1", "0", true}, {"0", "1", true}, {"1", "1", true}} {
		cmd := exec.Command(bash, "scripts/e2e")
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "TMPDIR="+tmp, "BELLHOP_RIG_LANE=", "FIRST="+halves.first, "SECOND="+halves.second)
		out, err := cmd.CombinedOutput()
		if failed := err != nil; failed != halves.fails {
			t.Errorf("halves that end with %s and %s: %v\n%s", halves.first, halves.second, err, out)
		}
		if text := string(out); !strings.Contains(text, "first") || !strings.Contains(text, "second") {
			t.Errorf("the output lacks a half's words: %s", text)
		}
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
