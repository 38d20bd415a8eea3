//go:build e2e

// Package e2e tells the stories of bellhop on real hosts: a rig of Debian machines with
// systemd and sshd (rig/rig), the real binary as its users start it, a config repo made
// with git, and deliveries signed as GitHub signs them. It needs root.
package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bellhop/internal/lab/port"
)

// lane says which of the rig's sets of hosts the tests have: "" is the first.
var lane = os.Getenv("BELLHOP_RIG_LANE")

// bellhop is the binary under test, built once; bot is the withinbot package.
var bin, botTar string

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "e2e needs root: it boots hosts")
		os.Exit(1)
	}
	dir, err := os.MkdirTemp("", "bellhop-e2e-")
	if err != nil {
		panic(err)
	}
	bin, botTar = filepath.Join(dir, "bellhop"), filepath.Join(dir, "withinbot.tar.gz")
	must(sh("", "cd .. && CGO_ENABLED=0 go build -o "+bin+" ./cmd/bellhop"))
	must(sh("", "mkdir -p "+dir+"/bot/bin "+dir+"/bot/campaigns && CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "+dir+"/bot/bin/withinbot ./withinbot"+
		" && printf 'a printer has no feelings\\nthe paper is always wrong\\n' >"+dir+"/bot/campaigns/facts.txt"+
		" && tar -C "+dir+"/bot -czf "+botTar+" ."))
	must(sh("", "rig/rig up 3"))
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func must(out string, err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, out, err)
		os.Exit(1)
	}
}

// sh runs a shell line in dir and returns what it printed on both outputs.
func sh(dir, line string) (string, error) {
	cmd := exec.Command("bash", "-c", line)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// on runs a command on a rig host and returns its output; a failure fails the test.
func on(t testing.TB, host, cmd string) string {
	t.Helper()
	out, err := tryOn(host, cmd)
	if err != nil {
		t.Fatalf("on %s: %s: %v\n%s", host, cmd, err, out)
	}
	return out
}

func tryOn(host, cmd string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "rig/rig", "ssh", host, cmd).CombinedOutput()
	return strings.TrimRight(string(out), "\n"), err
}

// ofThisMachine is limit, and more where a login takes long by itself.
func ofThisMachine(t testing.TB, host string, limit time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	on(t, host, "true")
	return limit + 10*time.Since(began)
}

