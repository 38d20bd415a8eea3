package host_test

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"os"
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/host"
	"bellhop/internal/host/helper"
	"bellhop/internal/host/machine"
	"bellhop/internal/lab"
)

// atWaiting calls do as soon as a run waits to be confirmed.
func atWaiting(t *testing.T, m *lab.Machine, do func()) {
	m.Host().Reached = func(step string) {
		if step == "waiting" {
			do()
		}
	}
	t.Cleanup(func() { m.Host().Reached = nil })
}

// Going back after the checks were passed leaves units as a run that failed would: what was reloaded
// is reloaded, what was restarted restarted, what was started stopped, what was stopped started.
func TestTwinUnconfirmedUnits(t *testing.T) {
	reloads := func(text string) *load {
		l := newLoad().service("reloads.service", "[Service]\nExecStart=/r\nExecReload=/r -r\n[Install]\nWantedBy=multi-user.target\n", "file:/etc/conf").
			service("restarts.service", "[Service]\nExecStart=/s\n[Install]\nWantedBy=multi-user.target\n", "file:/etc/conf").
			file("/etc/conf", text).file(bundle.UnitDir+"/restarts.service.d/x.conf", "[Service]\nEnvironment=X="+text+"\n")
		l.Units[0].OnChange = bundle.Reload
		return l
	}
	const plain = "[Service]\nExecStart=/x\n[Install]\nWantedBy=multi-user.target\n"
	m := lab.NewMachine(t.TempDir())
	l := reloads("one").service("leaves.service", plain)
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	life := m.Unit("reloads.service").Invocation
	m.ClearLog()

	l = reloads("two").service("comes.service", plain)
	got := twinDeploy(t, m, l.confirming(shortWindow), l, bundle.OutcomeUnconfirmed)
	for _, c := range []struct {
		verb, unit string
		want       int
	}{
		{"reload", "reloads.service", 2}, {"restart", "reloads.service", 0}, {"start", "reloads.service", 0},
		{"restart", "restarts.service", 2}, {"start", "comes.service", 1}, {"stop", "comes.service", 1},
		{"stop", "leaves.service", 1}, {"start", "leaves.service", 1},
	} {
		if n := m.Count(c.verb, c.unit); n != c.want {
			t.Errorf("%s %s: %d times, want %d; log %v", c.verb, c.unit, n, c.want, m.Log())
		}
	}
	if m.Unit("reloads.service").Invocation != life || !m.Active("leaves.service") || m.Unit("leaves.service").File != "enabled" || m.Unit("comes.service").Load != "not-found" {
		t.Errorf("units are not as they were: %+v, %+v, %+v", m.Unit("reloads.service"), m.Unit("leaves.service"), m.Unit("comes.service"))
	}
	if p, err := os.ReadFile(m.Path(bundle.UnitDir + "/restarts.service.d/x.conf")); err != nil || !strings.Contains(string(p), "X=one") {
		t.Errorf("the drop-in is %q, %v", p, err)
	}
	if len(got.res.Started)+len(got.res.Reloaded)+len(got.res.Changed) > 0 {
		t.Errorf("the result tells of changes that are undone: %+v", got.res)
	}
}

// The plug is pulled while a run waits: before the network is up, the host holds what it held
// before, unless the run was confirmed. Its keys are those of what stands.
func TestTwinRebootInTheWindow(t *testing.T) {
	for _, c := range []struct {
		name, token, conf, outcome string
		confirmed                  bool
	}{
		{"nobody confirmed", "first", "one", bundle.OutcomeRolledBack, false},
		{"confirmed", "second", "two", bundle.OutcomeDone, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := lab.NewMachine(t.TempDir())
			l := rigBot("one", "first")
			twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)

			l = rigBot("two", "second")
			o := l.confirming(longWindow)
			waits := make(chan struct{})
			atWaiting(t, m, func() {
				if !c.confirmed {
					close(waits) // the plug is pulled while it waits
					return
				}
				if err := host.Confirm(m.Host(), o.Run); err != nil {
					t.Error(err)
				}
				close(waits)
				lab.AwaitPlug(m) // before it hears that it is confirmed
				panic(killed{"waiting"})
			})
			go talk(m.Host(), o, l)
			<-waits
			if err := m.Reboot(); err != nil {
				t.Fatal(err)
			}
			m.Host().Reached = nil

			if p, err := os.ReadFile(m.Path("/etc/rigbot/conf")); string(p) != c.conf {
				t.Errorf("after the boot conf is %q, %v, want %q", p, err, c.conf)
			}
			l = rigBot(c.conf, c.token)
			got := twinDeploy(t, m, keysOffer(l), l, bundle.OutcomeNothing)
			if !m.Active("rigbot.service") {
				t.Error("rigbot did not start when its key came back")
			}
			if last := got.hello.Last; last == nil || last.Run != o.Run || last.Outcome != c.outcome {
				t.Errorf("hello's last = %+v, want %s of %s", last, c.outcome, o.Run)
			}
			if err := host.Confirm(m.Host(), o.Run); (err == nil) != c.confirmed {
				t.Errorf("confirm after the boot: %v", err)
			}
		})
	}
}

// While a run waits, other deployers are told which run it is, and a look is answered at once.
func TestTwinOthersWhileItWaits(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	l := rigBot("one", "first")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	l = rigBot("two", "second")
	o := l.confirming(longWindow)
	atWaiting(t, m, func() {
		for _, mode := range []string{bundle.ModeDeploy, bundle.ModeKeys} {
			third := rigBot("three", "third")
			other := third.offer()
			other.Mode, other.Deployer, other.TakeOver = mode, "SHA256:other", true
			got, err := talk(m.Host(), other, third)
			if err != nil || got.res.Refused != bundle.RefusedBusy || !strings.Contains(got.res.Error, o.Run) || !strings.Contains(got.res.Error, "waits") {
				t.Errorf("another deployer's %s = %+v, %v; want busy, and why", mode, got.res, err)
			}
			if got.hello.Open != o.Run || !got.hello.Waits || got.hello.Record.Generation != 1 {
				t.Errorf("hello %+v, want it to name the run that waits", got.hello)
			}
		}
		if _, reply := twinAsk(t, m.Host(), bundle.Ask{Verb: bundle.AskConfirm, Run: o.Run}); reply.Error != "" { // from whomever
			t.Errorf("confirm = %q", reply.Error)
		}
	})
	twinDeploy(t, m, o, l, bundle.OutcomeDone)
}

// twinAsk runs one session that asks.
func twinAsk(t *testing.T, m *machine.Machine, a bundle.Ask) (h bundle.Hello, reply bundle.Reply) {
	t.Helper()
	var in bytes.Buffer
	if err := wire.WriteFrame(&in, bundle.FrameAsk, a); err != nil {
		t.Fatal(err)
	}
	outR, outW := io.Pipe()
	go func() {
		err := helper.Serve(context.Background(), m, &in, outW)
		outW.CloseWithError(cmp.Or(err, io.EOF))
	}()
	r := wire.NewReader(outR)
	_, err := r.SkipNoise()
	if err == nil {
		err = r.Expect(bundle.FrameHello, &h)
	}
	if err == nil {
		err = r.Expect(bundle.FrameReply, &reply)
	}
	if err != nil {
		t.Error(err)
	}
	return h, reply
}
