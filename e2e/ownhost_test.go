//go:build e2e

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// bellhop on a host that it manages: the deployer runs on host1, is a service of that host, and a push changes
// its own binary.

// ownUnit is bellhop as a service. The story is of the binary, so the sandbox of contrib/bellhop.service is left out.
const ownUnit = `[Unit]
Description=bellhop
After=network.target
[Service]
Type=notify
ExecStart=%s serve --repo /srv/config.git --state-dir /var/lib/bellhop-deployer --listen 127.0.0.1:8080 --admin off --poll 1s
Restart=on-failure
RestartSec=1s
TimeoutStopSec=60
[Install]
WantedBy=multi-user.target
`

// An ownHost is a fleet of the one host on which its deployer runs.
type ownHost struct {
	*world
	packages string // folder that is served to the host
	url      string
}

// newOwnHost walks the way of somebody who starts with a binary put there by hand.
func newOwnHost(t *testing.T) *ownHost {
	t.Helper()
	rig(t, "wipe", "host1")
	w := newDeployer(t)
	w.bellhop("init")
	w.bellhop("host", "add", "chrysalis", "root@"+addr("host1"))
	w.edit("bellhop.yaml", "  chrysalis:\n", "  chrysalis:\n    services: { bellhop: true }\n")
	w.stop()

	o := &ownHost{world: w, packages: t.TempDir()}
	o.serve()
	root := filepath.Join(rigDir(), "host1/root")
	w.sh("", "cp -a "+w.state+" "+root+"/var/lib/bellhop-deployer && rm -rf "+root+"/var/lib/bellhop-deployer/repo.git")
	w.sh("", "mkdir -p "+root+"/srv && cp -a "+w.bare+" "+root+"/srv/config.git && chown -R 0:0 "+root+"/srv/config.git "+root+"/var/lib/bellhop-deployer")
	w.sh(w.work, "git remote set-url origin "+root+"/srv/config.git")
	w.sh("", "install -m 755 "+bin+" "+root+"/usr/local/bin/bellhop")
	w.sh("", "cat >"+root+"/etc/systemd/system/bellhop.service <<'EOF'\n"+fmt.Sprintf(ownUnit, "/usr/local/bin/bellhop")+"EOF")
	on(t, "host1", "systemctl daemon-reload && systemctl enable -q --now bellhop")
	return o
}

// serve has the host fetch packages from here.
func (o *ownHost) serve() {
	l, err := net.Listen("tcp", machine+":0")
	if err != nil {
		o.t.Fatal(err)
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(o.packages))}
	go server.Serve(l)
	o.t.Cleanup(func() { server.Close() })
	o.url = "http://" + l.Addr().String()
}

// release packs a binary as a version of bellhop, and has the repo want it.
func (o *ownHost) release(version, binary string) (commit string) {
	o.t.Helper()
	name := "bellhop-" + version + ".tar.gz"
	dir := o.t.TempDir()
	o.sh("", "mkdir -p "+dir+"/bin && install -m 755 "+binary+" "+dir+"/bin/bellhop && tar -C "+dir+" -c bin | gzip -1 >"+filepath.Join(o.packages, name))
	data, err := os.ReadFile(filepath.Join(o.packages, name))
	if err != nil {
		o.t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	o.write(map[string]string{
		"services/bellhop/bellhop.service": fmt.Sprintf(ownUnit, "/opt/bellhop/bellhop/bin/bellhop"),
		"services/bellhop/service.yaml":    fmt.Sprintf("package: { url: %s/%s, sha256: %s, strip: 0 }\n", o.url, name, hex.EncodeToString(sum[:])),
	})
	return o.commit("bellhop " + version)
}

// ownStatus is what the bellhop of the host says of it; the zero value while it does not answer.
func ownStatus() (state, commit, error string) {
	var s status
	out, err := tryOn("host1", "/usr/local/bin/bellhop status --json --state-dir /var/lib/bellhop-deployer")
	if err != nil || json.Unmarshal([]byte(out), &s) != nil || len(s.Hosts) != 1 {
		return "", "", ""
	}
	h := s.Hosts[0]
	if h.Error != nil {
		error = *h.Error
	}
	return h.State, s.Commit, error
}

// waitOwn waits until the deployer on the host says that the host is in a state at a commit.
func (o *ownHost) waitOwn(state, commit string) {
	o.t.Helper()
	var is, at, why string
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if is, at, why = ownStatus(); is == state && at == commit {
			return
		}
	}
	log, _ := tryOn("host1", "journalctl -q -o cat -u bellhop -u bellhop-apply | tail -n 40")
	o.t.Fatalf("chrysalis is %s at %s (%s), want %s at %s\n%s", is, at, why, state, commit, log)
}

