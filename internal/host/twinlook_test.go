package host_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/host"
	"bellhop/internal/host/helper"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/state"
	"bellhop/internal/lab"
)

// lookAt runs one session that looks. ahead: the ask comes with the command that starts the helper.
func lookAt(t testing.TB, m *machine.Machine, ask bundle.Look, ahead bool) (h bundle.Hello, s bundle.Seen) {
	t.Helper()
	var in bytes.Buffer
	if err := wire.WriteFrame(&in, bundle.FrameAsk, bundle.Ask{Verb: bundle.AskLook, Look: &ask}); err != nil {
		t.Fatal(err)
	}

	serve := helper.Serve
	if ahead {
		serve = helper.ServeOptimistic
	}
	outR, outW := io.Pipe()
	go func() {
		err := serve(context.Background(), m, &in, outW)
		outW.CloseWithError(cmp.Or(err, io.EOF))
	}()

	r := wire.NewReader(outR)
	_, err := r.SkipNoise()
	if err == nil {
		err = r.Expect(bundle.FrameHello, &h)
	}
	if err == nil {
		err = r.Expect(bundle.FrameSeen, &s)
	}
	if err != nil {
		t.Error(err)
	}
	return h, s
}

// A twinHand is the twin, and a person at work on it.
type twinHand struct {
	*testing.T
	m *lab.Machine
}

func (h twinHand) look(ask bundle.Look) bundle.Seen {
	h.Helper()
	hello, s := lookAt(h.T, h.m.Host(), ask, !ask.Verify)
	if !hello.Looks {
		h.Error("the helper does not say that it answers looks")
	}
	return s
}

func (h twinHand) deployed(l *load) {
	h.Helper()
	o := l.offer()
	now, err := talkHello(h.m.Host())
	if err != nil {
		h.Fatal(err)
	}
	if now.Record != nil {
		o.Base = now.Record.Generation
	}
	got, err := talk(h.m.Host(), o, l)
	if err != nil || got.res.Outcome != bundle.OutcomeDone && got.res.Outcome != bundle.OutcomeNothing {
		h.Fatalf("deploy: %+v, %v", got.res, err)
	}
}

// talkHello is what the helper says first.
func talkHello(m *machine.Machine) (h bundle.Hello, err error) {
	outR, outW := io.Pipe()
	go func() {
		outW.CloseWithError(cmp.Or(helper.Serve(context.Background(), m, bytes.NewReader(nil), outW), io.EOF))
	}()
	r := wire.NewReader(outR)
	if _, err = r.SkipNoise(); err == nil {
		err = r.Expect(bundle.FrameHello, &h)
	}
	io.Copy(io.Discard, outR)
	return h, err
}

func (h twinHand) hand(verb string, args ...string) {
	h.Helper()
	at := func(i int) string { return h.m.Path(args[i]) }
	var err error

	switch verb {
	case "write":
		if err = os.MkdirAll(filepath.Dir(at(0)), 0o755); err == nil {
			err = os.WriteFile(at(0), []byte(args[1]), 0o644)
		}
	case "remove":
		err = os.RemoveAll(at(0))
	case "mkdir":
		err = os.Mkdir(at(0), 0o755)
	case "link":
		err = os.Symlink(args[0], at(1))
	case "chmod":
		mode, _ := strconv.ParseUint(args[0], 8, 32)
		err = os.Chmod(at(1), os.FileMode(mode))
	case "chown":
		err = h.m.SetOwner(args[1], args[0], args[0])
	case "shell":
		a, _ := h.m.Account(args[0])
		a.Shell = args[1]
		lab.SetAccount(h.m, a)
	case "join", "leave":
		a, _ := h.m.Account(args[0])
		lab.SetAccount(h.m, a, map[string][]string{"join": args[1:]}[verb]...)
	case "uid", "gid", "group", "home":
		a, _ := h.m.Account(args[0])
		id, _ := strconv.Atoi(args[1])
		switch verb {
		case "uid":
			a.UID = id
		case "gid":
			a.GID = id
		case "group":
			a.Group = args[1]
		case "home":
			a.Home = args[1]
		}
		lab.SetAccount(h.m, a)
	case "userdel":
		lab.DeleteAccount(h.m, args[0])
	case "daemon-reload":
		err = h.m.Host().Systemd.Reload(context.Background())
	case "start":
		err = h.m.Start(args[0])
	case "stop":
		err = h.m.Stop(args[0])
	case "enable":
		err = h.m.Host().Systemd.Enable(context.Background(), args)
	case "disable":
		err = h.m.Host().Systemd.Disable(context.Background(), args)
	case "mask":
		err = h.m.Mask(args[0])
	case "unmask":
		err = h.m.Unmask(args[0])
	case "fail":
		h.m.Crash(args[0])
	default:
		h.Fatalf("nobody does %q", verb)
	}
	if err != nil {
		h.Fatalf("%s %q: %v", verb, args, err)
	}
}

