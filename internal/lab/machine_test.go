package lab_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/host/helper"
	"bellhop/internal/lab"
)

func newTwin(t *testing.T) *lab.Machine {
	t.Helper()
	return lab.NewMachine(t.TempDir())
}

func plant(t *testing.T, m *lab.Machine, path, text string) {
	t.Helper()
	if err := m.Plant(path, text); err != nil {
		t.Fatal(err)
	}
}

const keyMount = "[Mount]\nWhat=ramfs\nWhere=/run/keys\nType=ramfs\n"

// plantGated plants an app that waits for one key, sealed or not, as fleet writes them.
func plantGated(t *testing.T, m *lab.Machine, sealed bool) {
	t.Helper()
	unseal := ""
	if sealed {
		unseal = "systemd-creds decrypt --name=k /var/lib/bellhop/sealed/k /run/keys/.k.new && chown app:app /run/keys/.k.new && chmod 0440 /run/keys/.k.new && mv -T /run/keys/.k.new /run/keys/k && exit 0; "
	}
	plant(t, m, "/etc/systemd/system/run-keys.mount", keyMount)
	plant(t, m, "/etc/systemd/system/k-key.service", "[Unit]\nDefaultDependencies=no\nRequiresMountsFor=/run/keys /var/lib/bellhop\nBefore=shutdown.target app.service\nWants=app.service\n"+
		"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'chown root:keys /run/keys; test -e /run/keys/k && exit 0; "+unseal+"echo \"key k has not come since this boot\" >&2; exit 1'\n")
	plant(t, m, "/etc/systemd/system/app.service", "[Service]\nExecStart=/bin/app\n[Install]\nWantedBy=multi-user.target\n")
	plant(t, m, "/etc/systemd/system/app.service.d/50-bellhop.conf", "[Unit]\nRequires=k-key.service\nAfter=k-key.service\nAssertPathExists=/run/keys/k\n")
	h := m.Host()
	if err := h.Systemd.Enable(context.Background(), []string{"app.service"}); err != nil {
		t.Fatal(err)
	}
	if err := h.Systemd.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func reboot(t *testing.T, m *lab.Machine) {
	t.Helper()
	if err := m.Reboot(); err != nil {
		t.Fatal(err)
	}
}

func TestRebootWaitsForItsKeys(t *testing.T) {
	m := newTwin(t)
	plantGated(t, m, false)
	plant(t, m, "/run/keys/k", "v")
	before := m.BootID()
	reboot(t, m)
	if m.BootID() == before {
		t.Error("Reboot kept the boot id")
	}
	if _, err := os.Stat(m.Path("/run/keys/k")); err == nil {
		t.Error("Reboot kept a key")
	}
	if a, k := m.Unit("app.service"), m.Unit("k-key.service"); a.Active != "inactive" || a.RanThisBoot || k.Active != "failed" {
		t.Errorf("after boot app is %s, key unit %s; want inactive, failed", a.Active, k.Active)
	}
	if !m.Mounted() {
		t.Error("the key unit did not pull in its mount")
	}
	plant(t, m, "/run/keys/k", "v")
	if err := m.Start("k-key.service"); err != nil {
		t.Fatal(err)
	}
	if !m.Active("app.service") || m.Starts("app.service") != 1 {
		t.Errorf("app active %v after its key came, started %d times", m.Active("app.service"), m.Starts("app.service"))
	}
}

func TestRebootOpensSealedCopies(t *testing.T) {
	m := newTwin(t)
	m.AddUser("app", "app", "/srv/app")
	plantGated(t, m, true)
	mounts := m.Host().Mounts
	if err := mounts.Seal(t.Context(), "k", []byte("value")); err != nil {
		t.Fatal(err)
	}
	reboot(t, m)
	got, err := os.ReadFile(m.Path("/run/keys/k"))
	if err != nil || string(got) != "value" || !m.Active("app.service") {
		t.Fatalf("after boot the key is %q, %v, app active %v", got, err, m.Active("app.service"))
	}
	if u, g, _ := m.Owner("/run/keys/k"); u != "app" || g != "app" {
		t.Errorf("the key is %s:%s's, want app:app", u, g)
	}
	m.LoseSecret()
	reboot(t, m)
	if m.Active("app.service") || mounts.Opens(t.Context(), "k", []byte("value")) {
		t.Error("a dead copy still opens")
	}
}

func TestRenamedUnitHoldsItsPort(t *testing.T) {
	m := newTwin(t)
	for _, n := range []string{"old.service", "new.service"} {
		plant(t, m, "/etc/systemd/system/"+n, "[Service]\nType=notify\nExecStart=/bin/x\n")
		m.Claim(n, 3030)
	}
	if err := m.Start("old.service"); err != nil {
		t.Fatal(err)
	}
	if err := m.Start("new.service"); err == nil || m.Active("new.service") {
		t.Error("two units listen on one port")
	}
	if err := m.Stop("old.service"); err != nil {
		t.Fatal(err)
	}
	if err := m.Start("new.service"); err != nil {
		t.Errorf("start on a free port: %v", err)
	}
}

func TestUnitsThatDie(t *testing.T) {
	m := newTwin(t)
	plant(t, m, "/etc/systemd/system/a.service", "[Service]\nExecStart=/bin/a\nRestart=always\n")
	plant(t, m, "/etc/systemd/system/b.service", "[Service]\nExecStart=/bin/b\n")
	m.Start("a.service")
	m.Start("b.service")
	was := m.Unit("a.service")
	m.Crash("a.service")
	m.Crash("b.service")
	if a := m.Unit("a.service"); a.Active != "active" || a.Restarts != 1 || a.Invocation == was.Invocation {
		t.Errorf("a after a crash: %+v", a)
	}
	if b := m.Unit("b.service"); b.Active != "failed" {
		t.Errorf("b after a crash: %+v", b)
	}
	m.Flap("a.service")
	one, two := m.Unit("a.service"), m.Unit("a.service")
	if one.Restarts == two.Restarts {
		t.Error("a flapping unit stands still")
	}
	m.Mend("a.service")
	m.Fail("b.service")
	if err := m.Start("b.service"); err != nil || m.Active("b.service") {
		t.Errorf("start of a simple service that dies: %v, active %v; want done, and not active", err, m.Active("b.service"))
	}
	if m.Count("fail", "b.service") != 2 {
		t.Errorf("log: %v", m.Log())
	}
}

func TestSocketStartsItsService(t *testing.T) {
	m := newTwin(t)
	plant(t, m, "/etc/systemd/system/s.socket", "[Socket]\nListenStream=80\n")
	plant(t, m, "/etc/systemd/system/s.service", "[Service]\nExecStart=/bin/s\n")
	if err := m.Trigger("s.socket"); err == nil {
		t.Error("a socket that does not listen started its service")
	}
	m.Start("s.socket")
	if err := m.Trigger("s.socket"); err != nil || !m.Active("s.service") {
		t.Errorf("Trigger: %v, active %v", err, m.Active("s.service"))
	}
}

func TestQuadlets(t *testing.T) {
	m := newTwin(t)
	plant(t, m, "/etc/containers/systemd/web.container", "[Unit]\nDescription=w\n[Container]\nImage=x\n[Install]\nWantedBy=multi-user.target\n")
	if err := m.Host().Systemd.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := m.Unit("web.service"); st.Load != "loaded" || st.File != "generated" {
		t.Errorf("generated unit: %+v", st)
	}
	reboot(t, m)
	if !m.Active("web.service") {
		t.Error("a quadlet with [Install] did not start at boot")
	}
}

func TestMaskedByHand(t *testing.T) {
	m := newTwin(t)
	plant(t, m, "/usr/lib/systemd/system/d.service", "[Service]\nExecStart=/bin/d\n")
	if err := m.Mask("d.service"); err != nil {
		t.Fatal(err)
	}
	if st := m.Unit("d.service"); st.Load != "masked" {
		t.Errorf("masked: %+v", st)
	}
	if err := m.Unmask("d.service"); err != nil {
		t.Fatal(err)
	}
	if err := m.Start("d.service"); err != nil {
		t.Error(err)
	}
}

// A session is one conversation with the engine on a machine, by the real protocol.
type session struct {
	*wire.Reader
	in *io.PipeWriter
}

// offer brings one unit to a machine, as far as all bytes are sent.
func offer(t *testing.T, m *lab.Machine, run, unit string) session {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	ended := make(chan struct{})
	t.Cleanup(func() { // the helper may still be at work in the machine's folder, which is removed next
		inW.Close()
		outR.Close()
		<-ended
	})
	go func() {
		defer close(ended)
		err := helper.Serve(context.Background(), m.Host(), inR, outW)
		outW.CloseWithError(cmp.Or(err, io.EOF))
	}()
	s := session{wire.NewReader(outR), inW}
	var hello bundle.Hello
	_, err := s.SkipNoise()
	if err = cmp.Or(err, s.Expect(bundle.FrameHello, &hello)); err != nil {
		t.Fatal(err)
	}
	path, digest := bundle.UnitDir+"/demo.service", bundle.DigestBytes([]byte(unit))
	o := bundle.Offer{Run: run, Mode: bundle.ModeDeploy, Nonce: make([]byte, 32), Deployer: "SHA256:me", Manifest: bundle.Manifest{
		Network: "net", Host: "demo",
		Files: []bundle.File{{Path: path, Digest: digest, Size: int64(len(unit)), Mode: 0o644, User: "root", Group: "root"}},
		Units: []bundle.Unit{{Name: "demo.service", Enable: true, Start: true, OnChange: bundle.Restart, Files: []string{path}}},
	}}
	if hello.Record != nil {
		o.Base = hello.Record.Generation
	}
	o.Digest = o.Manifest.Digest()
	var want bundle.Want
	if err := cmp.Or(wire.WriteFrame(inW, bundle.FrameOffer, o), s.Expect(bundle.FrameWant, &want)); err != nil {
		t.Fatal(err)
	}
	if len(want.Files) > 0 {
		blob := bundle.Blob{Kind: bundle.BlobFile, Name: digest, Size: int64(len(unit))}
		if err := wire.WriteBlob(inW, blob, strings.NewReader(unit)); err != nil {
			t.Fatal(err)
		}
	}
	if err := wire.WriteFrame(inW, bundle.FrameEnd, struct{}{}); err != nil {
		t.Fatal(err)
	}
	return s
}

// push is an offer and its result.
func push(t *testing.T, m *lab.Machine, run, unit string) (res bundle.Result) {
	t.Helper()
	s := offer(t, m, run, unit)
	for {
		kind, p, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		if kind == bundle.FrameResult {
			if err := bundle.Unmarshal(p, &res); err != nil {
				t.Fatal(err)
			}
			return res
		}
	}
}

func demo(x int) string {
	return fmt.Sprintf("[Service]\nEnvironment=X=%d\nExecStart=/bin/demo\n[Install]\nWantedBy=multi-user.target\n", x)
}

func standsAt(t *testing.T, m *lab.Machine, x int) {
	t.Helper()
	text, err := os.ReadFile(m.Path(bundle.UnitDir + "/demo.service"))
	if err != nil || string(text) != demo(x) || !m.Active("demo.service") {
		t.Errorf("demo is %s with %q, %v; want active with X=%d", m.Unit("demo.service").Active, text, err, x)
	}
	if _, err := os.Stat(m.Path(bundle.StateDir + "/journal")); err == nil {
		t.Error("the journal is open")
	}
}

// The engine on the twin: a push, a change, a unit that does not come up.
func TestEngineOnTheTwin(t *testing.T) {
	m := newTwin(t)
	if res := push(t, m, "r-1", demo(1)); res.Outcome != bundle.OutcomeDone {
		t.Fatalf("first push: %+v", res)
	}
	standsAt(t, m, 1)
	if m.Fsyncs() == 0 {
		t.Error("no fsync was counted")
	}
	m.ClearLog()
	if res := push(t, m, "r-2", demo(2)); res.Outcome != bundle.OutcomeDone {
		t.Fatalf("second push: %+v", res)
	}
	standsAt(t, m, 2)
	if m.Count("restart", "demo.service") != 1 || m.Starts("demo.service") != 1 {
		t.Errorf("a change did not restart the unit once: %v", m.Log())
	}
	reboot(t, m)
	standsAt(t, m, 2)
	if res := push(t, m, "r-3", strings.Replace(demo(3), "/bin/demo", "/bin/false", 1)); res.Outcome != bundle.OutcomeRolledBack {
		t.Errorf("push of a unit that dies: %+v, want it rolled back", res)
	}
	standsAt(t, m, 2)
}

// A run that is killed is started again by its unit, and undone.
func TestApplyIsStartedAgain(t *testing.T) {
	m := newTwin(t)
	push(t, m, "r-1", demo(1))
	var died atomic.Bool
	m.Host().Reached = func(step string) {
		if strings.HasPrefix(step, "renamed ") && died.CompareAndSwap(false, true) {
			panic("kill -9 at " + step)
		}
	}
	res := push(t, m, "r-2", demo(2))
	if !died.Load() || res.Outcome != bundle.OutcomeRolledBack {
		t.Errorf("killed %v, result %+v; want it rolled back", died.Load(), res)
	}
	standsAt(t, m, 1)
}

// A run that the plug cut off is undone by the settle unit before anything else starts.
func TestRebootSettles(t *testing.T) {
	m := newTwin(t)
	push(t, m, "r-1", demo(1))
	pulled := make(chan struct{})
	var once sync.Once
	m.Host().Reached = func(step string) {
		if strings.HasPrefix(step, "renamed ") {
			once.Do(func() { close(pulled); lab.AwaitPlug(m) })
		}
	}
	s := offer(t, m, "r-2", demo(2))
	go io.Copy(io.Discard, drain{s})
	<-pulled
	reboot(t, m)
	standsAt(t, m, 1)
}

// drain reads frames so that the other side is not held up.
type drain struct{ s session }

func (d drain) Read([]byte) (int, error) {
	_, _, err := d.s.Next()
	return 0, err
}
