package nixos_test

import (
	"context"
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"bellhop/internal/nixos"
)

// withWorker is a Nix whose evaluations and builds are done by a worker. BELLHOP_TEST_NIX_WORKER names the socket of one
// that systemd starts; without it this process is the worker.
func withWorker(t *testing.T) (n *nixos.Nix, started *[]string) {
	t.Helper()
	needNix(t)
	n, started = newNix(t)
	if n.Worker = os.Getenv("BELLHOP_TEST_NIX_WORKER"); n.Worker != "" {
		return n, started
	}

	dir, err := os.MkdirTemp("", "worker") // short: the path of a socket has 107 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	n.Worker = filepath.Join(dir, "socket")
	l, err := net.Listen("unix", n.Worker)
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer c.Close()
				_ = nixos.ServeWorker(context.Background(), c, dir) // who asked sees what went wrong
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		work.Wait()
		os.RemoveAll(dir)
	})
	return n, started
}

// withoutRoots has what the worker alone may start.
func withoutRoots(started []string) []string {
	return slices.DeleteFunc(slices.Clone(started), func(s string) bool { return filepath.Base(s) == "nix-store" })
}

// A worker evaluates and builds, and what comes of it is what comes without one.
func TestWorker(t *testing.T) {
	n, started := withWorker(t)
	tree := flake(`a = host { name = "worked"; }; thrown = { config = throw "the disk is too small"; };
	  bad = host { name = "bad"; fails = "echo it does not work; exit 3;"; };
	  text = { config = (host { name = "t"; }).config // { deployment.keys.k.text = "hunter2"; }; };`)
	s := source(t, tree)
	e, err := n.Systems(t.Context(), s, asks("a", "thrown", "bad", "text"))
	if err != nil {
		t.Fatal(err)
	}
	if got := e.Systems["thrown"]; !strings.Contains(got.Err, "the disk is too small") {
		t.Errorf("thrown came to %+v", got)
	}
	failures, err := n.Build(t.Context(), map[string]nixos.System{"a": e.Systems["a"], "bad": e.Systems["bad"]})
	if err != nil {
		t.Fatal(err)
	}
	if !nixos.Has(e.Systems["a"].Out) {
		t.Errorf("a was not built: %+v", failures)
	}
	if bad := failures["bad"]; bad == nil || !slices.Contains(bad.Lines, "it does not work") {
		t.Errorf("bad failed with %+v", bad)
	}
	texts, err := n.Texts(t.Context(), s, asks("text"))
	if err != nil || texts["text"]["k"] != "hunter2" {
		t.Errorf("texts are %q, %v", texts, err)
	}
	for _, program := range withoutRoots(*started) {
		if program != n.Worker {
			t.Errorf("%s was started by this user", program)
		}
	}
}

// What the worker's user may not read, no configuration can read, whatever it tries.
func TestWorkerSeesNoState(t *testing.T) {
	if os.Getenv("BELLHOP_TEST_NIX_WORKER") == "" {
		t.Skip("BELLHOP_TEST_NIX_WORKER names no worker of another user")
	}
	n, _ := withWorker(t)
	state := os.Getenv("BELLHOP_TEST_STATE") // a folder with a file secret
	tree := flake(`a = host { name = "reads"; fails = "cat ` + state + `/secret && exit 0; id -u; ls ` + state + `; exit 3;"; };`)
	e, err := n.Systems(t.Context(), source(t, tree), asks("a"))
	if err != nil {
		t.Fatal(err)
	}
	failures, err := n.Build(t.Context(), e.Systems)
	if err != nil || failures["a"] == nil {
		t.Fatalf("Build: %+v, %v", failures, err)
	}
	secret, err := os.ReadFile(state + "/secret")
	if err != nil {
		t.Fatal(err)
	}
	said := strings.Join(failures["a"].Lines, "\n")
	if strings.Contains(said, strings.TrimSpace(string(secret))) || !strings.Contains(said, "Permission denied") && !strings.Contains(said, "No such file") {
		t.Errorf("the builder says:\n%s", said)
	}
	t.Logf("the builder says:\n%s", said)
}

// Who hangs up leaves nothing behind, and a limit holds.
func TestWorkerEnds(t *testing.T) {
	n, _ := withWorker(t)
	e, err := n.Systems(t.Context(), source(t, flake(`a = host { name = "sleeps"; fails = "sleep 1000;"; };`)), asks("a"))
	if err != nil {
		t.Fatal(err)
	}
	n.BuildTimeout = time.Second
	failures, err := n.Build(t.Context(), e.Systems)
	if err != nil || failures["a"] == nil || !strings.Contains(failures["a"].Text, "took longer than") {
		t.Errorf("a build without an end: %+v, %v", failures["a"], err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	n.BuildTimeout = time.Hour
	n.ForgetFailures()
	n.Started = func([]string) { cancel() }
	if _, err := n.Build(ctx, e.Systems); err == nil {
		t.Error("a build that was cancelled has no error")
	}
}

// A worker that is there and does not answer is an error: nothing is evaluated as this user instead.
func TestWorkerThatIsBroken(t *testing.T) {
	needNix(t)
	n, started := newNix(t)
	n.Worker = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", n.Worker)
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("hello, this is no worker"))
			c.Close()
		}
	}()
	_, err = n.Systems(t.Context(), source(t, flake(`a = host { name = "a"; };`)), asks("a"))
	if err == nil || !strings.Contains(err.Error(), "worker of Nix") {
		t.Errorf("a worker that speaks nonsense: %v", err)
	}
	if len(*started) != 1 {
		t.Errorf("it started %q", *started)
	}
}

// A worker that can't write the tree hangs up before it has read it, and what it said is told.
func TestWorkerThatCannotTakeTheTree(t *testing.T) {
	needNix(t)
	n, _ := newNix(t)
	n.Worker = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", n.Worker)
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	frame := func(kind byte, text string) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(text))), text...)
	}
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		c.Write(frame('h', `{"v":1,"dir":"/tmp/tree"}`))
		c.Read(make([]byte, 4))
		c.Write(frame('x', `{"text":"write the tree: no space left on device","code":-1}`))
	}()

	tree := flake(`a = host { name = "a"; };`)
	tree["large"] = &fstest.MapFile{Data: make([]byte, 4<<20), Mode: 0o644}
	_, err = n.Systems(t.Context(), source(t, tree), asks("a"))
	if err == nil || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("a worker whose disk is full: %v", err)
	}
}

// FuzzWorker has strangers talk to a worker, and a worker talk to bellhop.
func FuzzWorker(f *testing.F) {
	ask := func(text string) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
	}
	f.Add(ask(`{"expr":"1","seconds":1}`))
	f.Add(ask(`{"drvs":["/nix/store/0ajz40m7nklbncf2czaz0iinq4frg726-x.drv"],"seconds":1}`))
	f.Add(ask(`{"drvs":["--option"],"seconds":1}`))
	f.Add([]byte("h\x00\x00\x00\x18{\"v\":1,\"dir\":\"/tmp/tree\"}"))
	f.Add([]byte("o\x00\x00\x00\x01ax\x00\x00\x00\x02{}"))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, said []byte) { nixos.FuzzedWorker(t, said) })
}