func TestTwinLooks(t *testing.T) {
	checkLooks(t, twinHand{t, lab.NewMachine(t.TempDir())})
}

// While a run waits to be confirmed, a host is compared with what that run put in place. While one is at
// work, a look says so and waits for nothing.
func TestTwinLooksBesideARun(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	h := twinHand{t, m}
	h.deployed(rigBot("one", "first"))

	waited, worked := false, false
	m.Host().Reached = func(step string) {
		switch step {
		case "files":
			worked = true
			if s := h.look(bundle.Look{Contents: []string{"/etc/rigbot/conf"}}); !s.Working || s.DriftCount()+len(s.Contents) > 0 {
				t.Errorf("in the middle of a run: %+v, want no more than that it works", s)
			}
		case "waiting":
			waited = true
			if s := h.look(bundle.Look{}); s.Working || s.DriftCount() > 0 || s.Generation != 2 {
				t.Errorf("while the run waits: %+v, want no drift from generation 2", s)
			}
			h.hand("write", "/etc/rigbot/conf", "1ne")
			if s := h.look(bundle.Look{}); s.DriftCount() != 1 {
				t.Errorf("an edit while the run waits: %+v, want it told", s)
			}
			h.hand("write", "/etc/rigbot/conf", "two")
			if err := host.Confirm(m.Host(), "run-look"); err != nil {
				t.Error(err)
			}
		}
	}

	l := rigBot("two", "second")
	o := l.confirming(longWindow)
	o.Run = "run-look"
	twinDeploy(t, m, o, l, bundle.OutcomeDone)
	if !waited || !worked {
		t.Errorf("looked while it waited %v, while it worked %v", waited, worked)
	}
}

// A look that is asked for ahead settles nothing, takes no lock, and leaves every file as it was.
func TestTwinLookChangesNothing(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	h := twinHand{t, m}
	h.deployed(rigBot("one", "first"))
	unlock, err := state.Of(m.Host()).Lock(0)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	h.hand("write", "/etc/rigbot/conf", "1ne")
	h.hand("remove", "/run/keys/rigtoken")
	h.hand("stop", "rigbot.service")
	h.hand("write", "/var/lib/bellhop/journal", `{"run":"run-cut"}`+"\n") // of a run that was cut off
	m.ClearLog()

	before := snapshot(t, m.Dir())
	if s := h.look(bundle.Look{Contents: []string{"/etc/rigbot/conf"}}); !s.Working {
		t.Errorf("seen beside an open journal = %+v", s)
	}
	h.hand("remove", "/var/lib/bellhop/journal")
	delete(before, "/var/lib/bellhop/journal")
	if s := h.look(bundle.Look{Contents: []string{"/etc/rigbot/conf"}}); s.DriftCount() != 2 || len(s.KeysMissing) != 1 {
		t.Errorf("seen = %+v, want two things and a key", s)
	}
	if after := snapshot(t, m.Dir()); !maps.Equal(after, before) {
		t.Errorf("files are other than before:\n%v\n%v", after, before)
	}
	if jobs := m.Jobs(); len(jobs) > 0 {
		t.Errorf("systemd was asked for %v", jobs)
	}
}

// snapshot is every file below dir, with what it is known by.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		st, err := e.Info()
		if err == nil {
			all[p[len(dir):]] = fmt.Sprint(st.Mode(), st.Size(), st.ModTime().UnixNano())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
