package nixos_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"bellhop/internal/nixos"
)

// fetches is a flake with a host that is evaluated alone, and one whose configuration fetches something from url.
func fetches(url string) string {
	return fmt.Sprintf(`a = host { name = "cut-off"; };
	  b = { config = import (builtins.fetchTarball { url = %q; sha256 = "0000000000000000000000000000000000000000000000000000"; }); };`, url+"/x.tar.gz")
}

// countsRequests is a server on this machine, and how many requests reached it.
func countsRequests(t *testing.T) (url string, asked *atomic.Int64) {
	t.Helper()
	asked = &atomic.Int64{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.NotFound(w, nil)
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

// needNamespaces skips a test where no namespace can be made, as in a container without that right.
func needNamespaces(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("unshare", "--net", "true").CombinedOutput(); err != nil {
		t.Skipf("needs the right to make a network namespace: %s", out)
	}
}

// An evaluation that is cut off reaches nothing, not even this machine; one that fetches nothing is as good as any.
func TestCutOffEvaluationHasNoNetwork(t *testing.T) {
	needNix(t)
	needNamespaces(t)
	url, asked := countsRequests(t)
	tree := flake(fetches(url))

	n, _ := newNix(t)
	n.CutOff = true
	e, err := n.Systems(t.Context(), source(t, tree), asks("a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	if a := e.Systems["a"]; a.Err != "" || !nixos.IsStorePath(a.Out) {
		t.Errorf("a came to %+v", a)
	}
	if b := e.Systems["b"]; b.Err == "" {
		t.Errorf("b came to %+v, want an error: it fetches", b)
	}
	if got := asked.Load(); got != 0 {
		t.Errorf("%d requests reached the server", got)
	}

	free, _ := newNix(t) // the same with a network: the test can fail
	found, err := free.Systems(t.Context(), source(t, tree), asks("b"))
	if err != nil {
		t.Fatal(err)
	}
	if asked.Load() == 0 {
		t.Errorf("no request of an evaluation with a network reached the server, so this test tells nothing: %+v", found.Systems["b"])
	}
}

// A worker cuts off too.
func TestWorkerCutsOff(t *testing.T) {
	n, _ := withWorker(t)
	needNamespaces(t)
	n.CutOff = true
	url, asked := countsRequests(t)
	e, err := n.Systems(t.Context(), source(t, flake(fetches(url))), asks("a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	if e.Systems["a"].Err != "" || e.Systems["b"].Err == "" || asked.Load() != 0 {
		t.Errorf("a and b came to %+v after %d requests, want a alone and none", e.Systems, asked.Load())
	}
}

// A worker of a former release would evaluate with its network: it is not asked.
func TestAFormerWorkerIsNotAskedToCutOff(t *testing.T) {
	needNix(t)
	n, _ := newNix(t)
	n.CutOff, n.Worker = true, formerWorker(t)
	_, err := n.Systems(t.Context(), source(t, flake(`a = host { name = "a"; };`)), asks("a"))
	if err == nil {
		t.Fatal("it was asked")
	}
	if !strings.Contains(err.Error(), "can't cut an evaluation off from the network") {
		t.Errorf("the error is %v", err)
	}
}

// formerWorker is the socket of a worker that says hello as the release before did, and must hear nothing.
func formerWorker(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Skip(err)
	}
	heard := make(chan int64, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			heard <- 0
			return
		}
		defer c.Close()
		hello := `{"v":1,"dir":"/tmp/tree"}`
		_, _ = c.Write(append(binary.BigEndian.AppendUint32([]byte{'h'}, uint32(len(hello))), hello...))
		n, _ := io.Copy(io.Discard, c)
		heard <- n
	}()
	t.Cleanup(func() {
		l.Close()
		if n := <-heard; n > 0 {
			t.Errorf("%d bytes were sent to it", n)
		}
	})
	return path
}
