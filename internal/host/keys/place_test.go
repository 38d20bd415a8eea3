package keys

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// ramfs mounts one at a folder, and skips where that is refused.
func ramfs(t *testing.T) string {
	dir := t.TempDir()
	if err := unix.Mount("ramfs", dir, "ramfs", mountFlags, "mode=0755"); err != nil {
		t.Skip("mount a ramfs:", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func TestWritableWhereAllElseIsReadOnly(t *testing.T) {
	for name, open := range map[string]func(string) (*os.File, error){"as it comes": Writable, "by a copy": byClone, "by a namespace": byNamespace} {
		t.Run(name, func(t *testing.T) {
			dir := ramfs(t)
			if err := ReadOnly(dir); err != nil {
				t.Skip(err)
			}
			if err := os.WriteFile(dir+"/x", nil, 0o600); !errors.Is(err, unix.EROFS) {
				t.Errorf("write to the place: %v, want it read-only", err)
			}
			f, err := open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			at := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
			if err := errors.Join(os.Mkdir(at+"/d", 0o700), os.WriteFile(at+"/d/x", []byte("value"), 0o600), os.Rename(at+"/d/x", at+"/x"), os.Remove(at+"/d")); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(dir + "/x"); string(got) != "value" {
				t.Errorf("the place holds %q, %v", got, err)
			}
			if err := os.WriteFile(dir+"/y", nil, 0o600); !errors.Is(err, unix.EROFS) {
				t.Errorf("write to the place meanwhile: %v, want it read-only", err)
			}
		})
	}
}

// The user whom a key belongs to can't write to it, whatever he tries while the helper does.
func TestOwnerOfAKeyCantGrowIt(t *testing.T) {
	dir := ramfs(t)
	if err := ReadOnly(dir); err != nil {
		t.Skip(err)
	}
	f, err := Writable(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	key := fmt.Sprintf("/proc/self/fd/%d/key", f.Fd())
	if err := errors.Join(os.WriteFile(key, []byte("value"), 0o600), os.Chown(key, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	os.Chmod(dir+"/..", 0o755)
	cmd := exec.Command("/bin/sh", "-c", "chmod u+w key; echo more >>key; echo more >key; true")
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got, err := os.ReadFile(dir + "/key"); string(got) != "value" {
		t.Errorf("the key is %q, %v", got, err)
	}
}

func TestReadOnlyStays(t *testing.T) {
	dir := ramfs(t)
	for range 2 {
		if err := ReadOnly(dir); err != nil {
			t.Skip(err)
		}
	}
	if is, err := isReadOnly(dir); !is || err != nil {
		t.Errorf("read-only = %v, %v", is, err)
	}
	if err := ReadOnly(t.TempDir()); err == nil {
		t.Error("a bare folder became a read-only mount")
	}
}
