package deploy

import (
	"context"
	"io"

	"bellhop/internal/link"
)

// Over reaches hosts through a pool of connections.
func Over(p *link.Pool) Links { return pool{p} }

type pool struct{ *link.Pool }

func (p pool) Helper(ctx context.Context, t link.Target, ahead func(io.Writer) error) (Stream, error) {
	s, err := p.Pool.Helper(ctx, t, ahead)
	if err != nil {
		return nil, err // never a nil *Session in a Stream
	}
	return s, nil
}

func (p pool) Watch(ctx context.Context, t link.Target, up func(ctx context.Context) error) error {
	return p.Pool.Watch(ctx, t, up)
}

func (p pool) Exec(ctx context.Context, t link.Target, cmd string) (int, error) {
	return p.Pool.Exec(ctx, t, cmd, nil, io.Discard, io.Discard)
}
