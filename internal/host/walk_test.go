package host

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

func walkBox(t *testing.T) *Machine {
	m := &Machine{Root: t.TempDir()}
	for _, d := range []string{"run/lock", "var", "srv/bot", "secret"} {
		if err := os.MkdirAll(m.at(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func TestWalkFollowsRootsLinks(t *testing.T) {
	m := walkBox(t)
	for _, target := range []string{"/run", "../run", "../var/../run"} {
		os.Remove(m.at("/var/run"))
		if err := os.Symlink(target, m.at("/var/run")); err != nil {
			t.Fatal(err)
		}
		f, err := m.folder("/var/run/lock", false)
		if err != nil {
			t.Fatalf("folder through %s: %v", target, err)
		}
		got, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
		if want := m.at("/run/lock"); got != want {
			t.Errorf("/var/run -> %s led to %s, want %s", target, got, want)
		}
		f.Close()
	}
}

func TestWalkRefusesPlantedLinks(t *testing.T) {
	m := walkBox(t)
	// A folder that others may write to: whoever made the link, it proves nothing.
	if err := os.Chmod(m.at("/srv/bot"), 0o777); err != nil {
		t.Fatal(err)
	}
	os.Symlink("../../secret", m.at("/srv/bot/data"))
	if _, err := m.folder("/srv/bot/data", true); !errors.Is(err, os.ErrPermission) {
		t.Errorf("folder through a planted link: %v, want permission denied", err)
	}
	if os.Geteuid() == 0 {
		os.Chmod(m.at("/srv/bot"), 0o755)
		os.Lchown(m.at("/srv/bot/data"), 1234, 1234)
		if _, err := m.folder("/srv/bot/data", true); !errors.Is(err, os.ErrPermission) {
			t.Errorf("folder through a service user's link: %v, want permission denied", err)
		}
	}
	os.Symlink("loop", m.at("/var/loop"))
	if _, err := m.folder("/var/loop/x", false); err == nil {
		t.Error("a link to itself was followed")
	}
	if _, err := m.folder("/srv/../../../../etc", false); err == nil {
		t.Error(".. left the root")
	}
}

// A service user swaps his folder for a link all the time; nothing is ever written elsewhere.
func TestWalkUnderAttack(t *testing.T) {
	m := walkBox(t)
	os.Chmod(m.at("/srv"), 0o777)
	dir, aside := m.at("/srv/bot"), m.at("/srv/aside")
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
	for i, end := 0, time.Now().Add(10*time.Second); i < 3000 || wrote == 0 && time.Now().Before(end); i++ {
		f, err := m.folder("/srv/bot", false)
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
	if es, _ := os.ReadDir(m.at("/secret")); len(es) != 0 {
		t.Errorf("%d files escaped", len(es))
	}
	if wrote == 0 {
		t.Error("nothing was written at all")
	}
}