// outcomeOf is what came of the run of a commit, as the deployer there tells it.
func (o *ownHost) outcomeOf(commit string) (outcome, error string) {
	o.t.Helper()
	var h told
	out := on(o.t, "host1", "/usr/local/bin/bellhop history --json --state-dir /var/lib/bellhop-deployer")
	if err := json.Unmarshal([]byte(out), &h); err != nil {
		o.t.Fatalf("history: %v\n%s", err, out)
	}
	for _, r := range h.Runs {
		for _, host := range r.Hosts {
			if r.Commit != commit {
				continue
			}
			if host.Error != nil {
				error = *host.Error
			}
			if host.Outcome == "done" && r.Outcome != "done" {
				error = "the run as a whole is " + r.Outcome
				return r.Outcome, error
			}
			return host.Outcome, error
		}
	}
	return "", "no run of " + commit
}

// running is the digest of the binary that bellhop.service runs.
func running(t *testing.T) string {
	t.Helper()
	return strings.Fields(on(t, "host1", "sha256sum /proc/$(systemctl show -P MainPID bellhop)/exe"))[0]
}

func digestOf(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// A push replaces the binary of the deployer that deploys it. The run goes on without it, waits to be confirmed
// for two minutes at least, and the new bellhop confirms and ends it. A new binary that does not start is undone, and the
// old one tells why.
func TestBellhopUpgradesItself(t *testing.T) {
	o := newOwnHost(t)
	first := o.release("1", bin)
	o.waitOwn("current", first)
	if outcome, why := o.outcomeOf(first); outcome != "done" {
		t.Errorf("the run that brought bellhop as a service ended %s (%s), want done", outcome, why)
	}

	next := filepath.Join(t.TempDir(), "bellhop")
	o.sh("", "cp "+bin+" "+next+" && echo 2 >>"+next)
	began := time.Now()
	second := o.release("2", next)
	o.waitOwn("current", second)
	t.Logf("upgraded in %v", time.Since(began).Round(time.Millisecond))
	if outcome, why := o.outcomeOf(second); outcome != "done" {
		t.Errorf("the run of the upgrade ended %s (%s), want done", outcome, why)
	}
	if got, want := running(t), digestOf(t, next); got != want {
		t.Errorf("bellhop.service runs %s, want the new binary %s", got, want)
	}
	if got := on(t, "host1", "ls /var/lib/bellhop/journal 2>/dev/null; systemctl show -P NRestarts bellhop; systemctl is-active bellhop-apply; true"); !strings.HasPrefix(got, "0\ninactive") {
		t.Errorf("after the upgrade: %q, want no open journal, no restart by systemd, and nothing at work", got)
	}

	broken := filepath.Join(t.TempDir(), "bellhop")
	o.sh("", "printf '#!/bin/sh\\necho this one is broken\\nexit 1\\n' >"+broken)
	third := o.release("3", broken)
	o.waitOwn("rolled-back", third)
	if got, want := running(t), digestOf(t, next); got != want {
		t.Errorf("after a broken upgrade bellhop.service runs %s, want the one before %s", got, want)
	}
	if outcome, why := o.outcomeOf(third); outcome != "rolled-back" || !strings.Contains(why, "unit bellhop.service") {
		t.Errorf("the run of the broken upgrade ended %s (%s), want rolled-back, and the unit", outcome, why)
	}

	// and what is mended is brought by the one that was kept
	fourth := o.release("4", bin)
	o.waitOwn("current", fourth)
}
