package owner_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"bellhop/internal/owner"
)

func TestOwnFilesAreTrusted(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := owner.CheckIn(file); err != nil {
		t.Errorf("CheckIn(own file) = %v", err)
	}
	if err := owner.Check(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Check(no file) = %v, want fs.ErrNotExist", err)
	}
}

func TestWhatOthersCanWriteIsRefused(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		mode fs.FileMode
	}{{file, 0o666}, {file, 0o602}, {dir, 0o777}, {dir, 0o777 | fs.ModeSticky}} {
		if err := os.Chmod(c.path, c.mode); err != nil {
			t.Fatal(err)
		}
		if err := owner.CheckIn(file); !owner.IsUntrusted(err) {
			t.Errorf("CheckIn with %s at %v = %v, want an *owner.Error", filepath.Base(c.path), c.mode, err)
		}
		os.Chmod(file, 0o644)
		os.Chmod(dir, 0o755)
	}
}

func TestFilesOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it gives files to another user")
	}
	const other = 65534
	dir := t.TempDir()
	file, link := filepath.Join(dir, "f"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(file, nil, 0o644), os.Symlink(file, link), os.Chown(file, other, -1)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link} {
		if err := owner.Check(path); !owner.IsUntrusted(err) {
			t.Errorf("Check(%s of another) = %v, want an *owner.Error", path, err)
		}
	}

	t.Setenv("SUDO_UID", "65534")
	if err := owner.Check(file); err != nil {
		t.Errorf("Check(file of who typed sudo) = %v", err)
	}

	t.Setenv("SUDO_UID", "")
	if err := errors.Join(os.Chown(file, 0, -1), os.Lchown(link, other, -1)); err != nil {
		t.Fatal(err)
	}
	if err := owner.Check(link); !owner.IsUntrusted(err) {
		t.Errorf("Check(another's link to our file) = %v, want an *owner.Error", err)
	}
	if err := errors.Join(os.Chown(file, 0, other), os.Chmod(file, 0o664)); err != nil {
		t.Fatal(err)
	}
	if err := owner.Check(file); !owner.IsUntrusted(err) {
		t.Errorf("Check(file that another group can write to) = %v, want an *owner.Error", err)
	}
}
