package deploy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/crypto/ssh"

	"bellhop/deploy"
	"bellhop/deploy/commits"
	"bellhop/deploy/plan"
	"bellhop/deploy/routes"
	"bellhop/internal/confine"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/lab"
	"bellhop/internal/link"
	"bellhop/internal/nixos"
)

// The bench's hosts live in a second process, so that what is measured here is the deployer
// alone. That process is this test binary, told so by the environment.
const fleetEnv = "BELLHOP_BENCH_FLEET"

func TestMain(m *testing.M) {
	if nixos.IsSSH() { // Nix starts this binary as its ssh
		os.Exit(nixos.SSH(os.Args[1:], os.Stdin, os.Stdout))
	}
	if dir := os.Getenv(fleetEnv); dir != "" {
		serveFleet(dir)
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "load" { // the process of a loader, as the server has it
		in, err := confine.Enter(os.Args[2:])
		if err == nil {
			err = fleet.ServeLoader(in)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

type benchHost struct{ Addr, Key string }

const benchHosts = 1000

// serveFleet runs the hosts below dir until standard input ends.
func serveFleet(dir string) {
	out := json.NewEncoder(os.Stdout)
	for i := range benchHosts {
		h, err := lab.NewHost(fmt.Sprintf("h%04d", i), lab.NewMachine(filepath.Join(dir, fmt.Sprint(i))))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		out.Encode(benchHost{h.Address(), h.HostKey()})
	}
	io.Copy(io.Discard, os.Stdin)
}

// startFleet starts the second process on tmpfs and returns its hosts.
func startFleet(b *testing.B) []benchHost {
	dir, err := os.MkdirTemp("/dev/shm", "bellhop-bench-")
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fleetEnv+"="+dir)
	cmd.Stderr = os.Stderr
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
		os.RemoveAll(dir)
	})
	var hosts []benchHost
	for s := bufio.NewScanner(out); len(hosts) < benchHosts && s.Scan(); {
		var h benchHost
		if err := json.Unmarshal(s.Bytes(), &h); err != nil {
			b.Fatal(err)
		}
		hosts = append(hosts, h)
	}
	if len(hosts) != benchHosts {
		b.Fatalf("%d hosts came up, want %d", len(hosts), benchHosts)
	}
	return hosts
}

// cpu is what this process has used so far, user and system.
func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// rss is this process's resident memory in bytes.
func rss() int64 {
	debug.FreeOSMemory()
	p, _ := os.ReadFile("/proc/self/statm")
	var size, resident int64
	fmt.Sscan(string(p), &size, &resident)
	return resident * int64(os.Getpagesize())
}

// fleetWorld is one deployer for the bench's hosts.
type fleetWorld struct {
	b      *testing.B
	hosts  []benchHost
	signer ssh.Signer
	db     *history.DB
	loader *fleet.Loader
	pool   *link.Pool
	yaml   string
	n      int
}

func newFleetWorld(b *testing.B) *fleetWorld {
	w := &fleetWorld{b: b, hosts: startFleet(b), loader: &fleet.Loader{}}
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	w.signer, _ = ssh.NewSignerFromKey(key)
	db, err := history.Open(filepath.Join(b.TempDir(), "bellhop.db"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	w.db = db
	var y strings.Builder
	y.WriteString("network: bench\nconfirm: 0s\nrollout: { parallel: 64 }\nall:\n  services: { web: true }\nhosts:\n")
	for i, h := range w.hosts {
		fmt.Fprintf(&y, "  h%04d:\n    address: %s\n    host_key: %s\n    arch: amd64\n", i, h.Addr, h.Key)
	}
	w.yaml = y.String()
	w.open()
	return w
}

// open starts with no connection.
func (w *fleetWorld) open() {
	if w.pool != nil {
		w.pool.Close()
	}
	w.pool = link.NewPool(link.Config{Signers: func() ([]ssh.Signer, error) { return []ssh.Signer{w.signer}, nil }, Helper: noHelper})
}

// deploy changes one file of ten on every host, and returns the CPU that took.
func (w *fleetWorld) deploy() time.Duration {
	w.b.Helper()
	w.n++
	tree := fstest.MapFS{"bellhop.yaml": {Data: []byte(w.yaml)}}
	for i := range 10 {
		tree[fmt.Sprintf("services/web/files/etc/web/%d", i)] = &fstest.MapFile{Data: bytes.Repeat([]byte(fmt.Sprint(i)), 1400), Mode: 0o644}
	}
	tree["services/web/files/etc/web/0"].Data = append(tree["services/web/files/etc/web/0"].Data, fmt.Sprint(w.n)...)
	snap := commits.Snapshot{Commit: fmt.Sprintf("%040x", w.n), Author: "bench", Subject: "one file", Tree: tree, Time: time.Now()}
	d := &deploy.Deployer{
		Source: commits.Source{Sync: func(context.Context) (commits.Snapshot, error) { return snap, nil }}, Loader: w.loader, Links: routes.Over(w.pool),
		History: w.db, ID: "SHA256:bench", BootID: "none", Cache: w.b.TempDir(), Log: slog.New(slog.DiscardHandler),
	}
	runtime.GC()
	began := cpu()
	r, err := d.Run(context.Background(), plan.Request{Cause: "bench"})
	took := cpu() - began
	if err != nil || *r.Outcome != "done" || len(r.Hosts) != benchHosts {
		w.b.Fatalf("run: %v: %+v", err, r.Outcome)
	}
	return took
}

// bare is the same without bellhop: x/crypto's handshake where no client is given, and one
// exec that carries as many bytes to and fro.
func (w *fleetWorld) bare(clients []*ssh.Client, n int64) ([]*ssh.Client, time.Duration) {
	w.b.Helper()
	cold := clients == nil
	if cold {
		clients = make([]*ssh.Client, len(w.hosts))
	}
	payload := make([]byte, n)
	rand.Read(payload)
	slots := make(chan struct{}, 64)
	var wg sync.WaitGroup
	runtime.GC()
	began := cpu()
	for i, h := range w.hosts {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if cold {
				key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(h.Key))
				if err != nil {
					w.b.Error(err)
					return
				}
				conn, err := net.Dial("tcp", h.Addr)
				if err != nil {
					w.b.Error(err)
					return
				}
				c, chans, reqs, err := ssh.NewClientConn(conn, h.Addr, &ssh.ClientConfig{User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(w.signer)},
					HostKeyCallback: ssh.FixedHostKey(key), HostKeyAlgorithms: []string{key.Type()}})
				if err != nil {
					w.b.Error(err)
					return
				}
				clients[i] = ssh.NewClient(c, chans, reqs)
			}
			s, err := clients[i].NewSession()
			if err != nil {
				w.b.Error(err)
				return
			}
			s.Stdin = bytes.NewReader(payload)
			if out, err := s.Output("cat"); err != nil || len(out) != len(payload) {
				w.b.Errorf("exec: %v, %d of %d bytes back", err, len(out), len(payload))
			}
		})
	}
	wg.Wait()
	return clients, cpu() - began
}

