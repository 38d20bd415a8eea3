package routes

import (
	"context"
	"io"

	"bellhop/internal/link"
	"bellhop/internal/push"
)

// Links reaches hosts. Over makes one of a link.Pool.
type Links interface {
	push.Links
	// Fresh connects to a host anew, logs in and hangs up.
	Fresh(ctx context.Context, t link.Target) error
	// Watch keeps a connection to a host until ctx ends, and tells w of it.
	Watch(ctx context.Context, t link.Target, w link.Watcher) error
	// Exec runs one constant command as root, and returns its exit code.
	Exec(ctx context.Context, t link.Target, cmd string) (int, error)
}

// A Carrier runs one constant command as root, with its standard streams. Links that are none can bring no NixOS systems.
type Carrier interface {
	Carry(ctx context.Context, t link.Target, cmd string, in io.Reader, out, errs io.Writer) (int, error)
}

// A Stream is a helper's standard input and output.
type Stream = push.Stream

// Over reaches hosts through a pool of connections.
func Over(p *link.Pool) Links { return pool{p} }

type pool struct{ *link.Pool }

func (p pool) Helper(ctx context.Context, t link.Target, first func(io.Writer) error) (Stream, error) {
	s, err := p.Pool.Helper(ctx, t, first)
	if err != nil {
		return nil, err // never a nil *Session in a Stream
	}
	return s, nil
}

func (p pool) Exec(ctx context.Context, t link.Target, cmd string) (int, error) {
	return p.Pool.Exec(ctx, t, cmd, nil, io.Discard, io.Discard)
}

func (p pool) Carry(ctx context.Context, t link.Target, cmd string, in io.Reader, out, errs io.Writer) (int, error) {
	return p.Pool.Exec(ctx, t, cmd, in, out, errs)
}

func (p pool) FreshHelper(ctx context.Context, t link.Target, first func(io.Writer) error) (Stream, error) {
	s, err := p.Pool.FreshHelper(ctx, t, first)
	if err != nil {
		return nil, err
	}
	return s, nil
}
