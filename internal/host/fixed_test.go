package host_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
)

// A file that nobody can replace, since something is mounted there or it is immutable, is found before anything is
// touched, and is due to its service. Where the service is held back already, it is left alone.
func TestFilesThatCanNotBeReplaced(t *testing.T) {
	for name, fix := range map[string]func(t *testing.T, p string){
		"a mount": func(t *testing.T, p string) {
			if err := unix.Mount(os.Args[0], p, "", unix.MS_BIND, ""); err != nil {
				t.Skip("this needs root:", err)
			}
			t.Cleanup(func() { unix.Unmount(p, unix.MNT_DETACH) })
		},
		"an immutable file": func(t *testing.T, p string) {
			if out, err := exec.Command("chattr", "+i", p).CombinedOutput(); err != nil {
				t.Skip("this needs root, and a filesystem that knows it:", string(out))
			}
			t.Cleanup(func() { exec.Command("chattr", "-i", p).Run() })
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.deploy(twoOwners("one", "one"), bundle.OutcomeDone)
			fix(t, b.path("/etc/bot.conf"))
			got := b.deploy(twoOwners("two", "two"), bundle.OutcomeRefused)
			if !slices.Equal(got.res.Failing, []string{"bot"}) || !strings.Contains(got.res.Error, "/etc/bot.conf can't be replaced") || b.read("/etc/web.conf") != "one" {
				t.Errorf("due to %q: %s; /etc/web.conf holds %q", got.res.Failing, got.res.Error, b.read("/etc/web.conf"))
			}

			l := twoOwners("three", "one")
			o := l.offer()
			o.Held = []string{"bot"}
			b.deployOffer(o, l, bundle.OutcomeDone)
			if b.read("/etc/web.conf") != "three" {
				t.Errorf("/etc/web.conf holds %q", b.read("/etc/web.conf"))
			}
		})
	}
}
