package host_test

import (
	"sync"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/lab"
)

// Several deployers confirm one run at the same time, as an old process and the one that takes its place do: each
// hears that it stays, and it stays once.
func TestConfirmedByManyAtOnce(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	l := rigBot("one", "first")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	l = rigBot("two", "second")
	o := l.confirming(longWindow)
	atWaiting(t, m, func() {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if _, reply := twinAsk(t, m.Host(), bundle.Ask{Verb: bundle.AskConfirm, Run: o.Run}); reply.Error != "" {
					t.Errorf("confirm = %q", reply.Error)
				}
			})
		}
		all.Wait()
	})
	got := twinDeploy(t, m, o, l, bundle.OutcomeDone)
	if got.res.Record.Generation != 2 || readTwin(t, m, "/etc/rigbot/conf") != "two" {
		t.Errorf("record %+v, conf %q", got.res.Record, readTwin(t, m, "/etc/rigbot/conf"))
	}
}

// Two deployers take a host over at the same time: one of them has it, the other is told, and the host holds what
// that one brought, whole.
func TestTakeOverIsRaced(t *testing.T) {
	for range 5 {
		m := lab.NewMachine(t.TempDir())
		l := rigBot("one", "first")
		twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)

		deployers := []string{"SHA256:left", "SHA256:right"}
		results := make([]*bundle.Result, len(deployers))
		var both sync.WaitGroup
		for i, id := range deployers {
			both.Go(func() {
				l := rigBot(id, id)
				o := l.offer()
				o.Deployer, o.TakeOver, o.Base = id, true, 1
				got, err := talk(m.Host(), o, l)
				if err != nil {
					t.Error(err)
					return
				}
				results[i] = got.res
			})
		}
		both.Wait()
		if t.Failed() {
			return
		}

		winner := ""
		for i, res := range results {
			switch {
			case res.Outcome == bundle.OutcomeDone && winner == "":
				winner = deployers[i]
			case res.Outcome == bundle.OutcomeRefused && (res.Refused == bundle.RefusedBusy || res.Refused == bundle.RefusedBase):
			default:
				t.Errorf("%s: %s (%s): %s", deployers[i], res.Outcome, res.Refused, res.Error)
			}
		}
		_, reply := twinAsk(t, m.Host(), bundle.Ask{Verb: bundle.AskManifest})
		h, _ := twinAsk(t, m.Host(), bundle.Ask{Verb: bundle.AskManifest})
		if winner == "" || h.Record.Deployer != winner || h.Record.Generation != 2 || readTwin(t, m, "/etc/rigbot/conf") != winner || reply.Manifest == nil {
			t.Errorf("of %q has it; the record says %+v, conf %q", winner, h.Record, readTwin(t, m, "/etc/rigbot/conf"))
		}
	}
}
