package host_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
)

// A service user's folder: he may put anything in the place of bellhop's file.
func sharedBox(t *testing.T) *box {
	b := newBox(t)
	if err := os.MkdirAll(b.path("/srv/bot/conf"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(b.path("/srv/bot"), 0o777); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *box) stored() (size int64) {
	files, _ := filepath.Glob(b.path("/var/lib/bellhop/blobs/*"))
	for _, f := range files {
		if st, err := os.Stat(f); err == nil {
			size += st.Size()
		}
	}
	return size
}

func TestFilesThatAreTooLargeAreNotStored(t *testing.T) {
	const p = "/srv/bot/conf/x.conf"
	for _, c := range []struct {
		name    string
		size    int64
		outcome string
	}{
		{"larger than is kept", 200 << 20, bundle.OutcomeDone},
		{"larger than any file", bundle.MaxBlob + 1, bundle.OutcomeFailed},
		{"a sparse terabyte", 1 << 40, bundle.OutcomeFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := sharedBox(t)
			b.deploy(newLoad().file(p, "one"), bundle.OutcomeDone)
			if err := os.Truncate(b.path(p), c.size); err != nil {
				t.Fatal(err)
			}
			l := newLoad().file(p, "two")
			got, err := b.talk(l.offer(), l)
			if err != nil || got.res.Outcome != c.outcome {
				t.Fatalf("outcome = %+v, %v, want %s", got.res, err, c.outcome)
			}
			if n := b.stored(); n > 1<<20 {
				t.Errorf("%d bytes were stored", n)
			}
			if c.outcome == bundle.OutcomeDone {
				wantList(t, "restored", got.res.Restored, p)
				if b.read(p) != "two" || !strings.Contains(strings.Join(got.res.Warnings, "\n"), "too large to be kept") {
					t.Errorf("x.conf = %.10q, warnings %q", b.read(p), got.res.Warnings)
				}
			} else if !strings.Contains(got.res.Error, p) {
				t.Errorf("error %q does not name %s", got.res.Error, p)
			}
		})
	}
}

// An undone run can't bring back what was not kept. What bellhop had there comes back.
func TestUndoOfAFileThatWasTooLarge(t *testing.T) {
	const p = "/srv/bot/conf/x.conf"
	b := sharedBox(t)
	b.deploy(newLoad().file(p, "one"), bundle.OutcomeDone)
	if err := os.Truncate(b.path(p), 200<<20); err != nil {
		t.Fatal(err)
	}
	b.fail["new.service"] = true
	b.deploy(newLoad().file(p, "two").service("new.service", "[Service]"), bundle.OutcomeRolledBack)
	if got := b.read(p); got != "one" {
		t.Errorf("x.conf = %.10q, want what bellhop had there", got)
	}
}

// A large file of bellhop's own is read, however large: its size is the recorded one.
func TestLargeFileOfItsOwnIsNoEdit(t *testing.T) {
	b := sharedBox(t)
	l := newLoad().file("/srv/bot/conf/large", strings.Repeat("0123456789abcdef", (maxUnknown+16)/16))
	b.deploy(l, bundle.OutcomeDone)
	got := b.deploy(l, bundle.OutcomeNothing)
	wantList(t, "restored", got.res.Restored)
}

const maxUnknown = 64 << 20

func TestPipeInItsPlaceDoesNotBlock(t *testing.T) {
	const p = "/srv/bot/conf/x.conf"
	b := sharedBox(t)
	b.deploy(newLoad().file(p, "one"), bundle.OutcomeDone)
	os.Remove(b.path(p))
	if err := unix.Mkfifo(b.path(p), 0o666); err != nil {
		t.Fatal(err)
	}
	got := b.deploy(newLoad().file(p, "two"), bundle.OutcomeFailed)
	if !strings.Contains(got.res.Error, p) {
		t.Errorf("error %q does not name %s", got.res.Error, p)
	}
}

// What stood somewhere before bellhop came back to is setuid again only where nobody but root
// could have made it so.
func TestSetuidReturnsToRootsFoldersOnly(t *testing.T) {
	for _, c := range []struct {
		folder string
		mode   os.FileMode
		want   uint32
	}{
		{"/usr/local/bin", 0o755, 0o6755},
		{"/srv/bot/conf", 0o755, 0o755}, // the folder above is shared
		{"/srv/bot", 0o777, 0o755},
		{"/srv/group", 0o775, 0o755},
	} {
		b := sharedBox(t)
		p := c.folder + "/x"
		b.write(p, "before")
		os.Chmod(b.path(c.folder), c.mode)
		if err := unix.Chmod(b.path(p), 0o6755); err != nil {
			t.Fatal(err)
		}
		mode := func(after string) {
			t.Helper()
			var st unix.Stat_t
			if err := unix.Lstat(b.path(p), &st); err != nil || st.Mode&0o7777 != c.want || b.read(p) != "before" {
				t.Errorf("%s after %s: mode %o, %v, want %o", p, after, st.Mode&0o7777, err, c.want)
			}
		}
		b.fail["new.service"] = true
		b.deploy(newLoad().file(p, "bellhop's").service("new.service", "[Service]"), bundle.OutcomeRolledBack)
		mode("an undone run")
		b.deploy(newLoad().file(p, "bellhop's"), bundle.OutcomeDone)
		b.deploy(newLoad().file("/etc/other", "x"), bundle.OutcomeDone)
		mode("bellhop left it")
	}
}
