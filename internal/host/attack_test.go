package host_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/host"
	"bellhop/internal/host/real"
)

// A service user owns his home, bellhop writes into it as root, and he may exchange any of its
// folders for a link at any moment. The attacker here is a real process of another user.

const (
	attackEnv = "BELLHOP_TEST_ATTACK"
	nobody    = 65534
	evil      = "#!/bin/sh\n# the attacker's own program\n"
	evilSize  = 4 << 20
)

func TestMain(m *testing.M) {
	if how, home, ok := strings.Cut(os.Getenv(attackEnv), " "); ok {
		attack(how, home)
	}
	syscall.Umask(0o022) // people's files have the modes that the tests say
	os.Exit(m.Run())
}

// How an attacker times his exchanges.
const (
	atRandom = "random"
	onOpen   = "open" // when his file is opened, and back when it is closed
)

// attack exchanges conf with a link to the folder that is root's, and puts a setuid program of
// his own wherever bellhop put something. It ends when it is killed.
func attack(how, home string) {
	if err := os.Chdir(home); err != nil {
		panic(err)
	}
	os.Rename("conf", "roots") // it is root's, but lies in our home
	os.Mkdir("conf", 0o755)
	os.Symlink("roots", "lnk")
	plant("conf")
	fmt.Println("ready")
	if how == onOpen {
		attackOnOpen()
	}
	for n := 0; ; n++ {
		exchange()
		if n%2 == 1 { // it is a folder: give those who look a chance, of another length each time
			for end := time.Now().Add(time.Duration(rand.IntN(200)) * time.Microsecond); time.Now().Before(end); {
			}
		}
		if n%64 == 1 {
			plant("conf")
			plant("lnk")
			misuseKey("../../run/keys/token")
			fmt.Println(n)
		}
	}
}

func attackOnOpen() {
	buf := make([]byte, 4096)
	for n := 0; ; {
		plant("conf")
		watch, err := unix.InotifyInit()
		if err != nil {
			panic(err)
		}
		unix.InotifyAddWatch(watch, "conf/x.conf", unix.IN_OPEN|unix.IN_CLOSE_NOWRITE|unix.IN_ATTRIB)
		for away, gone := false, false; !gone; {
			got, err := unix.Read(watch, buf)
			if err != nil {
				panic(err)
			}
			for at := 0; at < got; at += unix.SizeofInotifyEvent {
				mask := binary.NativeEndian.Uint32(buf[at+4:])
				swap := mask&unix.IN_OPEN != 0 && !away || mask&unix.IN_CLOSE_NOWRITE != 0 && away
				if swap {
					exchange()
					away = !away
					n++
				}
				gone = gone || mask&(unix.IN_ATTRIB|unix.IN_IGNORED) != 0 && !away // it was replaced
			}
		}
		unix.Close(watch)
		fmt.Println(n)
	}
}

func exchange() {
	if unix.Renameat2(unix.AT_FDCWD, "conf", unix.AT_FDCWD, "lnk", unix.RENAME_EXCHANGE) != nil {
		os.Mkdir("conf", 0o755)
		os.Symlink("roots", "lnk")
	}
}

func plant(dir string) {
	if st, err := os.Lstat(dir); err != nil || !st.IsDir() {
		return
	}
	for _, name := range []string{"x.conf", "y.conf"} {
		p := filepath.Join(dir, name)
		var st unix.Stat_t
		if unix.Lstat(p, &st) == nil && st.Uid == nobody && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&0o4000 != 0 {
			continue
		}
		os.Remove(p)
		os.WriteFile(p, []byte(evil), 0o755)
		os.Truncate(p, evilSize) // so that reading it takes a while
		unix.Chmod(p, 0o4755)
	}
}

// misuseKey changes the key that is his: its bytes and its mode.
func misuseKey(p string) {
	unix.Chmod(p, 0o600)
	os.WriteFile(p, []byte(evil), 0o600)
	unix.Chmod(p, 0o4755)
}

// realAccounts are this computer's. Nobody is made, and no snippet is applied.
type realAccounts struct{ real.Accounts }

func (realAccounts) Sysusers(context.Context, []string) error { return nil }
func (realAccounts) Tmpfiles(context.Context, []string) error { return nil }
func (realAccounts) Command(string) bool                      { return true }

