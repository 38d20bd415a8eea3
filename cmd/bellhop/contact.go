package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/link"
)

// One word with the helper on a host, outside any run: who it is, what stands there.

// helloLimit is how long a host may take to say who it is, a helper's upload included.
const helloLimit = 60 * time.Second

// hello asks a host what stands there.
func hello(ctx context.Context, pool *link.Pool, t link.Target) (bundle.Hello, error) {
	h, _, err := ask(ctx, pool, t, nil)
	return h, err
}

// ask puts one question to a host's helper; a nil question only hears the hello.
func ask(ctx context.Context, pool *link.Pool, t link.Target, q *bundle.Ask) (h bundle.Hello, r bundle.Reply, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, helloLimit, errors.New("no answer in time"))
	defer cancel()
	s, err := pool.Helper(ctx, t)
	if err != nil {
		return h, r, err
	}
	defer s.Close()
	in := bundle.NewReader(s)
	if _, err := in.SkipNoise(); err != nil {
		return h, r, fmt.Errorf("%s: %w", t.Name, err)
	}
	if err := in.Expect(bundle.FrameHello, &h); err != nil {
		return h, r, fmt.Errorf("%s: hello: %w", t.Name, err)
	}
	if h.Protocol != bundle.Protocol {
		return h, r, fmt.Errorf("%s: its helper speaks protocol %d, and this bellhop %d", t.Name, h.Protocol, bundle.Protocol)
	}
	if q == nil {
		return h, r, nil
	}
	if err := bundle.WriteFrame(s, bundle.FrameAsk, q); err != nil {
		return h, r, fmt.Errorf("%s: ask %s: %w", t.Name, q.Verb, err)
	}
	if err := in.Expect(bundle.FrameReply, &r); err != nil {
		return h, r, fmt.Errorf("%s: ask %s: %w", t.Name, q.Verb, err)
	}
	if r.Error != "" {
		return h, r, fmt.Errorf("%s: %s", t.Name, r.Error)
	}
	return h, r, nil
}
