package dirfile_test

import (
	"errors"
	"io"
	"io/fs"
	"testing"
	"testing/fstest"

	"bellhop/internal/dirfile"
)

// open opens the top of a tree of three files, counting how often it is listed.
func open(lists *int) *dirfile.File {
	tree := fstest.MapFS{"a": {}, "b": {}, "c": {}}
	return dirfile.Open(".",
		func() (fs.FileInfo, error) { return tree.Stat(".") },
		func() ([]fs.DirEntry, error) { *lists++; return tree.ReadDir(".") })
}

func TestReadDir(t *testing.T) {
	lists := 0
	f := open(&lists)
	if info, err := f.Stat(); err != nil || !info.IsDir() || lists != 0 {
		t.Errorf("Stat = %v, %v after %d lists, want a folder, not listed yet", info, err, lists)
	}

	for _, want := range []string{"ab", "c"} {
		got := ""
		entries, err := f.ReadDir(2)
		for _, e := range entries {
			got += e.Name()
		}
		if got != want || err != nil {
			t.Errorf("ReadDir(2) = %q, %v, want %q", got, err, want)
		}
	}
	if entries, err := f.ReadDir(2); len(entries) != 0 || err != io.EOF {
		t.Errorf("ReadDir(2) at the end = %v, %v, want io.EOF", entries, err)
	}
	if entries, err := f.ReadDir(-1); len(entries) != 0 || err != nil {
		t.Errorf("ReadDir(-1) at the end = %v, %v, want no error", entries, err)
	}
	if entries, err := open(&lists).ReadDir(0); len(entries) != 3 || err != nil {
		t.Errorf("ReadDir(0) = %v, %v, want all three", entries, err)
	}
	if lists != 2 {
		t.Errorf("two folders were listed %d times", lists)
	}
}

func TestFailures(t *testing.T) {
	broken := errors.New("broken")
	f := dirfile.Open("a/b", nil, func() ([]fs.DirEntry, error) { return nil, broken })
	var at *fs.PathError
	if _, err := f.ReadDir(-1); !errors.As(err, &at) || at.Path != "a/b" || !errors.Is(err, broken) {
		t.Errorf("ReadDir of a folder that cannot be listed = %v, want a/b and the cause", err)
	}
	if _, err := f.Read(nil); err == nil {
		t.Error("Read of a folder succeeded")
	}
}