// underAttack is a box whose service user attacks. ended tells how many exchanges there were.
func underAttack(t *testing.T, how string, first *load) (b *box, ended func() int) {
	if os.Geteuid() != 0 {
		t.Skip("only root can start a process of another user")
	}
	b = newBox(t)
	b.m.Accounts = realAccounts{}
	for p := b.dir; p != filepath.Dir(os.TempDir()) && p != "/"; p = filepath.Dir(p) {
		if p != os.TempDir() {
			os.Chmod(p, 0o755)
		}
	}
	if err := os.MkdirAll(b.path("/srv/bot"), 0o755); err != nil {
		t.Fatal(err)
	}
	os.Chown(b.path("/srv/bot"), nobody, nobody)
	b.deploy(first, bundle.OutcomeDone)
	os.Chmod(b.path("/run/keys"), 0o755)

	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	if err := exe.Chmod(0o755); err != nil { // nobody runs it, whatever the umask was
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{exe}
	cmd.Env = []string{attackEnv + "=" + how + " " + b.path("/srv/bot"), "GOMAXPROCS=1"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("the attacker says %q", lines.Text())
	}
	exchanges := make(chan int, 1)
	go func() {
		n := 0
		for lines.Scan() {
			n, _ = strconv.Atoi(lines.Text())
		}
		exchanges <- n
	}()
	return b, sync.OnceValue(func() int {
		cmd.Process.Kill()
		n := <-exchanges
		cmd.Wait()
		return n
	})
}

// taken looks for what the attacker wants: a file with his bytes that is root's, or anything
// setuid that is root's, outside of bellhop's own folder.
func (b *box) taken() (found []string) {
	filepath.WalkDir(b.dir, func(p string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(p, b.dir)
		if name == bundle.StateDir {
			return fs.SkipDir
		}
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		f, err := os.OpenFile(p, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			return nil
		}
		defer f.Close()
		var st unix.Stat_t
		if unix.Fstat(int(f.Fd()), &st) != nil || st.Uid != 0 {
			return nil
		}
		if text, _ := io.ReadAll(f); st.Mode&0o6000 != 0 || bytes.Contains(text, []byte(evil)) {
			found = append(found, fmt.Sprintf("%s (mode %o, root's)", name, st.Mode&0o7777))
		}
		return nil
	})
	return found
}

func TestServiceUserStaysWhoHeIs(t *testing.T) {
	for _, how := range []string{atRandom, onOpen} {
		t.Run(how, func(t *testing.T) { stayWhoHeIs(t, how) })
	}
}

func stayWhoHeIs(t *testing.T, how string) {
	conf := func(text string) *load {
		l := newLoad().service("bot.service", "[Service]\nExecStart=/bot\n", "file:/srv/bot/conf/x.conf").
			file("/srv/bot/conf/x.conf", text).key("token", "value of "+text).
			link("/srv/bot/conf/link", "/etc/"+text)
		l.Keys[0].User, l.Keys[0].Group = "nobody", "nogroup"
		return l
	}
	b, ended := underAttack(t, how, conf("one"))
	defer ended()
	pack := archive(t, "tar.gz", entry{name: "bot-1/bin/bot", text: "#!/bin/sh", mode: 0o755})
	rounds, done := 0, 0
	began := time.Now()
	enough := func() bool {
		took := time.Since(began)
		return took > 5*time.Minute || took > 3*time.Second && rounds >= 10
	}
	for ; !enough(); rounds++ {
		l := conf(fmt.Sprint("round ", rounds))
		if rounds%3 == 0 {
			l.pack("bot", pack, "tar.gz")
		}
		if rounds%4 < 2 {
			l.file("/srv/bot/conf/y.conf", "comes and goes") // what stood there returns
		}
		b.fail["bot.service"] = rounds%2 == 1 // it is his to break
		got, err := b.talk(l.offer(), l)
		if err != nil {
			t.Fatal(err)
		}
		if got.res.Outcome == bundle.OutcomeDone {
			done++
		}
		if taken := b.taken(); len(taken) > 0 {
			t.Fatalf("after round %d (%s %s) there is %q", rounds, got.res.Outcome, got.res.Error, taken)
		}
	}
	exchanges := ended()
	t.Logf("%d rounds, %d done, against %d exchanges", rounds, done, exchanges)
	if exchanges < 10 || rounds < 10 {
		t.Errorf("%d rounds against %d exchanges prove nothing", rounds, exchanges)
	}
}

// What is seen of a path is of one file: bytes, mode and owner.
func TestLookUnderAttack(t *testing.T) {
	b, ended := underAttack(t, atRandom, newLoad().file("/srv/bot/conf/x.conf", "root's"))
	defer ended()
	his := 0
	seen := bundle.DigestBytes(append([]byte(evil), make([]byte, evilSize-len(evil))...))
	for end := time.Now().Add(2 * time.Minute); his < 100 && time.Now().Before(end); {
		kind, digest, mode, user, err := host.Look(b.m, "/srv/bot/conf/x.conf")
		if err != nil || kind != "file" {
			continue
		}
		if digest == seen {
			his++
			if user == "root" {
				t.Fatalf("his bytes are seen as root's, mode %o", mode)
			}
		}
	}
	exchanges := ended()
	t.Logf("seen %d times, against %d exchanges", his, exchanges)
	if his < 20 || exchanges < 100 {
		t.Error("that proves nothing")
	}
}
