package deploy_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"bellhop/deploy/routes"
	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/history"
	"bellhop/internal/link"
)

// scripted answers for one host, h0 if it has no name: by an error in place of a line, or by what a helper says.
type scripted struct {
	routes.Links
	name string
	err  error
	say  func(in *wire.Reader, out io.Writer, o *bundle.Offer) error
}

func (l scripted) Helper(ctx context.Context, t link.Target, first func(io.Writer) error) (routes.Stream, error) {
	if t.Name != cmp.Or(l.name, "h0") {
		return l.Links.Helper(ctx, t, first)
	}
	if l.err != nil {
		return nil, l.err
	}

	var heard bytes.Buffer
	if first != nil {
		if err := first(&heard); err != nil {
			return nil, err
		}
	}
	in, inW := io.Pipe()
	outR, out := io.Pipe()
	go func() {
		r := wire.NewReader(io.MultiReader(&heard, in))
		var o bundle.Offer
		err := l.say(r, out, &o)
		out.CloseWithError(err)
		in.CloseWithError(io.ErrClosedPipe)
	}()
	return pipes{outR, inW}, nil
}

// result is a helper that ends its run as res says.
func result(res bundle.Result) func(*wire.Reader, io.Writer, *bundle.Offer) error {
	return func(in *wire.Reader, out io.Writer, o *bundle.Offer) error {
		if err := greet(out, bundle.Hello{}); err != nil {
			return err
		}
		if err := in.Expect(bundle.FrameOffer, o); err != nil {
			return err
		}
		res := res
		res.Run = o.Run
		if res.Outcome == bundle.OutcomeDone {
			res.Record = &bundle.Record{Network: "sim", Host: "h0", Deployer: "SHA256:one", Generation: 1, Digest: o.Digest}
		}
		return wire.WriteFrame(out, bundle.FrameResult, &res)
	}
}

// hello is a helper that says that and no more.
func hello(h bundle.Hello) func(*wire.Reader, io.Writer, *bundle.Offer) error {
	return func(in *wire.Reader, out io.Writer, o *bundle.Offer) error {
		if err := greet(out, h); err != nil {
			return err
		}
		in.Expect(bundle.FrameOffer, o)
		return nil
	}
}

func greet(out io.Writer, h bundle.Hello) error {
	if h.Protocol == 0 {
		h.Protocol = bundle.Protocol
	}
	h.Arch, h.BootID = "amd64", "boot"
	if _, err := io.WriteString(out, bundle.Magic); err != nil {
		return err
	}
	return wire.WriteFrame(out, bundle.FrameHello, h)
}

