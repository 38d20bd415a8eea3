package host_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/lab"
)

// Where ramfs is refused, keys stand on a tmpfs, and each result says so, the louder where the
// host swaps in the clear.
func TestTmpfsIsTold(t *testing.T) {
	for _, swaps := range []bool{false, true} {
		m := lab.NewMachine(t.TempDir())
		m.RefuseRamfs(swaps)
		told := func(what string, got told) {
			t.Helper()
			text := strings.Join(got.res.Warnings, "\n")
			if strings.Count(text, "on a tmpfs") != 1 || strings.Contains(text, "may reach its disk") != swaps {
				t.Errorf("%s (swap %v): warnings %q", what, swaps, got.res.Warnings)
			}
		}
		l := rigBot("one", "first")
		told("first", twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone))
		l = rigBot("one", "first")
		told("nothing new", twinDeploy(t, m, l.offer(), l, bundle.OutcomeNothing))
		if err := m.Reboot(); err != nil {
			t.Fatal(err)
		}
		l = rigBot("one", "first")
		told("keys", twinDeploy(t, m, keysOffer(l), l, bundle.OutcomeNothing))
	}
	m := lab.NewMachine(t.TempDir())
	l := rigBot("one", "first")
	if got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone); len(got.res.Warnings) != 0 {
		t.Errorf("on a ramfs: warnings %q", got.res.Warnings)
	}
}

// A systemd without systemd-creds can't seal: the key is named before anything is touched.
func TestSealingNeedsItsSystemd(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	m.SetVersion(249)
	l := rigBot("one", "first")
	l.Keys[0].Seal = true
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeRefused)
	for _, word := range []string{"rigtoken", "250", "249"} {
		if !strings.Contains(got.res.Error, word) {
			t.Errorf("error %q does not say %s", got.res.Error, word)
		}
	}
	if _, err := os.Lstat(m.Path("/run/keys")); err == nil || m.Starts("rigbot.service") != 0 {
		t.Error("the host was touched")
	}
	l = rigBot("one", "first")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone) // without sealing it will do
}

// A sealed copy that no longer opens is made anew at the next deploy, and as the value is the
// same nothing restarts. With the key it leaves.
func TestSealedAnew(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	sealed := func(more string) *load {
		l := rigBot("one", "first")
		l.Keys[0].Seal = true
		if more != "" {
			l.file("/etc/else", more)
		}
		return l
	}
	l := sealed("")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	opens := func() bool { return m.Host().Mounts.Opens(context.Background(), "rigtoken", []byte("TOKEN=first\n")) }
	if !opens() {
		t.Fatal("no sealed copy")
	}
	m.LoseSecret()
	if opens() {
		t.Fatal("a copy opens without its secret")
	}
	m.ClearLog()
	l = sealed("x")
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	if !opens() {
		t.Error("the copy was not made anew")
	}
	if len(got.res.Restarted) != 0 || m.Count("restart", "rigbot.service") != 0 {
		t.Errorf("sealing anew restarted %v", got.res.Restarted)
	}
	l = sealed("x")
	l.Keys = nil
	l.Units = slices.DeleteFunc(l.Units, func(u bundle.Unit) bool { return u.KeyUnit })
	l.Files = slices.DeleteFunc(l.Files, func(f bundle.File) bool {
		return strings.HasSuffix(f.Path, "-key.service") || strings.HasSuffix(f.Path, "/50-bellhop.conf")
	})
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	if left, _ := os.ReadDir(m.Path(bundle.SealedDir)); len(left) != 0 {
		t.Errorf("after its key left, %v lies in %s", left, bundle.SealedDir)
	}
}

// Whence a key came is told rightly also when the deployer has looked since, and sent nothing.
func TestSealedIsToldAfterALook(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	sealed := func() *load {
		l := rigBot("one", "first")
		l.Keys[0].Seal = true
		for p, text := range l.bytes {
			if s := string(text); strings.Contains(s, "Description=Key") {
				delete(l.bytes, p)
				s = strings.Replace(s, "exit 0; echo", "exit 0; systemd-creds decrypt --name=rigtoken /var/lib/bellhop/sealed/rigtoken /run/keys/.rigtoken.new && chown rigbot:rigbot /run/keys/.rigtoken.new && chmod 0640 /run/keys/.rigtoken.new && mv -T /run/keys/.rigtoken.new /run/keys/rigtoken && exit 0; echo", 1)
				d := bundle.DigestBytes([]byte(s))
				l.bytes[d] = []byte(s)
				for i := range l.Files {
					if l.Files[i].Digest == p {
						l.Files[i].Digest = d
					}
				}
			}
		}
		return l
	}
	source := func(want string) {
		t.Helper()
		l := sealed()
		got := twinDeploy(t, m, keysOffer(l), l, bundle.OutcomeNothing)
		for _, ks := range [][]bundle.KeyState{got.hello.Keys, got.res.Keys} {
			if len(ks) != 1 || !ks[0].Present || ks[0].Source != want {
				t.Errorf("keys %+v, want one from %s", ks, want)
			}
		}
	}
	l := sealed()
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	source("pushed")
	if err := m.Reboot(); err != nil {
		t.Fatal(err)
	}
	source("sealed")
	source("sealed") // the record knows this boot by now
}
