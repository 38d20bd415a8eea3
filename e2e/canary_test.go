//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bellhop/internal/lab/canary"
)

// Promise 7 on real hosts: random secrets go through success and every failure; afterwards all
// outputs, the state directory, temp directories, arguments and environments of both sides, and
// the hosts' disks, /run and journals are searched. What a program is given is its own: the
// reader writes its key to a file, the leaky one prints it into its journal, and systemd puts
// an EnvironmentFile= into the environment of the unit that asked for it. Those are left out,
// by name, and nothing else is.

// leaky prints its environment and its key, and dies.
const leakyUnit = `[Service]
EnvironmentFile=/run/keys/leaky
ExecStart=/bin/sh -c 'env; cat /run/keys/leaky; cat /run/keys/leaky >&2; exit 3'
[Install]
WantedBy=multi-user.target
`

const ownDoing = "leaky.service"

func TestCanaries(t *testing.T) {
	w := newWorld(t)
	w.stop()
	tmp := t.TempDir()
	w.env = append(w.env, "TMPDIR="+tmp)
	traces := filepath.Join(tmp, "trace.json")
	start := func() { w.start("--log-level", "debug", "--trace", traces) }
	start()
	one, two, leaky, sealed, oops := canary.New("one"), canary.New("two"), canary.New("leaky"), canary.New("sealed"), canary.New("oops")
	all := canary.NewSweep(one, two, leaky, sealed, oops)
	stopLooking := all.Processes(ownDoing)
	var outputs bytes.Buffer
	say := func(args ...string) {
		out, _ := w.try(args...)
		outputs.WriteString(out)
	}

	w.writeKeys()
	w.write(map[string]string{
		"services/reader/service.yaml":                 "user: { name: reader, home: /srv/reader }\nkeys: { reader: {}, boxed: { persist: sealed } }\n",
		"services/reader/files/etc/reader.json.tmpl":   `{"password": {{ key "boxed" | json }}}`,
		"services/reader/files/etc/reader/public.conf": "nothing secret\n",
	})
	w.secret("reader", one.Value)
	w.secret("boxed", sealed.Value)
	w.push("canaries")
	w.secret("reader", two.Value)
	say("plan")
	say("plan", "--json")
	w.push("another value")

	// the deployer is killed in the middle of a push, and begins again
	w.secret("reader", one.Value)
	c := w.commit("killed meanwhile")
	w.deliver(c)
	eventually(t, 20*time.Second, "the push has begun", func() bool { return w.status().state("lufta") == "deploying" || w.status().Commit == c })
	outputs.WriteString(w.log.String())
	w.kill()
	start()
	w.waitCurrent(c)

	// a unit that prints its environment and dies
	w.write(map[string]string{"services/leaky/leaky.service": leakyUnit, "services/leaky/service.yaml": "keys: [leaky]\n"})
	w.enable("kos-mos", "idle: true", "leaky: true")
	w.secret("leaky", "LEAK='"+leaky.Value+"'\n")
	c = w.commit("a unit that prints its environment and dies")
	w.deliver(c)
	w.waitState(c, "kos-mos", "rolled-back")
	if !strings.Contains(journal(t, "host3", "_SYSTEMD_UNIT="+ownDoing), leaky.Value) {
		t.Error("the unit printed nothing: its journal proves nothing")
	}

	// a secret that does not open, a plaintext one
	w.sh(w.work, "age-keygen -o other.key 2>/dev/null && age -r $(age-keygen -y other.key) -o secrets/leaky.age services/leaky/leaky.service && rm other.key")
	c = w.commit("a secret for somebody else")
	w.deliver(c)
	w.waitState(c, "kos-mos", "refused")
	w.write(map[string]string{"secrets/oops.age": oops.Value + "\n"})
	c = w.commit("plaintext")
	w.deliver(c)
	w.waitState(c, "chrysalis", "refused")
	say("secret", "verify")
	say("check")
	w.sh(w.work, "git rm -qf secrets/oops.age secrets/leaky.age && rm -rf services/leaky")
	w.enable("kos-mos", "idle: true")
	w.push("mended")

	// a host that is away, and keys that come back after its reboot
	rig(t, "reboot", "host2")
	eventually(t, 60*time.Second, "the keys are back", func() bool {
		out, _ := tryOn("host2", "test -f /run/keys/reader && test -f /run/keys/boxed && systemctl is-active reader.service")
		return out == "active"
	})

	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"history"}, {"history", "--json"}, {"key", "status"}, {"key", "status", "--json"}, {"secret", "list"}, {"secret", "who"},
		{"plan"}, {"plan", "--offline", "."}, {"secret", "show", "reader", "--identity", "/nonexistent"}, {"deploy", "--all"}, {"ring", "--follow"}, {"webhook", "list"}, {"doctor"}} {
		say(args...)
	}
	for _, path := range []string{"/", "/metrics", "/readyz", "/v1/status", "/v1/history", "/debug/pprof/heap"} {
		resp, err := w.getAdmin(path)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(&outputs, resp.Body)
		resp.Body.Close()
	}
	w.wantUndumpable()
	w.serve.Process.Signal(syscall.SIGQUIT) // what a panic prints: all stacks
	<-w.exited
	w.serve = nil
	if !strings.Contains(w.log.String(), "goroutine ") {
		t.Error("SIGQUIT printed no stacks")
	}
	outputs.WriteString(w.log.String())
	stopLooking()

	wantTrace(t, traces, "wait", "store", "health")
	wantTrace(t, traces+".1", "load", "wait") // of the server that was killed
	all.Look("an output", outputs.Bytes())
	all.Tree(tmp, nil)
	clone := filepath.Join(w.state, "repo.git")
	all.Tree(w.state, func(p string) bool { return p == clone })
	for _, h := range hosts {
		sweepHost(t, all, h)
	}
	for _, f := range all.Found() {
		t.Error(f)
	}
	// Of the clone, only the value that was pushed in the clear may be known.
	git := canary.NewSweep(one, two, leaky, sealed)
	git.Tree(clone, nil)
	for _, f := range git.Found() {
		t.Error(f)
	}
	pushed := canary.NewSweep(oops)
	pushed.Tree(clone, nil)
	if len(pushed.Found()) == 0 {
		t.Error("the value that was pushed in the clear is not found in the clone: the sweep sees nothing in packs")
	}
	for name, h := range hosts {
		if out := on(t, h, "ls -A /run/keys 2>/dev/null | grep '^\\.' || true"); out != "" {
			t.Errorf("%s: left in /run/keys: %s", name, out)
		}
	}
	files, samples, n := all.Seen()
	t.Logf("%d bytes of output, %d files, %d bytes in all, %d samples of arguments and environments", outputs.Len(), files, n, samples)
	if outputs.Len() < 10_000 || files < 100 || samples < 10_000 {
		t.Errorf("the sweep looked at too little")
	}
}