// What comes of a push, and the state that it leaves the host in: the whole table.
func TestOutcomeAndState(t *testing.T) {
	unreachable := func(err error) error { return &link.Error{Host: "h0", Kind: link.ErrUnreachable, Err: err} }
	kind := func(kind error) error { return &link.Error{Host: "h0", Kind: kind, Err: errors.New("so it is")} }
	failed := func(res bundle.Result) func(*wire.Reader, io.Writer, *bundle.Offer) error {
		res.Error = "so it is"
		return result(res)
	}

	for name, c := range map[string]struct {
		err     error
		say     func(*wire.Reader, io.Writer, *bundle.Offer) error
		outcome history.Outcome
		state   history.State
		text    string // that its error has
	}{
		"no answer":           {err: unreachable(errors.New("no answer")), outcome: history.OutcomePending, state: history.Pending, text: "away since 2000-01-01T"},
		"there, but not now":  {err: unreachable(errors.Join(link.ErrThere, errors.New("MaxSessions"))), outcome: history.OutcomePending, state: history.Pending, text: "unreachable"},
		"login refused":       {err: kind(link.ErrAuth), outcome: history.OutcomePending, state: history.Pending, text: "login refused"},
		"sudo refused":        {err: kind(link.ErrSudo), outcome: history.OutcomeFailed, state: history.Pending, text: "sudo -n refused"},
		"no helper":           {err: kind(link.ErrHelper), outcome: history.OutcomeFailed, state: history.Pending, text: "helper: so it is"},
		"pool closed":         {err: kind(link.ErrClosed), outcome: history.OutcomePending, state: history.Pending, text: "pool is closed"},
		"connection lost":     {err: kind(link.ErrLost), outcome: history.OutcomePending, state: history.Pending, text: "connection lost"},
		"something else":      {err: errors.New("h0: so it is"), outcome: history.OutcomePending, state: history.Pending, text: "so it is"},
		"another key":         {err: &link.HostKeyError{Host: "h0", Address: "10.0.0.1", Pinned: []string{"a"}, Got: "b", Line: "ssh-ed25519 B"}, outcome: history.OutcomeRefused, state: history.Refused, text: "pin the new one in the repo: host_key: ssh-ed25519 B"},
		"another key between": {err: unreachable(&link.HostKeyError{Host: "jump", Address: "10.0.0.1", Pinned: []string{"a"}, Got: "b", Line: "ssh-ed25519 B"}), outcome: history.OutcomeRefused, state: history.Refused, text: "pin the new one of jump"},

		"another protocol": {say: hello(bundle.Hello{Protocol: 99}), outcome: history.OutcomeFailed, state: history.Failed, text: "protocol 99"},
		"another network":  {say: hello(bundle.Hello{Record: &bundle.Record{Network: "x", Host: "h0", Deployer: "SHA256:one", Generation: 1}}), outcome: history.OutcomeRefused, state: history.Refused, text: "network"},
		"another host":     {say: hello(bundle.Hello{Record: &bundle.Record{Network: "sim", Host: "h1", Deployer: "SHA256:one", Generation: 1}}), outcome: history.OutcomeRefused, state: history.Refused, text: "two names for one machine"},
		"another deployer": {say: hello(bundle.Hello{Record: &bundle.Record{Network: "sim", Host: "h0", Deployer: "SHA256:two", Generation: 1}}), outcome: history.OutcomeRefused, state: history.Refused, text: "--take-over takes it"},
		"hangs up":         {say: hello(bundle.Hello{}), outcome: history.OutcomePending, state: history.Pending, text: "hear what is lacking"},

		"done":             {say: result(bundle.Result{Outcome: bundle.OutcomeDone}), outcome: "done", state: history.Current},
		"rolled back":      {say: failed(bundle.Result{Outcome: bundle.OutcomeRolledBack}), outcome: "rolled-back", state: history.RolledBack, text: "so it is"},
		"cut off":          {say: failed(bundle.Result{Outcome: bundle.OutcomeRolledBack, CutOff: true}), outcome: "rolled-back", state: history.Behind, text: "so it is"},
		"failed":           {say: failed(bundle.Result{Outcome: bundle.OutcomeFailed}), outcome: history.OutcomeFailed, state: history.Failed, text: "so it is"},
		"refused bundle":   {say: failed(bundle.Result{Outcome: bundle.OutcomeRefused, Refused: bundle.RefusedBundle}), outcome: history.OutcomeRefused, state: history.Refused, text: "so it is"},
		"refused deployer": {say: failed(bundle.Result{Outcome: bundle.OutcomeRefused, Refused: bundle.RefusedDeployer}), outcome: history.OutcomeRefused, state: history.Refused, text: "so it is"},
		"refused base":     {say: failed(bundle.Result{Outcome: bundle.OutcomeRefused, Refused: bundle.RefusedBase}), outcome: history.OutcomePending, state: history.Pending, text: "so it is"},
		"busy":             {say: failed(bundle.Result{Outcome: bundle.OutcomeRefused, Refused: bundle.RefusedBusy}), outcome: history.OutcomePending, state: history.Pending, text: "so it is"},
		"no reason":        {say: result(bundle.Result{Outcome: bundle.OutcomeFailed}), outcome: history.OutcomeFailed, state: history.Failed, text: "gave no reason"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &sim{t: t, gentle: true, rng: rand.New(rand.NewPCG(1, 1)), links: simLinks{map[string]*model{}}, path: filepath.Join(t.TempDir(), "0.db")}
				for i := range 4 {
					name := fmt.Sprint("h", i)
					s.links.models[name] = calmModel(name)
				}
				s.commit()
				s.live()
				defer s.db.Close()
				s.d.Links = scripted{Links: s.links, err: c.err, say: c.say}

				r := s.run(t.Context())
				st, err := s.db.Status(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				got := r.Hosts[0]
				text := ""
				if got.Error != nil {
					text = *got.Error
				}
				if got.Name != "h0" || *got.Outcome != c.outcome || st.Hosts[0].State != c.state || !strings.Contains(text, c.text) {
					t.Errorf("%s ended %s, is %s (%q), want %s, %s (… %q …)", got.Name, *got.Outcome, st.Hosts[0].State, text, c.outcome, c.state, c.text)
				}
			})
		})
	}
}

// A host without a record has nothing to give back, which is good only where it had nothing, or
// where it was given back by a run whose end was not heard.
func TestGiveBackWithoutARecord(t *testing.T) {
	w := newWorld(t, "a")
	w.push("first", history.OutcomeDone)
	gaveBack := &bundle.Result{Run: "undo-a", Outcome: bundle.OutcomeDone}
	deployed := &bundle.Result{Run: "r-1", Outcome: bundle.OutcomeDone, Record: &bundle.Record{Generation: 1}}

	for name, c := range map[string]struct {
		host  string
		hello bundle.Hello
		lost  bool
	}{
		"never had anything":  {host: "new"},
		"given back":          {host: "a", hello: bundle.Hello{Last: gaveBack}},
		"lost":                {host: "a", lost: true},
		"undo failed":         {host: "a", hello: bundle.Hello{Last: &bundle.Result{Run: "undo-a", Outcome: bundle.OutcomeFailed}}, lost: true},
		"deploy was the last": {host: "a", hello: bundle.Hello{Last: deployed}, lost: true},
	} {
		w.d.Links = scripted{name: c.host, say: hello(c.hello)}
		if _, err := w.d.GiveBack(t.Context(), c.host); (err != nil) != c.lost {
			t.Errorf("%s: GiveBack = %v, want an error: %v", name, err, c.lost)
		}
	}
}
