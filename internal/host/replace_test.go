package host_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/host/owned"
)

// A folder in which somebody else has something does not make way for a file, nor does a file
// that was there before bellhop for a folder.
func TestWhatDoesNotMakeWay(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one").file("/etc/x/d/deep/b", "in it"), bundle.OutcomeDone)
	b.write("/etc/x/d/deep/mine", "by hand")
	before := b.all()
	got := b.deploy(bot("one").file("/etc/x/d", "file"), bundle.OutcomeRefused)
	if !strings.Contains(got.res.Error, "/etc/x/d ") {
		t.Errorf("error %q does not name the folder", got.res.Error)
	}
	b.compare(before, "after a folder that does not make way")

	b = newBox(t)
	b.write("/etc/x", "before bellhop")
	b.deploy(bot("one").file("/etc/x", "bellhop's"), bundle.OutcomeDone)
	before = b.all()
	b.deploy(bot("one").file("/etc/x/in", "in it"), bundle.OutcomeRefused)
	b.compare(before, "after a file that does not make way")
}

// A folder by hand where the file stood is left alone, and what is in it is kept.
func TestFolderByHandInTheWay(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one").file("/etc/x/d", "file"), bundle.OutcomeDone)
	os.Remove(b.path("/etc/x/d"))
	b.write("/etc/x/d/a", "by hand")
	b.write("/etc/x/d/b", "by hand")
	before := b.all()
	b.fail["new.service"] = true
	b.deploy(bot("one").file("/etc/x/d/a", "in it").service("new.service", "[Service]"), bundle.OutcomeRolledBack)
	b.compare(before, "after a rollback over a folder by hand")
	b.deploy(bot("one").file("/etc/x/d/a", "in it"), bundle.OutcomeDone)
	if got := b.read("/etc/x/d/a") + ", " + b.read("/etc/x/d/b"); got != "in it, by hand" {
		t.Errorf("in the folder stands %q", got)
	}
	b.deploy(newLoad().file("/etc/other", "x"), bundle.OutcomeDone)
	if got := b.read("/etc/x/d/a"); got != "by hand" {
		t.Errorf("what stood before came back as %q", got)
	}
}

// A file that somebody made immutable stops a deploy, which says how to go on.
func TestImmutableFile(t *testing.T) {
	if err := owned.Locked(unix.EPERM); !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "chattr -i") {
		t.Errorf("what root is denied says %v", err)
	}
	if err := owned.Locked(unix.ENOSPC); err != unix.ENOSPC {
		t.Errorf("a full disk says %v", err)
	}
	b := newBox(t)
	b.deploy(bot("one").file("/etc/x", "first"), bundle.OutcomeDone)
	f, err := os.Open(b.path("/etc/x"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	immutable := func(on int) error { // FS_IMMUTABLE_FL of linux/fs.h
		return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, on*0x10)
	}
	if err := immutable(1); err != nil {
		t.Skip("no file can be made immutable here: ", err)
	}
	defer immutable(0)
	before := b.all()
	got := b.deploy(bot("one").file("/etc/x", "second"), bundle.OutcomeRefused)
	if !strings.Contains(got.res.Error, "/etc/x can't be replaced, since it is immutable: chattr -i") {
		t.Errorf("error %q does not say why", got.res.Error)
	}
	b.compare(before, "after a file that can't be replaced")
	if err := immutable(0); err != nil {
		t.Fatal(err)
	}
	b.deploy(bot("one").file("/etc/x", "second"), bundle.OutcomeDone)
}
