package deploy_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/history"
	"bellhop/internal/host/helper"
	"bellhop/internal/host/machine"
)

// A helperSession is a session with a helper, by hand.
type helperSession struct {
	*wire.Reader
	to    *io.PipeWriter
	hello bundle.Hello
}

func (w *world) helperSession(m *machine.Machine) *helperSession {
	toHost, to := io.Pipe()
	from, fromHost := io.Pipe()
	go func() {
		err := helper.Serve(context.Background(), m, toHost, fromHost)
		fromHost.CloseWithError(cmp.Or(err, io.EOF))
	}()
	s := &helperSession{Reader: wire.NewReader(from), to: to}
	_, err := s.SkipNoise()
	w.must(err)
	w.must(s.Expect(bundle.FrameHello, &s.hello))
	return s
}

// anotherRun has another process of the same deployer bring a file more to a host, and returns what
// came of it. Nobody confirms it within window, milliseconds.
func (w *world) anotherRun(m *machine.Machine, run string, window int64) bundle.Result {
	var reply bundle.Reply
	s := w.helperSession(m)
	w.must(wire.WriteFrame(s.to, bundle.FrameAsk, bundle.Ask{Verb: bundle.AskManifest}))
	w.must(s.Expect(bundle.FrameReply, &reply))

	text := "more\n"
	b := *reply.Manifest
	b.Files = append(b.Files, bundle.File{Path: "/etc/more", Digest: bundle.DigestBytes([]byte(text)), Size: int64(len(text)), Mode: 0o644,
		User: "root", Group: "root", Service: "web"})
	s = w.helperSession(m)
	w.must(wire.WriteFrame(s.to, bundle.FrameOffer, bundle.Offer{Run: run, Mode: bundle.ModeDeploy, Nonce: make([]byte, 32), Base: s.hello.Record.Generation,
		Deployer: s.hello.Record.Deployer, Digest: b.Digest(), Manifest: b, Confirm: window}))
	var want bundle.Want
	w.must(s.Expect(bundle.FrameWant, &want))
	for _, k := range b.Keys { // a value that is the same is not sent
		if want.Keys[k.Name] == nil {
			w.t.Errorf("the host lacks key %s", k.Name)
		}
	}
	w.must(wire.WriteBlob(s.to, bundle.Blob{Kind: bundle.BlobFile, Name: want.Files[0], Size: int64(len(text))}, strings.NewReader(text)))
	w.must(wire.WriteFrame(s.to, bundle.FrameEnd, struct{}{}))
	for {
		kind, p, err := s.Next()
		w.must(err)
		if kind != bundle.FrameResult {
			continue
		}
		var res bundle.Result
		w.must(bundle.Unmarshal(p, &res))
		return res
	}
}

// A push of keys waits for the run that is at work on the host, and not for its own turn to be told
// that it is busy. It brings the keys of what the host holds then.
func TestKeyPushWaitsForTheRunBefore(t *testing.T) {
	w := newWorld(t, "a")
	w.vault(1, w.realAge(), func(i int) string { return fmt.Sprint("value ", i) })
	w.push("first", history.OutcomeDone)
	m := w.machines["a"]
	pushed := make(chan error, 1)
	m.Host().Reached = func(step string) {
		if step != "waiting" {
			return
		}
		w.must(os.Remove(m.Path("/run/keys/key0")))
		go func() {
			hks, err := w.d.Keys().Push(context.Background(), "a")
			if err == nil && hks[0].Error != nil {
				err = errors.New(*hks[0].Error)
			}
			pushed <- err
		}()
	}
	res := w.anotherRun(m.Host(), "another", 500)
	if res.Outcome != bundle.OutcomeUnconfirmed {
		t.Fatalf("the run before = %+v, want it unconfirmed", res)
	}
	if err := <-pushed; err != nil {
		t.Errorf("key push: %v", err)
	}
	if got := read(t, m.Path("/run/keys/key0")); got != "value 0" {
		t.Errorf("key0 holds %q", got)
	}
}
