package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"bellhop/internal/lab"
	"bellhop/internal/lab/port"
)

// An idler is `bellhop serve` as its own process, with n hosts of this one that have a key
// each, so that it keeps a line to every one of them.
type idler struct {
	b     *testing.B
	pid   int
	admin string
}

func newIdler(b *testing.B, n int) *idler {
	dir := b.TempDir()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	bin := filepath.Join(dir, "bellhop")
	build := exec.Command("go", "build", "-o", bin, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	id, err := age.GenerateX25519Identity()
	must(err)
	state := filepath.Join(dir, "state")
	must(os.Mkdir(state, 0o700))
	must(os.WriteFile(filepath.Join(state, "identity.age"), []byte(id.String()+"\n"), 0o600))
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, id.Recipient())
	must(err)
	fmt.Fprint(w, "token")
	must(w.Close())
	rem := lab.NewRemote(filepath.Join(dir, "remote"))
	var y strings.Builder
	y.WriteString("network: idle\nall:\n  services: { bot: true }\nhosts:\n")
	for i := range n {
		name := fmt.Sprintf("h%02d", i)
		h, err := lab.NewHost(name, lab.NewMachine(filepath.Join(dir, name)))
		must(err)
		b.Cleanup(func() { h.Close() })
		fmt.Fprintf(&y, "  %s:\n    address: %s\n    host_key: %s\n    arch: amd64\n", name, h.Address(), h.HostKey())
	}
	rem.Commit(map[string]string{"bellhop.yaml": y.String(), "secrets/token.age": sealed.String(),
		"services/bot/service.yaml": "keys: [token]\n", "services/bot/bot.service": "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"}, "all", "")
	admin, release, err := port.Reserve()
	must(err)
	b.Cleanup(release)
	s := &idler{b: b, admin: admin}
	serve := exec.Command(bin, "serve", "--repo", rem.URL(), "--state-dir", state, "--listen", "off", "--admin", s.admin, "--admin-open", "--poll", "10m")
	var log bytes.Buffer
	serve.Stdout, serve.Stderr = &log, &log
	must(serve.Start())
	b.Cleanup(func() {
		serve.Process.Kill()
		serve.Wait()
		if b.Failed() {
			b.Logf("its log:\n%s", log.Bytes()[max(0, log.Len()-4000):])
		}
	})
	s.pid = serve.Process.Pid
	for end := time.Now().Add(2 * time.Minute); !s.current(n); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatalf("%d hosts are not all current", n)
		}
	}
	time.Sleep(5 * time.Second) // its first collection of garbage, its first keepalives
	return s
}

func (s *idler) current(n int) bool {
	resp, err := http.Get("http://" + s.admin + "/v1/status")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	var st struct{ Hosts []struct{ State string } }
	if json.NewDecoder(resp.Body).Decode(&st) != nil || len(st.Hosts) != n {
		return false
	}
	for _, h := range st.Hosts {
		if h.State != "current" {
			return false
		}
	}
	return true
}

// cpu is what all threads of the process have used so far, to the nanosecond.
func (s *idler) cpu() time.Duration {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", s.pid))
	var all time.Duration
	for _, f := range files {
		p, _ := os.ReadFile(f)
		var ns int64
		fmt.Sscan(string(p), &ns)
		all += time.Duration(ns)
	}
	return all
}

// rss is the process's resident memory in MiB.
func (s *idler) rss() float64 {
	p, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	_, rest, _ := strings.Cut(string(p), "VmRSS:")
	var kib float64
	fmt.Sscan(rest, &kib)
	return kib / 1024
}

// BenchmarkRatioIdle is no ratio: 50 hosts with keys and lines kept to all of them may cost
// less than a second of CPU an hour, measured for a minute, and 5 hosts less than 60 MiB.
func BenchmarkRatioIdle(b *testing.B) {
	few := newIdler(b, 5)
	if m := few.rss(); m >= 60 {
		b.Errorf("5 hosts: %.0f MiB, want less than 60", m)
	}
	b.ReportMetric(few.rss(), "MiB-5-hosts")
	s := newIdler(b, 50)
	before := s.cpu()
	if before == 0 {
		b.Skip("this kernel keeps no schedstat")
	}
	time.Sleep(time.Minute)
	hour := 60 * (s.cpu() - before)
	b.ReportMetric(hour.Seconds(), "s/hour-50-hosts")
	if hour >= time.Second {
		b.Errorf("50 idle hosts cost %v of CPU an hour, want less than 1 s", hour)
	}
}
