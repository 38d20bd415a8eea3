package owned

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

func treeBox(t *testing.T) *Tree {
	m := &Tree{Root: t.TempDir()}
	for _, d := range []string{"run/lock", "var", "srv/bot", "secret"} {
		if err := os.MkdirAll(at(m, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func TestWalkFollowsRootsLinks(t *testing.T) {
	m := treeBox(t)
	for _, target := range []string{"/run", "../run", "../var/../run"} {
		os.Remove(at(m, "/var/run"))
		if err := os.Symlink(target, at(m, "/var/run")); err != nil {
			t.Fatal(err)
		}
		f, err := m.Folder("/var/run/lock", false)
		if err != nil {
			t.Fatalf("folder through %s: %v", target, err)
		}
		got, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
		if want := at(m, "/run/lock"); got != want {
			t.Errorf("/var/run -> %s led to %s, want %s", target, got, want)
		}
		f.Close()
	}
}

func TestWalkRefusesPlantedLinks(t *testing.T) {
	m := treeBox(t)
	// A folder that others may write to: whoever made the link, it proves nothing.
	if err := os.Chmod(at(m, "/srv/bot"), 0o777); err != nil {
		t.Fatal(err)
	}
	os.Symlink("../../secret", at(m, "/srv/bot/data"))
	if _, err := m.Folder("/srv/bot/data", true); !errors.Is(err, os.ErrPermission) {
		t.Errorf("folder through a planted link: %v, want permission denied", err)
	}
	if os.Geteuid() == 0 {
		os.Chmod(at(m, "/srv/bot"), 0o755)
		os.Lchown(at(m, "/srv/bot/data"), 1234, 1234)
		if _, err := m.Folder("/srv/bot/data", true); !errors.Is(err, os.ErrPermission) {
			t.Errorf("folder through a service user's link: %v, want permission denied", err)
		}
	}
	os.Symlink("loop", at(m, "/var/loop"))
	if _, err := m.Folder("/var/loop/x", false); err == nil {
		t.Error("a link to itself was followed")
	}
	if _, err := m.Folder("/srv/../../../../etc", false); err == nil {
		t.Error(".. left the root")
	}
}

// A service user swaps his folder for a link all the time; nothing is ever written elsewhere.
func TestWalkUnderAttack(t *testing.T) {
	m := treeBox(t)
	os.Chmod(at(m, "/srv"), 0o777)
	dir, aside := at(m, "/srv/bot"), at(m, "/srv/aside")
	var stop atomic.Bool
	done := make(chan bool)
	go func() {
		defer close(done)
		for !stop.Load() {
			os.Rename(dir, aside)
			os.Symlink("../secret", dir)
			os.Remove(dir)
			os.Rename(aside, dir)
			time.Sleep(10 * time.Microsecond)
		}
	}()
	wrote := 0
	for i, end := 0, time.Now().Add(2*time.Minute); i < 3000 || wrote == 0 && time.Now().Before(end); i++ {
		f, err := m.Folder("/srv/bot", false)
		if err != nil {
			continue
		}
		if n, err := create(f, "x"); err == nil {
			n.Close()
			wrote++
			os.Remove(filepath.Join(dir, "x"))
			os.Remove(filepath.Join(aside, "x"))
		}
		f.Close()
	}
	stop.Store(true)
	<-done
	if es, _ := os.ReadDir(at(m, "/secret")); len(es) != 0 {
		t.Errorf("%d files escaped", len(es))
	}
	if wrote == 0 {
		t.Error("nothing was written at all")
	}
}

func at(t *Tree, p string) string { return filepath.Join(t.Root, p) }
