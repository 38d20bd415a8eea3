package host_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"bellhop/internal/bundle"
)

// server answers the first two connections with 500 and all others with 200. Only the parts of
// Python are used that are there on a small host.
const server = `import socket
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", 8099))
s.listen(5)
n = 0
while True:
    c, _ = s.accept()
    c.recv(4096)
    n += 1
    status = b"500 No" if n <= BAD else b"200 OK"
    c.sendall(b"HTTP/1.0 " + status + b"\r\nContent-Length: 12\r\n\r\nno database\n")
    c.close()
`

// rigUnit is a bundle of one unit whose service is judged in a second.
func rigUnit(service string, settle time.Duration, probes ...bundle.Probe) *load {
	return newLoad().service("righealth.service", "[Service]\n"+service+"[Install]\nWantedBy=multi-user.target\n").judged("bot", settle, probes...)
}

// job has bellhop know that the unit ends by itself.
func job(l *load) *load {
	l.Units[0].Oneshot = true
	return l
}

func TestRigHealth(t *testing.T) {
	r := newRig(t)
	python := func(bad string) string {
		return "ExecStart=/usr/bin/python3 /etc/righealth.py\nRestart=no\n#" + bad + "\n"
	}
	web := func(bad string, probes ...bundle.Probe) *load {
		return rigUnit(python(bad), time.Second, probes...).file("/etc/righealth.py", strings.Replace(server, "BAD", bad, 1))
	}
	quick := func(p bundle.Probe) bundle.Probe { p.Interval, p.Grace = 200, 3000; return p }
	http := quick(bundle.Probe{HTTP: "http://127.0.0.1:8099/"})

	type story struct {
		name  string
		load  *load
		wrong string // "": it is done
		says  string // in the evidence
	}
	failing := []story{
		{"dies after 0.2 s", rigUnit("ExecStart=/bin/sh -c 'sleep 0.2; echo boom; exit 3'\n", time.Second), "it is failed (exit-code, status=3/NOTIMPLEMENTED)", "boom"},
		{"dies after 3 s", rigUnit("ExecStart=/bin/sh -c 'sleep 3; echo boom; exit 3'\n", 5*time.Second), "it is failed (exit-code, status=3/NOTIMPLEMENTED)", "boom"},
		{"a crash loop", rigUnit("ExecStart=/bin/sh -c 'sleep 0.3; echo boom; exit 3'\nRestart=always\nRestartSec=50ms\n", time.Second), "restarted", "boom"},
		{"ends by itself", rigUnit("ExecStart=/bin/sh -c 'sleep 0.2; echo bye'\n", time.Second), "its program ended by itself", "bye"},
		{"killed by a signal", rigUnit("ExecStart=/bin/sh -c 'sleep 0.2; kill -SEGV $$$$'\n", time.Second), "signal=SEGV", ""},
		{"a oneshot that fails", rigUnit("Type=oneshot\nExecStart=/bin/sh -c 'echo boom; exit 1'\n", time.Minute), "it is failed (exit-code, status=1/FAILURE)", "boom"},
		{"never ready", rigUnit("Type=notify\nExecStart=/bin/sleep 1000\nTimeoutStartSec=2\n", time.Second), "it did not say READY=1 within its TimeoutStartSec=2, as Type=notify asks", ""},
		{"a fork whose main process ends", rigUnit("Type=forking\nPIDFile=/run/righealth.pid\nExecStart=/bin/sh -c 'sleep 0.4 & echo $! >/run/righealth.pid; sleep 1000 & exit 0'\n", time.Second), "its program ended by itself", ""},
		{"does not answer well", web("1000", http), "probe http http://127.0.0.1:8099/: status 500, want 200", "no database"},
		{"does not listen", web("4", quick(bundle.Probe{TCP: "127.0.0.1:8098"})), "connection refused", ""},
		{"a command that fails", web("6", quick(bundle.Probe{Command: "echo not today; exit 4"})), "exit status 4", "not today"},
		{"a command that hangs", web("7", bundle.Probe{Command: "sleep 1000 & sleep 1000", Timeout: 300, Interval: 100, Grace: 500}), "it was not done within 300ms, and was killed", ""},
	}
	good := []story{
		{"a oneshot", job(rigUnit("Type=oneshot\nExecStart=/bin/true\n", time.Minute)), "", ""},
		{"a oneshot that remains", rigUnit("Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n", time.Minute), "", ""},
		{"a fork", rigUnit("Type=forking\nPIDFile=/run/righealth.pid\nExecStart=/bin/sh -c 'sleep 1000 & echo $! >/run/righealth.pid'\n", time.Second), "", ""},
		{"skipped", newLoad().service("righealth.service", "[Unit]\nConditionPathExists=/nowhere\n[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=multi-user.target\n"), "", ""},
		{"answers within its grace", web("2", http), "", ""},
		{"listens", web("3", quick(bundle.Probe{TCP: "127.0.0.1:8099"})), "", ""},
		{"a command as its user", web("5", quick(bundle.Probe{Command: `test "$(id -un)" = ops && test -z "$SSH_CONNECTION$DBUS_SESSION_BUS_ADDRESS" && test "$(pwd)" = /`, User: "ops"})), "", ""},
	}
	// What fails goes back to nothing. What is done takes the place of what was there.
	for _, tt := range append(failing, good...) {
		t.Run(tt.name, func(t *testing.T) {
			r.t = t
			outcome := bundle.OutcomeDone
			if tt.wrong != "" {
				outcome = bundle.OutcomeRolledBack
			}
			got := r.deploy(tt.load, outcome)
			if !strings.Contains(got.res.Error, tt.wrong) {
				t.Errorf("error %q, want %q in it", got.res.Error, tt.wrong)
			}
			if tt.wrong == "" {
				return
			}
			wantList(t, "failing", got.res.Failing, "bot")
			e := got.res.Evidence
			if len(e) != 1 || e[0].Service != "bot" {
				t.Fatalf("evidence %+v, want one thing of bot", e)
			}
			if tt.says != "" && !slices.ContainsFunc(e[0].Lines, func(l string) bool { return strings.Contains(l, tt.says) }) {
				t.Errorf("evidence %+v, want a line with %q", e[0], tt.says)
			}
			r.want("systemctl is-active righealth; systemctl --failed --no-legend --plain | wc -l; ls /etc/systemd/system/righealth.service 2>&1 | grep -c 'No such'; pgrep -xc sleep", "inactive\n0\n1\n0")
		})
	}
}