func median(ds []time.Duration) time.Duration {
	slices.Sort(ds)
	return ds[len(ds)/2]
}

// BenchmarkRatioFleet pushes one changed file of ten to 1,000 hosts in another process. The
// deployer's CPU stands against that of bare handshakes and execs of the same bytes, cold
// and warm, alternating, medians of nine; its memory is read with every line open.
//
// Warm, SSH itself is a third: of 0.39 ms a host, a profile gives 0.12 to x/crypto/ssh and its system calls, which is what a
// bare exec takes in all, 0.07 to the garbage collector, which marks a thousand connections once, 0.05 to history (a third of it SQLite), 0.04 to
// reading what the host says within its bounds, and the rest to the plan, the offer and the scheduler. So the limit is 3.5 where SSH alone is 1.
func BenchmarkRatioFleet(b *testing.B) {
	w := newFleetWorld(b)
	w.deploy() // everything is new
	before := w.pool.Stats().Total()
	w.deploy()
	after := w.pool.Stats().Total()
	// bytes of one warm push, half each way, since `cat` gives them back
	n := (after.BytesOut - before.BytesOut + after.BytesIn - before.BytesIn) / benchHosts / 2
	var coldBase, cold, warmBase, warm []time.Duration
	for range 9 {
		clients, took := w.bare(nil, n)
		coldBase = append(coldBase, took)
		_, took = w.bare(clients, n)
		warmBase = append(warmBase, took)
		for _, c := range clients {
			c.Close()
		}
		w.open()
		cold = append(cold, w.deploy())
		warm = append(warm, w.deploy())
	}
	memory := rss() >> 20
	if open := w.pool.Stats().Open; open != benchHosts {
		b.Errorf("%d lines stand, want %d", open, benchHosts)
	}
	report := func(name string, subject, base []time.Duration, limit float64) {
		ratio := float64(median(subject)) / float64(median(base))
		b.ReportMetric(ratio, name+"-ratio")
		b.Logf("%s: bellhop %v, bare %v of CPU, %d bytes each way a host", name, subject, base, n)
		if ratio > limit {
			b.Errorf("%s: %.2f × the CPU of bare handshake and exec, want at most %.1f ×", name, ratio, limit)
		}
	}
	report("cold", cold, coldBase, 2)
	report("warm", warm, warmBase, 3.5)
	b.ReportMetric(float64(memory), "MiB")
	if memory >= 150 {
		b.Errorf("%d MiB with %d connections open, want less than 150", memory, w.pool.Stats().Open)
	}
}
