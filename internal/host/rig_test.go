package host_test

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
)

// A rig is a real host, reached by the command in BELLHOP_TEST_SSH ("ssh -i KEY root@HOST");
// these tests change it and are skipped without one. The host is given back at the end.
type rig struct {
	t    *testing.T
	ssh  []string
	line *os.Process // of the newest session
}

const rigHelper = "/usr/local/libexec/bellhop/rig-test"

func newRig(t *testing.T) *rig {
	ssh := os.Getenv("BELLHOP_TEST_SSH")
	if ssh == "" {
		t.Skip("BELLHOP_TEST_SSH names no host")
	}
	r := &rig{t: t, ssh: strings.Fields(ssh)}
	exe := t.TempDir() + "/bellhop-host"
	build := exec.Command("go", "build", "-o", exe, "bellhop/cmd/bellhop-host")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the helper: %v\n%s", err, out)
	}
	f, err := os.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	up := exec.Command(r.ssh[0], append(r.ssh[1:], fmt.Sprintf("mkdir -p /usr/local/libexec/bellhop && cat >%[1]s.new && chmod 755 %[1]s.new && mv %[1]s.new %[1]s && ln -sfn %[1]s /usr/local/libexec/bellhop/current", rigHelper))...)
	up.Stdin = f
	if out, err := up.CombinedOutput(); err != nil {
		t.Fatalf("upload: %v\n%s", err, out)
	}
	r.giveBack()
	t.Cleanup(func() {
		r.giveBack()
		r.try("cd /usr/local/libexec/bellhop && rm -f " + rigHelper + " && { test -e current || rm -f current; }")
	})
	return r
}

