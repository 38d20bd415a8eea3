package deploy_test

import (
	"io"
	"strings"
	"testing"

	"bellhop/deploy/follow"
	"bellhop/deploy/plan"
	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/history"
)

// refuses is a helper of a host with that record, which refuses every offer.
func refuses(rec bundle.Record) func(*wire.Reader, io.Writer, *bundle.Offer) error {
	return func(in *wire.Reader, out io.Writer, o *bundle.Offer) error {
		if err := greet(out, bundle.Hello{Record: &rec}); err != nil {
			return err
		}
		if err := in.Expect(bundle.FrameOffer, o); err != nil {
			return err
		}
		return wire.WriteFrame(out, bundle.FrameResult, &bundle.Result{Run: o.Run, Outcome: bundle.OutcomeRefused, Refused: bundle.RefusedBundle, Error: "no", Record: &rec})
	}
}

// A host whose record names another one, which left the repo, does not take over its past: the
// machine that has it is pinned by another key.
func TestNoHostTakesThePastOfAnother(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.push("first", history.OutcomeDone)
	past, _ := w.db.Host("b")
	delete(w.yaml, "b")
	w.push("b leaves", history.OutcomeNothing)

	w.d.Links = scripted{Links: w.d.Links, name: "a", say: refuses(bundle.Record{Network: "lab", Host: "b", Deployer: w.d.ID, Generation: past.Generation, Digest: past.Digest})}
	w.d.Run(t.Context(), plan.Request{Cause: "deploy", All: true})

	h, ok := w.db.Host("b")
	if !ok || h.State != history.Released || h.Digest != past.Digest || len(w.db.Generations("b")) == 0 {
		t.Errorf("after a claimed to be b, b is %+v, want its own past", h)
	}
	if a, _ := w.db.Host("a"); a.Digest == past.Digest && past.Digest != "" && len(w.db.Generations("a")) > 1 {
		t.Errorf("a took over the generations of b: %+v", w.db.Generations("a"))
	}
}

// A digest that nobody made for a host is not remembered: a host could have anything stored by it.
func TestDigestThatAHostMadeUp(t *testing.T) {
	w := newWorld(t, "a")
	w.push("first", history.OutcomeDone)
	made := strings.Repeat("5ec2e7", 10)
	w.d.Links = scripted{Links: w.d.Links, name: "a", say: refuses(bundle.Record{Network: "lab", Host: "a", Deployer: w.d.ID, Generation: 7, Digest: made})}
	w.d.Run(t.Context(), plan.Request{Cause: "deploy", All: true})
	if h, _ := w.db.Host("a"); h.Digest == made {
		t.Errorf("the host's own digest %s is remembered", made)
	}
}

// What is stored and shown of one result is 64 KiB, and says that more was left out.
func TestResultIsCut(t *testing.T) {
	w := newWorld(t, "a")
	w.commit("first")
	list := make([]string, 600)
	for i := range list {
		list[i] = strings.Repeat("W", 1<<10)
	}
	w.d.Links = scripted{Links: w.d.Links, name: "a", say: result(bundle.Result{Outcome: bundle.OutcomeFailed, Error: "no", Warnings: list, Changed: list[:100]})}
	r, err := w.d.Run(t.Context(), plan.Request{Cause: "push"})
	w.must(err)

	size := 0
	for _, s := range append(r.Hosts[0].Notes, r.Hosts[0].Changed...) {
		size += len(s)
	}
	notes := r.Hosts[0].Notes
	if size > wire.MaxResult+1<<10 || len(notes) == 0 || !strings.HasSuffix(notes[len(notes)-1], "more") {
		t.Errorf("%d bytes of the result are kept, and its last note is not how many are left out", size)
	}
}

// A host that breaks the protocol is failed at once, with a sentence that says so, and no other
// host waits for it.
func TestHostThatBreaksTheProtocol(t *testing.T) {
	frame := func(p string) func(*wire.Reader, io.Writer, *bundle.Offer) error {
		return func(_ *wire.Reader, out io.Writer, _ *bundle.Offer) error {
			_, err := io.WriteString(out, bundle.Magic+p)
			return err
		}
	}
	events := func(in *wire.Reader, out io.Writer, o *bundle.Offer) error {
		if err := greet(out, bundle.Hello{}); err != nil {
			return err
		}
		if err := in.Expect(bundle.FrameOffer, o); err != nil {
			return err
		}
		wire.WriteFrame(out, bundle.FrameWant, bundle.Want{})
		go func() {
			for err := error(nil); err == nil; {
				_, _, err = in.Next()
			}
		}()
		for {
			if err := wire.WriteFrame(out, bundle.FrameEvent, bundle.Event{Step: "end", Text: strings.Repeat("A", 1<<10)}); err != nil {
				return nil
			}
		}
	}

	for name, say := range map[string]func(*wire.Reader, io.Writer, *bundle.Offer) error{
		"a hello over its cap": frame("H\x7f\xff\xff\xff"),
		"another kind":         frame("!\x00\x00\x00\x00"),
		"no JSON":              frame("H\x00\x00\x00\x02[]"),
		"an event before the want": func(in *wire.Reader, out io.Writer, o *bundle.Offer) error {
			greet(out, bundle.Hello{})
			in.Expect(bundle.FrameOffer, o)
			return wire.WriteFrame(out, bundle.FrameEvent, bundle.Event{Step: "files"})
		},
		"events without end": events,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "a", "b")
			w.top = atOnce
			w.commit("first")
			ends := 0
			w.d.Progress = func(e follow.Event) {
				if e.Host == "a" && e.Step == "end" {
					ends++
				}
			}
			w.d.Links = scripted{Links: w.d.Links, name: "a", say: say}
			w.run(plan.Request{Cause: "push"}, history.OutcomePartial)
			h := w.state("a")
			if h.State != history.Failed || h.Error == nil || !strings.Contains(*h.Error, "does not keep to the protocol") {
				t.Errorf("the host is %s (%v), want failed, by the protocol", h.State, h.Error)
			}
			if b := w.state("b"); b.State != history.Current {
				t.Errorf("the other host is %s", b.State)
			}
			if ends != 1 {
				t.Errorf("the host ended %d times for those who watch, want once", ends)
			}
		})
	}
}
