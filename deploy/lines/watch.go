package lines

import (
	"context"
	"errors"

	"bellhop/deploy/contact"
	"bellhop/internal/history"
	"bellhop/internal/link"
	"bellhop/internal/push"
)

// watch holds one line open until ctx ends.
func (k Keeper) watch(ctx context.Context, t link.Target) {
	err := k.Links.Watch(ctx, t, link.Watcher{
		Up: func(ctx context.Context) error {
			k.Set.setUp(t.Name, true)
			k.NoteAnswer(t.Name, nil)
			return k.up(ctx, t.Name, t)
		},
		Down: func(_ context.Context, err error) {
			wasUp := k.Set.setUp(t.Name, false)
			if wasUp { // the host answered until now
				k.NoteAnswer(t.Name, nil)
			}
			k.NoteAnswer(t.Name, err)
		},
	})
	if ctx.Err() == nil {
		k.givenUp(ctx, t.Name, err)
	}
}

// NoteAnswer has history remember whether a host answers. An error that says neither, such as a
// refused login, changes nothing. Nor does another way than the line by which it does not answer, while the
// line is up: it tells when the host goes away, and it would not tell that it is back.
func (k Keeper) NoteAnswer(host string, err error) {
	var key *link.HostKeyError
	away := push.IsAway(err) || errors.As(err, &key)
	if err != nil && (!away || k.Set.IsUp(host)) {
		return
	}
	if err := k.History.NoteContact(context.Background(), host, away); err != nil {
		k.Log.Error("remember whether a host answers", "host", host, "err", err)
	}
}

// givenUp closes a line that no retry can open again; the next run may open another. Where the host
// shows another key a run is asked for at once, whose result reports it.
func (k Keeper) givenUp(ctx context.Context, host string, err error) {
	k.Set.ended(host, ctx)
	k.Log.Error("line to host given up", "host", host, "err", err)
	var key *link.HostKeyError
	if h, ok := k.History.Host(host); ok && h.State != history.Refused && errors.As(err, &key) {
		contact.ForgetLast(k.History, k.Log, host)
		k.Ring(host + " shows another host key")
	}
}

// up is called when a line was opened: it reads the host's own record, and after a reboot puts its
// keys back.
func (k Keeper) up(ctx context.Context, host string, t link.Target) error {
	if h, ok := k.History.Host(host); !ok || h.IsUnheard() {
		k.Ring(host + " is back")
		if ok && h.KeysPresent == 0 && !t.Keys {
			return nil
		}
	}

	err := k.Heal(ctx, host, t)
	if err != nil {
		k.Log.Warn("keys are not back yet", "host", host, "err", err)
	}

	if link.HardStop(err) || errors.Is(err, link.ErrAuth) || mayWork(err) {
		return err
	}
	return nil
}

// mayWork says that keys which were not put back for err may be in a second try. Where the session broke at its
// end they may be there by now, and nobody heard it.
func mayWork(err error) bool { return push.Passes(err) || push.FateOf(err) == push.Lost }