func (r *rig) try(cmd string) (string, error) {
	out, err := exec.Command(r.ssh[0], append(r.ssh[1:], cmd)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (r *rig) sh(cmd string) string {
	r.t.Helper()
	out, err := r.try(cmd)
	if err != nil {
		r.t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return out
}

// session runs one helper on the host.
func (r *rig) session(o bundle.Offer, l *load) (told, error) {
	cmd := exec.Command(r.ssh[0], append(r.ssh[1:], rigHelper+" serve")...)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		return told{}, err
	}
	r.line = cmd.Process
	t, err := converse(wire.NewReader(out), in, o, l)
	in.Close()
	cmd.Wait()
	if err != nil {
		err = fmt.Errorf("%w (%s)", err, errs.String())
	}
	return t, err
}

func (r *rig) deploy(l *load, outcome string) told {
	r.t.Helper()
	o := l.offer()
	o.Run = fmt.Sprintf("rig-%d", time.Now().UnixNano())
	return r.deployOffer(o, l, outcome)
}

func (r *rig) deployOffer(o bundle.Offer, l *load, outcome string) told {
	r.t.Helper()
	start := time.Now()
	t, err := r.session(o, l)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Logf("%s: %s in %d ms (session %v), %d fsyncs, %s", o.Run, t.res.Outcome, t.res.TookMillis, time.Since(start), t.res.Fsyncs, t.res.Error)
	if t.res.Outcome != outcome {
		r.t.Fatalf("outcome = %s (%s), want %s", t.res.Outcome, t.res.Error, outcome)
	}
	return t
}

func (r *rig) giveBack() {
	cmd := exec.Command(r.ssh[0], append(r.ssh[1:], rigHelper+" serve")...)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	fr := wire.NewReader(out)
	if _, err := fr.SkipNoise(); err != nil {
		r.t.Fatal(err)
	}
	var h bundle.Hello
	if err := fr.Expect(bundle.FrameHello, &h); err != nil {
		r.t.Fatal(err)
	}
	wire.WriteFrame(in, bundle.FrameAsk, bundle.Ask{Verb: bundle.AskUndo})
	for {
		kind, p, err := fr.Next()
		if err != nil {
			r.t.Fatal(err)
		}
		if kind == bundle.FrameResult {
			var res bundle.Result
			bundle.Unmarshal(p, &res)
			if res.Outcome != bundle.OutcomeDone && res.Outcome != bundle.OutcomeNothing {
				r.t.Errorf("give back: %s (%s)", res.Outcome, res.Error)
			}
			return
		}
	}
}

// rigBot is a service as a config repo would have it, with its gate.
func rigBot(conf, token string) *load {
	l := newLoad()
	l.file("/etc/sysusers.d/bellhop-rigbot.conf", "g rigbot -\nu rigbot -:rigbot \"rig\" /srv/rigbot/rigbot\n")
	l.Users = append(l.Users, bundle.User{Name: "rigbot", Group: "rigbot", Home: "/srv/rigbot/rigbot", Service: "rigbot"})
	l.file("/etc/tmpfiles.d/bellhop-rigbot.conf", "d /srv/rigbot/rigbot 0750 rigbot rigbot -\n")
	l.file("/etc/rigbot/conf", conf)
	f := &l.Files[len(l.Files)-1]
	f.User, f.Group, f.Mode = "rigbot", "rigbot", 0o640
	unit := bundle.UnitDir + "/rigbot.service"
	l.file(unit, "[Service]\nUser=rigbot\nEnvironmentFile=/run/keys/rigtoken\nExecStart=/bin/sh -c 'echo $$TOKEN >/srv/rigbot/rigbot/token; exec sleep infinity'\n[Install]\nWantedBy=multi-user.target\n")
	drop := unit + ".d/50-bellhop.conf"
	l.file(drop, "[Unit]\nRequires=rigtoken-key.service\nAfter=rigtoken-key.service\nAssertPathExists=/run/keys/rigtoken\n[Service]\nSupplementaryGroups=keys\n")
	key := bundle.UnitDir + "/rigtoken-key.service"
	l.file(key, "[Unit]\nDescription=Key rigtoken\nDefaultDependencies=no\nRequiresMountsFor=/run/keys /var/lib/bellhop\nAfter=local-fs.target systemd-sysusers.service\nBefore=shutdown.target rigbot.service\nConflicts=shutdown.target\nWants=rigbot.service\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\nRemainAfterExit=yes\nUMask=0077\nExecStart=/bin/sh -c 'chown root:keys /run/keys; test -e /run/keys/rigtoken && exit 0; echo \"key rigtoken has not come since this boot\" >&2; exit 1'\n")
	l.Keys = append(l.Keys, bundle.Key{Name: "rigtoken", Path: "/run/keys/rigtoken", User: "rigbot", Group: "rigbot", Mode: 0o640, Service: "rigbot"})
	l.keys["rigtoken"] = "TOKEN=" + token + "\n"
	l.judged("rigbot", 0) // the stories are of other things, and need not wait
	l.Units = append(l.Units,
		bundle.Unit{Name: "rigbot.service", Service: "rigbot", Enable: true, Start: true, OnChange: bundle.Restart, Files: []string{unit, drop},
			Triggers: []string{"file:" + unit, "file:" + drop, "file:/etc/rigbot/conf", "key:rigtoken"}},
		bundle.Unit{Name: "rigtoken-key.service", Service: "rigbot", KeyUnit: true, OnChange: bundle.None, Files: []string{key}})
	return l
}

func (r *rig) want(cmd, want string) {
	r.t.Helper()
	if got, _ := r.try(cmd); got != want {
		r.t.Errorf("%s = %q, want %q", cmd, got, want)
	}
}

func TestRigStory(t *testing.T) {
	r := newRig(t)
	got := r.deploy(rigBot("one", "first"), bundle.OutcomeDone)
	if slices.Contains(got.events, "undo") {
		t.Errorf("events %q", got.events)
	}
	r.want("systemctl is-active rigbot rigtoken-key", "active\nactive")
	r.want("systemctl is-enabled rigbot bellhop-settle", "enabled\nenabled")
	r.want("stat -c '%a %U:%G' /run/keys/rigtoken /run/keys /etc/rigbot/conf /srv/rigbot/rigbot", "640 rigbot:rigbot\n750 root:keys\n640 rigbot:rigbot\n750 rigbot:rigbot")
	r.want("stat -f -c %T /run/keys", "ramfs")
	r.want("cat /srv/rigbot/rigbot/token", "first")
	pid := r.sh("systemctl show -P MainPID rigbot")

	r.deploy(rigBot("one", "first"), bundle.OutcomeNothing)
	r.want("systemctl show -P MainPID rigbot", pid)
	r.deploy(rigBot("two", "first"), bundle.OutcomeDone)
	if r.sh("systemctl show -P MainPID rigbot") == pid {
		t.Error("rigbot was not restarted")
	}
	r.deploy(rigBot("two", "second"), bundle.OutcomeDone)
	r.want("cat /srv/rigbot/rigbot/token", "second")

	bad := rigBot("three", "third")
	p := bundle.UnitDir + "/rigbad.service"
	bad.file(p, "[Service]\nExecStart=/no/such/program\n[Install]\nWantedBy=multi-user.target\n")
	bad.Units = append(bad.Units, bundle.Unit{Name: "rigbad.service", Enable: true, Start: true, OnChange: bundle.Restart, Files: []string{p}})
	r.deploy(bad, bundle.OutcomeRolledBack)
	r.want("cat /etc/rigbot/conf", "two")
	r.want("cat /srv/rigbot/rigbot/token", "second")
	r.want("systemctl is-active rigbot; systemctl is-active rigbad; systemctl is-enabled rigbad 2>&1 | head -1 | grep -c enabled; systemctl is-system-running", "active\ninactive\n0\nrunning")

	other := newLoad().file("/etc/rigother", "x")
	got = r.deploy(other, bundle.OutcomeDone)
	wantList(t, "kept", got.res.Kept, "user rigbot", "home /srv/rigbot/rigbot")
	r.want("ls /etc/rigbot /run/keys/rigtoken /etc/systemd/system/rigbot.service /etc/systemd/system/rigbot.service.d /etc/systemd/system/multi-user.target.wants/rigbot.service 2>&1 | grep -vc 'No such file'", "0")
	r.want("systemctl is-system-running", "running")
}

// slow is a bundle whose unit takes its time to start, so that something can happen meanwhile.
func slow(l *load) *load {
	p := bundle.UnitDir + "/rigslow.service"
	l.file(p, "[Service]\nExecStartPre=/bin/sleep 10\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n")
	l.Units = append(l.Units, bundle.Unit{Name: "rigslow.service", Enable: true, Start: true, OnChange: bundle.Restart, Files: []string{p}})
	return l
}

// begin starts a run that will hang in its start step, and returns its session's end.
func (r *rig) begin(l *load) (run string, end chan told) {
	o := l.offer()
	o.Run = fmt.Sprintf("rig-%d", time.Now().UnixNano())
	end = make(chan told, 1)
	go func() {
		t, _ := r.session(o, l)
		end <- t
	}()
	r.until("systemctl is-active rigslow", "activating")
	return o.Run, end
}

func (r *rig) until(cmd, want string) {
	r.t.Helper()
	var got string
	for range 300 {
		if got, _ = r.try(cmd); got == want {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	r.t.Fatalf("%s = %q, never %q", cmd, got, want)
}

func TestRigKilledUnit(t *testing.T) {
	r := newRig(t)
	r.deploy(rigBot("one", "first"), bundle.OutcomeDone)
	_, end := r.begin(slow(rigBot("two", "second")))
	r.want("cat /etc/rigbot/conf", "two")
	r.sh("systemctl kill -s KILL bellhop-apply.service")
	got := <-end
	if got.res == nil || got.res.Outcome != bundle.OutcomeRolledBack {
		t.Fatalf("result %+v", got.res)
	}
	r.want("cat /etc/rigbot/conf /srv/rigbot/rigbot/token", "onefirst")
	r.want("systemctl is-active rigbot rigslow", "active\ninactive")
	r.want("ls -A /run/keys /var/lib/bellhop/staging", "/run/keys:\nrigtoken\n\n/var/lib/bellhop/staging:")
	r.deploy(rigBot("two", "second"), bundle.OutcomeDone)
}

func TestRigLineCutAndAttach(t *testing.T) {
	r := newRig(t)
	r.deploy(rigBot("one", "first"), bundle.OutcomeDone)
	run, _ := r.begin(slow(rigBot("two", "second")))
	if err := r.line.Kill(); err != nil {
		t.Fatal(err)
	}
	other := rigBot("three", "third")
	o := other.offer()
	got, err := r.session(o, other)
	if err != nil || got.res.Refused != bundle.RefusedBusy || got.hello.Open != run {
		t.Errorf("a second deployer meanwhile: %+v, open %q, %v; want busy", got.res, got.hello.Open, err)
	}
	r.until("systemctl is-active rigslow; cat /var/lib/bellhop/runs/"+run+"/result | grep -o '\"outcome\":\"done\"'", "active\n\"outcome\":\"done\"")
}

func TestRigReboot(t *testing.T) {
	r := newRig(t)
	r.deploy(rigBot("one", "first"), bundle.OutcomeDone)
	boot := r.sh("cat /proc/sys/kernel/random/boot_id")
	r.begin(slow(rigBot("two", "second")))
	r.want("cat /etc/rigbot/conf", "two")
	r.try("systemctl reboot --force --force")
	for range 300 {
		if now, err := r.try("cat /proc/sys/kernel/random/boot_id"); err == nil && now != boot {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.want("cat /etc/rigbot/conf", "one")
	r.until("systemctl is-active rigbot; systemctl is-enabled rigslow 2>&1 | grep -c enabled; ls /var/lib/bellhop/journal 2>&1 | grep -c 'No such'", "inactive\n0\n1")
	l := rigBot("one", "first")
	o := l.offer()
	o.Run, o.Mode = fmt.Sprintf("rig-%d", time.Now().UnixNano()), bundle.ModeKeys
	got, err := r.session(o, l)
	if err != nil || got.res.Outcome != bundle.OutcomeNothing {
		t.Fatalf("keys: %+v, %v", got.res, err)
	}
	if got.hello.Last == nil || got.hello.Last.Outcome != bundle.OutcomeRolledBack {
		t.Errorf("hello's last = %+v, want rolled-back", got.hello.Last)
	}
	r.until("systemctl is-active rigbot", "active")
	r.want("systemctl is-system-running", "running")
}

func TestRigSealedKeyNeedsNobody(t *testing.T) {
	r := newRig(t)
	l := rigBot("one", "first")
	l.Keys[0].Seal = true
	for i, f := range l.Files {
		if strings.HasSuffix(f.Path, "rigtoken-key.service") {
			text := strings.Replace(string(l.bytes[f.Digest]), "exit 0; echo", "exit 0; systemd-creds decrypt --name=rigtoken /var/lib/bellhop/sealed/rigtoken /run/keys/.n && chown rigbot:rigbot /run/keys/.n && chmod 640 /run/keys/.n && mv -T /run/keys/.n /run/keys/rigtoken && exit 0; echo", 1)
			p := []byte(text)
			l.Files[i].Digest, l.Files[i].Size = bundle.DigestBytes(p), int64(len(p))
			l.bytes[l.Files[i].Digest] = p
		}
	}
	r.deploy(l, bundle.OutcomeDone)
	boot := r.sh("cat /proc/sys/kernel/random/boot_id")
	r.try("systemctl reboot")
	for range 300 {
		if now, err := r.try("cat /proc/sys/kernel/random/boot_id"); err == nil && now != boot {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.until("systemctl is-active rigbot", "active")
	r.want("cat /srv/rigbot/rigbot/token", "first")
	o := l.offer()
	o.Run = fmt.Sprintf("rig-%d", time.Now().UnixNano())
	got, err := r.session(o, l)
	if err != nil || got.res.Outcome != bundle.OutcomeNothing {
		t.Fatalf("offer after the reboot: %+v, %v", got.res, err)
	}
	if k := got.hello.Keys; len(k) != 1 || k[0].Source != "sealed" || !k[0].Present {
		t.Errorf("keys = %+v, want it there, from its sealed copy", k)
	}
}