// wantTrace looks for spans in a trace, which must be JSON however its server ended.
func wantTrace(t *testing.T, path string, names ...string) {
	t.Helper()
	var spans []struct{ Name string }
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &spans)
	}
	if err != nil {
		t.Errorf("the trace: %v", err)
	}
	for _, name := range names {
		if !slices.ContainsFunc(spans, func(s struct{ Name string }) bool { return s.Name == name }) {
			t.Errorf("%s has no span %s, of %d events", path, name, len(spans))
		}
	}
}

// wantUndumpable looks at the server's limits: nothing of its memory is ever written to a file.
func (w *world) wantUndumpable() {
	w.t.Helper()
	limits, err := os.ReadFile("/proc/" + strconv.Itoa(w.serve.Process.Pid) + "/limits")
	if err != nil {
		w.t.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		if f := strings.Fields(line); strings.HasPrefix(line, "Max core file size") && (f[4] != "0" || f[5] != "0") {
			w.t.Errorf("the server's memory may be dumped: %s", line)
		}
	}
}

// sweepHost searches a host: its disk, what is in /run and other RAM but the keys, and its
// journal line by line, since that is compressed in its own way.
func sweepHost(t *testing.T, s *canary.Sweep, host string) {
	t.Helper()
	upper := filepath.Join(rigDir(), host, "upper")
	s.Tree(upper, func(p string) bool {
		return p == filepath.Join(upper, "var/log/journal") || p == filepath.Join(upper, "srv/reader/seen")
	})
	ram, err := exec.Command("rig/rig", "ssh", host, "tar -C / --exclude=run/keys --exclude=run/log/journal -cf - run tmp dev/shm 2>/dev/null || true").Output()
	if err != nil || len(ram) < 10_000 {
		t.Errorf("%s: /run could not be read: %v, %d bytes", host, err, len(ram))
	}
	s.Look("/run, /tmp or /dev/shm of "+host, ram)
	out, err := exec.Command("journalctl", "-D", filepath.Join(rigDir(), host, "root/var/log/journal"), "-q", "-a", "-o", "json").Output()
	if err != nil {
		t.Fatalf("journal of %s: %v", host, err)
	}
	for line := range bytes.Lines(out) {
		if !bytes.Contains(line, []byte(`"_SYSTEMD_UNIT":"`+ownDoing+`"`)) {
			s.Look("the journal of "+host, line)
		}
	}
}

