package link_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/link"
)

// A helper small enough to read: it says the magic, and knows the two verbs.
const scriptHelper = "#!/bin/sh\n[ \"$2\" = version ] && exit 0\n[ \"$1 $2\" = \"host-helper serve\" ] || exit 9\nprintf '\\000bellhop-host 1\\n'; cat\n"

// TestShells hands link's two lines to real login shells, the folders moved to a temp
// directory, as sshd does: SHELL -c LINE.
func TestShells(t *testing.T) {
	for _, shell := range []string{"sh", "dash", "bash", "zsh", "ksh", "csh", "tcsh", "fish", "busybox sh"} {
		t.Run(shell, func(t *testing.T) {
			words := strings.Fields(shell)
			if _, err := exec.LookPath(words[0]); err != nil {
				t.Skip(err)
			}
			dir := t.TempDir()
			run := func(line, stdin string) string {
				t.Helper()
				for _, f := range []string{"/usr/local/libexec/bellhop", "/opt/bellhop/.bin", "/var/lib/bellhop/bin"} {
					line = strings.ReplaceAll(line, f, dir+f)
				}
				cmd := exec.Command(words[0], append(words[1:], "-c", line)...)
				cmd.Stdin = strings.NewReader(stdin)
				var errs bytes.Buffer
				cmd.Stderr = &errs
				out, err := cmd.Output()
				t.Logf("%v, stderr %q", err, errs.String())
				return string(out)
			}
			digest := bundle.DigestBytes([]byte(scriptHelper))
			if got := run(link.ServeLine(digest, false, false), ""); !strings.HasPrefix(got, "\x00bellhop-need Linux ") {
				t.Fatalf("serve without a helper said %q, want need", got)
			}
			first := dir + "/usr/local/libexec/bellhop"
			if got, want := run(link.UploadLine(digest, false), scriptHelper), "\x00bellhop-done "+first+"\n"; got != want {
				t.Fatalf("upload said %q, want %q", got, want)
			}
			if got, want := run(link.ServeLine(digest, false, false), "hello"), bundle.Magic+"hello"; got != want {
				t.Errorf("serve said %q, want %q", got, want)
			}
			if to, err := os.Readlink(filepath.Join(first, "current")); to != digest {
				t.Errorf("current leads to %q, %v; want %s", to, err, digest)
			}
			if got, want := run(link.UploadLine(digest, false), scriptHelper[:40]), "\x00bellhop-fail digest "; !strings.HasPrefix(got, want) {
				t.Errorf("a helper cut short said %q, want %q", got, want)
			}
			wantOnly(t, first, digest, "current")
		})
	}
}

// TestUploadKeepsTwo sends four helpers; the two newest stay, and one that is there already
// becomes current again when it serves.
func TestUploadKeepsTwo(t *testing.T) {
	dir := t.TempDir()
	run := func(line, stdin string) string {
		t.Helper()
		cmd := exec.Command("sh", "-c", strings.ReplaceAll(line, "/usr/local/libexec/bellhop", dir+"/bin"))
		cmd.Stdin = strings.NewReader(stdin)
		out, _ := cmd.Output()
		return string(out)
	}
	var digests []string
	for _, v := range []string{"#1", "#2", "#3", "#4"} {
		digests = append(digests, bundle.DigestBytes([]byte(scriptHelper+v)))
		if got := run(link.UploadLine(digests[len(digests)-1], false), scriptHelper+v); !strings.Contains(got, "done") {
			t.Fatalf("upload of %s said %q", v, got)
		}
	}
	wantOnly(t, dir+"/bin", digests[2], digests[3], "current")
	if got := run(link.ServeLine(digests[2], false, false), ""); got != bundle.Magic {
		t.Errorf("serve of the older said %q", got)
	}
	if to, _ := os.Readlink(dir + "/bin/current"); to != digests[2] {
		t.Errorf("current leads to %s, want the one that serves, %s", to, digests[2])
	}
}

// TestServeNextFolder has a helper that can't be executed in the first folder, as on a
// mount that became noexec, and one that can in the second.
func TestServeNextFolder(t *testing.T) {
	dir := t.TempDir()
	digest := bundle.DigestBytes([]byte(scriptHelper))
	for name, mode := range map[string]os.FileMode{"a": 0o644, "b": 0o755} {
		os.Mkdir(filepath.Join(dir, name), 0o755)
		if err := os.WriteFile(filepath.Join(dir, name, digest), []byte(scriptHelper), mode); err != nil {
			t.Fatal(err)
		}
	}
	line := strings.NewReplacer("/usr/local/libexec/bellhop", dir+"/a", "/opt/bellhop/.bin", dir+"/b").Replace(link.ServeLine(digest, false, false))
	out, err := exec.Command("sh", "-c", line).Output()
	if string(out) != bundle.Magic || err != nil {
		t.Errorf("serve said %q, %v; want the helper of the second folder", out, err)
	}
}

// TestEmptyHelperIsNone has what a power cut may leave: a name without bytes, which a shell
// runs as a program that does nothing.
func TestEmptyHelperIsNone(t *testing.T) {
	dir := t.TempDir()
	digest := bundle.DigestBytes([]byte(scriptHelper))
	if err := os.WriteFile(filepath.Join(dir, digest), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	line := strings.ReplaceAll(link.ServeLine(digest, false, false), "/usr/local/libexec/bellhop", dir)
	if out, _ := exec.Command("sh", "-c", line).Output(); !strings.HasPrefix(string(out), "\x00bellhop-need ") {
		t.Errorf("serve said %q, want need", out)
	}
}

func wantOnly(t *testing.T, dir string, names ...string) {
	t.Helper()
	want := map[string]bool{}
	for _, n := range names {
		want[n] = true
	}
	es, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range es {
		if !want[e.Name()] {
			t.Errorf("%s: %s is left over", dir, e.Name())
		}
		delete(want, e.Name())
	}
	for n := range want {
		t.Errorf("%s: %s is missing", dir, n)
	}
}