func TestRigSteps(t *testing.T) {
	r := newRig(t)
	sleeper := func(conf string, steps ...bundle.Step) *load {
		return newLoad().file("/etc/rigsteps", conf).service("rigsteps.service", "[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=multi-user.target\n", "file:/etc/rigsteps").
			steps("bot", steps...)
	}
	r.deploy(sleeper("one", bundle.Step{Command: "touch /run/rigsteps-never"}), bundle.OutcomeDone)
	r.want("ls /run/rigsteps-never 2>&1 | grep -c 'No such'", "1")
	r.sh("rm -f /tmp/rigsteps; touch /tmp/rigsteps; chown ops /tmp/rigsteps")

	// What is in the text does not matter, and the step sees what stands.
	odd := bundle.Step{User: "ops", Command: "echo \"$(id -un) $(cat /etc/rigsteps) %n ; \\$HOME=$HOME\" >>/tmp/rigsteps\necho 'a line'; # and a note"}
	r.deploy(sleeper("two", odd, bundle.Step{Command: "echo second $(wc -l </tmp/rigsteps) >>/tmp/rigsteps"}), bundle.OutcomeDone)
	r.want("cat /tmp/rigsteps", "ops one %n ; $HOME=/home/ops\nsecond 1")
	pid := r.sh("systemctl show -P MainPID rigsteps")

	got := r.deploy(sleeper("three", bundle.Step{Command: "echo no room; (sleep 1000 &); exit 5"}), bundle.OutcomeRefused)
	if got.res.Refused != bundle.RefusedBefore || !strings.Contains(got.res.Error, "exit status 5") {
		t.Errorf("refused for %q: %q", got.res.Refused, got.res.Error)
	}
	wantList(t, "failing", got.res.Failing, "bot")
	if e := got.res.Evidence; len(e) != 1 || !slices.Contains(e[0].Lines, "no room") {
		t.Errorf("evidence %+v, want what the step said", e)
	}
	began := time.Now()
	got = r.deploy(sleeper("three", bundle.Step{Command: "sleep 1000 & trap '' TERM; sleep 1000; sleep 1000", Timeout: 500}), bundle.OutcomeRefused)
	if !strings.Contains(got.res.Error, "it was not done within 500ms, and was killed") {
		t.Errorf("error %q, want that it was killed", got.res.Error)
	}
	t.Logf("one that does not heed the first signal: %v", time.Since(began))
	r.want("cat /etc/rigsteps; echo; systemctl show -P MainPID rigsteps; pgrep -xc sleep; systemctl --failed --no-legend --plain | wc -l; ls -A /run/bellhop", "two\n"+pid+"\n1\n0")

	// The process that waits for it is killed; the step goes on, and runs once.
	l := sleeper("four", bundle.Step{Command: "echo began >>/tmp/rigsteps; sleep 3; echo ended >>/tmp/rigsteps"})
	o := l.offer()
	o.Run = fmt.Sprintf("rig-%d", time.Now().UnixNano())
	end := make(chan told, 1)
	go func() {
		t, _ := r.session(o, l)
		end <- t
	}()
	r.until("systemctl is-active bellhop-before-bot", "activating")
	r.sh("systemctl kill -s KILL bellhop-apply.service")
	if got := <-end; got.res == nil || got.res.Outcome != bundle.OutcomeDone {
		t.Fatalf("result %+v", got.res)
	}
	r.want("tail -n +3 /tmp/rigsteps; cat /etc/rigsteps; echo; systemctl show -P LoadState bellhop-before-bot", "began\nended\nfour\nnot-found")
}