// The sweep can fail: a canary that is planted on a host is caught in each place. Its forms are
// planted one by one in lab's own test.
func TestCanaryIsCaught(t *testing.T) {
	host := hosts["kos-mos"]
	rig(t, "up", "3")
	places := map[string]struct {
		plant func(c canary.Canary) *exec.Cmd
		want  string
	}{
		"the disk":      {func(c canary.Canary) *exec.Cmd { return onStdin(host, "cat >/var/tmp/planted", c.Value) }, "upper/var/tmp/planted"},
		"a packed file": {func(c canary.Canary) *exec.Cmd { return onStdin(host, "gzip >/var/tmp/packed", c.Value) }, "unpacked"},
		"/run":          {func(c canary.Canary) *exec.Cmd { return onStdin(host, "cat >/run/planted", c.Value) }, "/run, /tmp"},
		"the journal":   {func(c canary.Canary) *exec.Cmd { return onStdin(host, "logger; journalctl --sync", c.Value) }, "the journal of"},
	}
	var cs []canary.Canary
	for name, p := range places {
		c := canary.New(name)
		cs = append(cs, c)
		if out, err := p.plant(c).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
	}
	on(t, host, "sync")
	s := canary.NewSweep(cs...)
	sweepHost(t, s, host)
	for name, p := range places {
		if !slices.ContainsFunc(s.Found(), func(f string) bool { return strings.HasPrefix(f, name+" as ") && strings.Contains(f, p.want) }) {
			t.Errorf("in %s: found %q", name, s.Found())
		}
	}
	on(t, host, "rm -f /var/tmp/planted /var/tmp/packed /run/planted")
	for name, line := range map[string]string{"cmdline": "sh -c 'sleep 2; : %'", "environ": "X=% sleep 2"} {
		c := canary.New("planted")
		s := canary.NewSweep(c)
		stop := s.Processes()
		onStdin(host, "sh", strings.ReplaceAll(line, "%", string(c.Forms()["first half"]))).Run()
		stop()
		if found := strings.Join(s.Found(), "\n"); !strings.Contains(found, name+" of a process") {
			t.Errorf("in %s of a process on a host: found %q", name, found)
		}
	}
}

// onStdin runs a command on a host with text on its stdin, so that the text is in no argument.
func onStdin(host, cmd, text string) *exec.Cmd {
	c := exec.Command("ssh", "-i", filepath.Join(rigDir(), "id"), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "root@"+addr(host), cmd)
	c.Stdin = strings.NewReader(text)
	return c
}
