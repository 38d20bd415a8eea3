package push

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/fleet"
	"bellhop/internal/link"
)

// A brokenLink is to a host that can't be reached twice. Then it is heard while it waits to be confirmed, and
// the line breaks before it says more; when it is heard again, it has gone back.
type brokenLink struct {
	freshLinks
	lines int
}

func (l *brokenLink) Helper(context.Context, link.Target, func(io.Writer) error) (Stream, error) {
	l.lines++
	hello := bundle.Hello{Protocol: bundle.Protocol, Arch: "amd64", Open: "r-1", Waits: true}
	switch {
	case l.lines < 3:
		return nil, &link.Error{Host: "a", Kind: link.ErrUnreachable, Err: errors.New("no route to host")}
	case l.lines > 3:
		hello.Open, hello.Waits, hello.Last = "", false, &bundle.Result{Run: "r-1", Outcome: bundle.OutcomeUnconfirmed}
	}

	fromHost, fromHostW := io.Pipe()
	toHost, toHostW := io.Pipe()
	toHost.CloseWithError(io.ErrClosedPipe)
	go func() {
		io.WriteString(fromHostW, bundle.Magic)
		wire.WriteFrame(fromHostW, bundle.FrameHello, hello)
		fromHostW.Close()
	}()
	return &freshStream{fromHost, toHostW}, nil
}

// Lines that could not be had prove nothing once the host was heard while it waited; and it is confirmed then,
// whatever becomes of that line.
func TestHeardWhileItWaited(t *testing.T) {
	for name, c := range map[string]struct {
		reply  string        // of the host, to who confirms
		takes  time.Duration // of a fresh connection
		heard  bool          // it was confirmed
		cutOff bool
	}{
		"it is confirmed":                         {heard: true},
		"the fresh connection came too late":      {reply: "it is unconfirmed on this host", takes: 8 * time.Second},
		"a fresh connection does not get through": {takes: time.Hour, cutOff: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				links := &brokenLink{freshLinks: freshLinks{answer: func(ctx context.Context, _ int, _ bundle.Ask) (string, error) {
					if !pause(ctx, c.takes) {
						return "", context.Cause(ctx)
					}
					return c.reply, nil
				}}}
				p := &Pusher{Links: links, Memory: &Memory{}, Log: slog.New(slog.DiscardHandler), Limits: Limits{Connect: time.Minute, Retry: time.Second, Patience: time.Minute}}
				conf := p.NewConfirmation(link.Target{Name: "a"}, "r-1", 20*time.Second, func(context.Context) string { return "b" })
				j := &Job{Run: "r-1", Host: "a", Target: link.Target{Name: "a"}, Bundle: &fleet.Bundle{}, confirmation: conf}
				filter := p.NewFilter(nil)
				if _, _, err := p.fetchResult(t.Context(), j, filter, errors.New("the line broke")); err != nil {
					t.Fatal(err)
				}

				got := conf.End(true, filter)
				if !got.Tried || (got.Err == nil) != c.heard || got.CutOff() != c.cutOff {
					t.Errorf("End = %+v, cut off %v; want heard %v, cut off %v", got, got.CutOff(), c.heard, c.cutOff)
				}
			})
		})
	}
}
