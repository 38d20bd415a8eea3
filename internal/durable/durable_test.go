package durable_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"bellhop/internal/durable"
)

func TestWriteReplacesAndKeepsTheMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := durable.Write(path, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, path, "one", 0o600)

	if err := os.Chmod(path, 0o664); err != nil {
		t.Fatal(err)
	}
	if err := durable.Write(path, []byte("two"), 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, path, "two", 0o664)
}

func TestWriteRefusesWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(target, []byte("x"), 0o644), os.Chmod(target, 0o644), os.Symlink(target, link)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, dir} {
		if err := durable.Write(path, []byte("y"), 0o644); err == nil {
			t.Errorf("Write(%s) replaced what is no regular file", path)
		}
	}
	want(t, target, "x", 0o644)
}

// TestWriteNewHasOneWinner lets many make one file at once.
func TestWriteNewHasOneWinner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	var made atomic.Int32
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			switch err := durable.WriteNew(path, fmt.Appendf(nil, "%02d", i), 0o600); {
			case err == nil:
				made.Add(1)
			case !errors.Is(err, fs.ErrExist):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 {
		t.Errorf("%d of 32 made the file, want 1", made.Load())
	}
	if b, err := os.ReadFile(path); err != nil || len(b) != 2 {
		t.Errorf("the file holds %q, %v", b, err)
	}
	want(t, path, "", 0o600)
}

// want compares a file, and looks that no other was left beside it.
func want(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != mode {
		t.Errorf("mode of %s is %v, want %v", path, info.Mode().Perm(), mode)
	}
	if b, _ := os.ReadFile(path); content != "" && string(b) != content {
		t.Errorf("%s holds %q, want %q", path, b, content)
	}
	hidden, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
	if len(hidden) > 0 {
		t.Errorf("left behind: %v", hidden)
	}
}

// What a killed writer left is overwritten, and every byte and name is synced.
func TestWriterBeside(t *testing.T) {
	dir := t.TempDir()
	path, left := filepath.Join(dir, "record"), filepath.Join(dir, "record.new")
	if err := os.WriteFile(left, []byte("torn, and longer than what comes"), 0o600); err != nil {
		t.Fatal(err)
	}

	var synced []string
	w := durable.Writer{Beside: "record.new", Sync: func(f *os.File) error {
		synced = append(synced, f.Name())
		return nil
	}}
	if err := w.Write(path, []byte("whole"), 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, path, "whole", 0o600)
	if _, err := os.Lstat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is there after the write: %v", left, err)
	}
	if len(synced) != 2 || synced[1] != dir {
		t.Errorf("synced %q, want the file and then %s", synced, dir)
	}
}

func TestWriteProvenKeepsWhatStoodWhenTheProofFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "copy")
	if err := durable.Write(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}

	bad := errors.New("it does not open")
	err := durable.Writer{}.WriteProven(path, []byte("new"), 0o600, func(temp string) error {
		stands, _ := os.ReadFile(path)
		if comes, err := os.ReadFile(temp); string(comes) != "new" || string(stands) != "old" {
			t.Errorf("while it is proven %q stands and %q comes, %v", stands, comes, err)
		}
		return bad
	})
	if !errors.Is(err, bad) {
		t.Errorf("WriteProven = %v, want %v", err, bad)
	}
	want(t, path, "old", 0o600)
}

// A file that was written beside its place by its owner gets its name, its mode, and nothing else.
func TestNameReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, []byte("one"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.CreateTemp(dir, "coming-*")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("two"); err != nil {
		t.Fatal(err)
	}

	if err := durable.Name(f, path, 0o444); err != nil {
		t.Fatal(err)
	}
	want(t, path, "two", 0o444)
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("the folder has %v, want the file alone", entries)
	}
	if err := durable.Name(f, filepath.Join(dir, "none", "f"), 0o444); err == nil {
		t.Error("a folder that is not there took a file")
	}
}