func rig(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("rig/rig", args...).CombinedOutput(); err != nil {
		t.Fatalf("rig %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func addr(host string) string {
	out, _ := exec.Command("rig/rig", "addr", host).Output()
	return strings.TrimSpace(string(out))
}

// eventually waits until what holds; it asks often. limit is ample on a machine that does nothing else; one that
// is slow or busy has six times as long, which costs nothing when all is well.
func eventually(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	limit *= 6
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("after %s still not: %s", limit, what)
}

// A world is one deployer, one config repo, and the rig's hosts.
type world struct {
	t      testing.TB
	state  string // the deployer's state directory
	work   string // a person's working copy
	bare   string // the repo that the deployer pulls
	listen string
	admin  string
	env    []string
	flags  []string // of serve, beside those that every test has
	serve  *exec.Cmd
	log    *lockedBuffer
	exited chan struct{}
}

type lockedBuffer struct {
	mu     sync.Mutex
	b      bytes.Buffer
	awaits func(line []byte) bool // what closes heard
	heard  chan struct{}
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.awaits != nil && b.awaits(p) {
		close(b.heard)
		b.awaits = nil
	}
	return b.b.Write(p)
}

// await gives a channel that is closed when a line comes that is such a one.
func (b *lockedBuffer) await(is func(line []byte) bool) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.awaits, b.heard = is, make(chan struct{})
	return b.heard
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// hosts are the names in the config repo, and the rig's machines behind them.
var hosts = map[string]string{"chrysalis": "host1", "lufta": "host2", "kos-mos": "host3"}

// newWorld gives fresh disks to the rig's hosts, starts a server on an empty state
// directory and walks the first day: serve, init, host add for all three.
func newWorld(t testing.TB) *world {
	t.Helper()
	wipe(t)
	w := newDeployer(t)
	w.firstDay()
	return w
}

// wipe gives fresh disks to all hosts of the rig.
func wipe(t testing.TB) {
	t.Helper()
	var wg sync.WaitGroup
	for _, h := range hosts {
		wg.Go(func() { rig(t, "wipe", h) })
	}
	wg.Wait()
}

// newDeployer makes an empty repo and starts a server for it, with no host known.
func newDeployer(t testing.TB) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t, state: filepath.Join(dir, "state"), work: filepath.Join(dir, "work"), bare: filepath.Join(dir, "config.git"),
		listen: freeAddr(t), admin: freeAddr(t)}
	w.sh("", "git init -q --bare -b main "+w.bare+" && git clone -q "+w.bare+" "+w.work+" 2>/dev/null; cd "+w.work+" && git checkout -q -b main 2>/dev/null; git config user.name cadey && git config user.email cadey@example.com")
	// your own ssh, as a person has it set up for the machines at home
	home := filepath.Join(dir, "home")
	w.sh("", "mkdir -p -m 700 "+home+"/.ssh && ssh-keygen -q -t ed25519 -N '' -f "+home+"/.ssh/own")
	wrapper := filepath.Join(dir, "bin", "ssh")
	w.sh("", "mkdir -p "+dir+"/bin && printf '#!/bin/sh\\nexec /usr/bin/ssh -i "+rigDir()+"/id -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile="+home+"/.ssh/known_hosts \"$@\"\\n' >"+wrapper+" && chmod +x "+wrapper)
	w.env = append(os.Environ(), "HOME="+home, "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	w.start()
	t.Cleanup(func() {
		w.stop()
		if t.Failed() {
			t.Logf("server's log:\n%s", w.log)
		}
	})
	return w
}

// freeAddr is an address that nobody else is given while the test runs.
func freeAddr(t testing.TB) string {
	t.Helper()
	addr, release, err := port.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return addr
}

func (w *world) sh(dir, line string) string {
	w.t.Helper()
	out, err := sh(dir, line)
	if err != nil {
		w.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return out
}

// start runs `bellhop serve` until the health check answers.
func (w *world) start(more ...string) {
	w.t.Helper()
	for range 3 {
		if w.startOnce(more...) {
			return
		}
		w.t.Logf("serve ended at once:\n%s", w.log)
		w.listen, w.admin = freeAddr(w.t), freeAddr(w.t)
	}
	w.t.Fatal("serve does not start")
}

func (w *world) startOnce(more ...string) bool {
	w.t.Helper()
	args := append([]string{"serve", "--repo", w.bare, "--state-dir", w.state, "--listen", w.listen, "--admin", w.admin, "--poll", "1h"}, slices.Concat(w.flags, more)...)
	w.serve = exec.Command(bin, args...)
	w.serve.Env = w.env
	w.log = &lockedBuffer{}
	w.serve.Stdout, w.serve.Stderr = w.log, w.log
	if err := w.serve.Start(); err != nil {
		w.t.Fatal(err)
	}
	exited := make(chan struct{})
	w.exited = exited
	cmd := w.serve
	go func() { cmd.Wait(); close(exited) }()
	ended := false
	eventually(w.t, 20*time.Second, "GET /healthz is 200", func() bool {
		select {
		case <-exited:
			ended = true
			return true
		default:
		}
		resp, err := http.Get("http://" + w.listen + "/healthz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == 200
	})
	return !ended
}

// stop sends SIGTERM and waits for the end.
func (w *world) stop() {
	if w.serve == nil || w.serve.Process == nil {
		return
	}
	w.serve.Process.Signal(syscall.SIGTERM)
	select {
	case <-w.exited:
	case <-time.After(70 * time.Second):
		w.serve.Process.Kill()
		w.t.Errorf("serve did not end within 70 s of SIGTERM")
		<-w.exited
	}
	w.serve = nil
}

// kill is kill -9.
func (w *world) kill() {
	w.serve.Process.Kill()
	<-w.exited
	w.serve = nil
}

// bellhop runs the command line in the working copy; try returns its exit code too.
func (w *world) bellhop(args ...string) string {
	w.t.Helper()
	out, code := w.try(args...)
	if code != 0 {
		w.t.Fatalf("bellhop %s: exit %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

func (w *world) try(args ...string) (string, int) {
	return w.tryIn(nil, args...)
}

func (w *world) tryIn(stdin io.Reader, args ...string) (string, int) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Dir = w.work
	cmd.Env = append(w.env, "BELLHOP_STATE_DIR="+w.state, "BELLHOP_REPO="+w.bare)
	cmd.Stdin = stdin
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		w.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// firstDay is DESIGN's first day, after serve: init, host add, nothing pushed yet.
func (w *world) firstDay() {
	w.t.Helper()
	w.bellhop("init")
	w.edit("bellhop.yaml", "network:", "rollout: { waves: [] } # the stories are not about the order of hosts\nnetwork:")
	for name, h := range hosts {
		w.bellhop("host", "add", name, "root@"+addr(h))
	}
}

// status is `bellhop status --json`, as its contract has it.
type status struct {
	V       int    `json:"v"`
	Network string `json:"network"`
	Commit  string `json:"commit"`
	Hosts   []struct {
		Name       string  `json:"name"`
		State      string  `json:"state"`
		Commit     *string `json:"commit"`
		Generation *int64  `json:"generation"`
		Error      *string `json:"error"`
		BootID     *string `json:"boot_id"`
		Keys       *struct {
			Expected int `json:"expected"`
			Present  int `json:"present"`
		} `json:"keys"`
	} `json:"hosts"`
}

func (w *world) status() status {
	w.t.Helper()
	var s status
	out := w.bellhop("status", "--json")
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		w.t.Fatalf("status --json: %v\n%s", err, out)
	}
	return s
}

func (s status) state(host string) string {
	for _, h := range s.Hosts {
		if h.Name == host {
			return h.State
		}
	}
	return ""
}

// waitCurrent waits until the top commit is c and all hosts are current.
func (w *world) waitCurrent(c string) {
	w.t.Helper()
	var last status
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		last = w.status()
		ok := last.Commit == c && len(last.Hosts) > 0
		for _, h := range last.Hosts {
			ok = ok && h.State == "current"
		}
		if ok {
			return
		}
	}
	b, _ := json.MarshalIndent(last, "", "  ")
	w.t.Fatalf("commit %s does not stand everywhere: %s", c, b)
}

// waitState waits until the top commit is c and host is in state.
func (w *world) waitState(c, host, state string) {
	w.t.Helper()
	var s status
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if s = w.status(); s.Commit == c && s.state(host) == state {
			return
		}
	}
	b, _ := json.MarshalIndent(s, "", "  ")
	w.t.Fatalf("%s is not %s at %s: %s", host, state, c, b)
}

// journal reads a host's journal from outside, so that the question is in no answer.
func journal(t testing.TB, host string, match ...string) string {
	t.Helper()
	args := append([]string{"-D", filepath.Join(rigDir(), host, "root/var/log/journal"), "-q", "-o", "cat"}, match...)
	out, err := exec.Command("journalctl", args...).Output()
	if err != nil {
		t.Fatalf("journal of %s: %v", host, err)
	}
	return string(out)
}

// sessions counts the sessions that sshd of a host has ever started.
func sessions(t testing.TB, host string) int {
	t.Helper()
	return strings.Count("\n"+journal(t, host, "_COMM=sshd"), "\nStarting session")
}

// starts counts how often systemd of a host has ever started a unit.
func starts(t testing.TB, host, unit string) int {
	t.Helper()
	return strings.Count("\n"+journal(t, host, "_PID=1", "UNIT="+unit), "\nStarted ")
}

func rigDir() string {
	dir := cmp.Or(os.Getenv("BELLHOP_RIG"), "/var/tmp/bellhop-rig")
	if lane != "" {
		dir = filepath.Join(dir, "lane"+lane)
	}
	return dir
}

// getAdmin asks the admin listener, with the token of the state directory.
func (w *world) getAdmin(path string) (*http.Response, error) {
	token, err := os.ReadFile(filepath.Join(w.state, "admin-token"))
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest("GET", "http://"+w.admin+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	return http.DefaultClient.Do(req)
}
