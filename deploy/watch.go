package deploy

import (
	"context"
	"errors"

	"bellhop/internal/history"
	"bellhop/internal/link"
	"bellhop/internal/push"
)

// watch holds one line open until ctx ends.
func (k lineKeeper) watch(ctx context.Context, t link.Target) {
	err := k.links.Watch(ctx, t, link.Watcher{
		Up: func(ctx context.Context) error {
			k.set.setUp(t.Name, true)
			k.noteAnswer(t.Name, nil)
			return k.up(ctx, t.Name, t)
		},
		Down: func(_ context.Context, err error) {
			wasUp := k.set.setUp(t.Name, false)
			if wasUp { // the host answered until now
				k.noteAnswer(t.Name, nil)
			}
			k.noteAnswer(t.Name, err)
		},
	})
	if ctx.Err() == nil {
		k.givenUp(ctx, t.Name, err)
	}
}

// noteAnswer has history remember whether a host answers. An error that says neither, such as a
// refused login, changes nothing.
func (k lineKeeper) noteAnswer(host string, err error) {
	var key *link.HostKeyError
	away := push.IsAway(err) || errors.As(err, &key)
	if err != nil && !away {
		return
	}
	if err := k.history.Met(context.Background(), host, away); err != nil {
		k.log.Error("remember whether a host answers", "host", host, "err", err)
	}
}

// givenUp closes a line that no retry can open again; the next run may open another. Where the host
// shows another key a run is asked for at once, whose result reports it.
func (k lineKeeper) givenUp(ctx context.Context, host string, err error) {
	k.set.ended(host, ctx)
	k.log.Error("line to host given up", "host", host, "err", err)
	var key *link.HostKeyError
	if h, ok := k.history.Host(host); ok && h.State != history.Refused && errors.As(err, &key) {
		forgetLast(k.history, k.log, host)
		k.bell.ring(host + " shows another host key")
	}
}

// up is called when a line was opened: it reads the host's own record, and after a reboot puts its
// keys back.
func (k lineKeeper) up(ctx context.Context, host string, t link.Target) error {
	if h, ok := k.history.Host(host); !ok || h.IsUnheard() {
		k.bell.ring(host + " is back")
		if ok && h.KeysPresent == 0 && !t.Keys {
			return nil
		}
	}

	err := k.heal(ctx, host, t)
	if err != nil {
		k.log.Warn("keys are not back yet", "host", host, "err", err)
	}

	if link.HardStop(err) || push.Passes(err) || errors.Is(err, link.ErrAuth) {
		return err
	}
	return nil
}
