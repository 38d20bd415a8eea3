package helper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/host"
	"bellhop/internal/host/keyfiles"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/state"
)

// deadTime is how long the lock may be free, with no result, before the run counts as dead.
// systemd starts a killed unit again within a fraction of it.
const deadTime = 3 * time.Second

// aliveEvery is how often the lock is looked at.
const aliveEvery = 250 * time.Millisecond

// sendEvery is how long events are gathered: a person who watches sees no difference, and
// a deployer of a thousand hosts is not woken for each step of each.
const sendEvery = 100 * time.Millisecond

// tail sends on what run tells of itself, from its first event, until it has a result. The
// run does not know that it is watched.
func (s *session) tail(ctx context.Context, run string) error {
	s.m.Systemd.Close() // it would be told of every unit when the run has systemd read its files again; who asks it anything is connected anew
	t := &tailer{s: s, run: run, alive: time.Now(), sent: time.Now()}
	defer t.close()

	news := s.m.Runs().Watch(run) // before the first look, so that nothing comes between
	defer news.Close()
	for {
		res, err := s.m.Runs().Result(run) // before the events, so that none is missed
		if err != nil {
			return err
		}

		more, err := t.read()
		if err != nil {
			return err
		}
		if res != nil {
			waitFree(s.m, time.Second)
			return s.say(bundle.FrameResult, res)
		}
		if t.urgent || time.Since(t.sent) > sendEvery {
			t.sent, t.urgent = time.Now(), false
			if err := s.flush(); err != nil {
				return err
			}
		}
		if err := t.checkAlive(ctx); err != nil {
			return err
		}
		if err := news.Wait(ctx, t.untilNext(), more); err != nil {
			return err
		}
	}
}

type tailer struct {
	s       *session
	run     string
	f       *os.File
	rest    []byte
	sent    time.Time
	urgent  bool // what was read does not wait to be sent
	alive   time.Time
	checked time.Time
}

func (t *tailer) close() {
	if t.f != nil {
		t.f.Close()
	}
}

// untilNext is how long the run may say nothing until there is something to do: events that wait are to
// be sent, or it is time to see whether it lives.
func (t *tailer) untilNext() time.Duration {
	next := t.checked.Add(aliveEvery)
	if send := t.sent.Add(sendEvery); t.s.held.Len() > 0 && send.Before(next) {
		next = send
	}
	return max(time.Until(next), time.Millisecond)
}

// read takes up the events that were added. They wait, and go out in one write.
func (t *tailer) read() (more bool, err error) {
	if t.f == nil {
		f, err := os.Open(t.s.m.Runs().Events(t.run))
		if err != nil {
			return false, nil // not yet
		}

		t.f = f
	}

	p, err := io.ReadAll(t.f)
	if err != nil || len(p) == 0 {
		return false, err
	}

	t.rest = append(t.rest, p...)
	for {
		line, rest, ok := bytes.Cut(t.rest, []byte{'\n'})
		if !ok {
			return true, nil
		}

		t.rest = rest
		var e bundle.Event
		if json.Unmarshal(line, &e) == nil {
			t.urgent = t.urgent || e.Step == "confirm" // the run waits for the deployer
			if err := wire.WriteFrame(&t.s.held, bundle.FrameEvent, e); err != nil {
				return true, err
			}
		}
	}
}

// checkAlive sees a run that died without a result, and settles what it left.
func (t *tailer) checkAlive(ctx context.Context) error {
	if time.Since(t.checked) < aliveEvery {
		return nil
	}

	t.checked = time.Now()
	unlock, err := t.s.m.Lock(0)
	if errors.Is(err, machine.ErrBusy) {
		t.alive = t.checked
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()

	if time.Since(t.alive) < deadTime {
		return nil
	}
	if err := host.SettleLocked(ctx, t.s.m); err != nil {
		return err
	}
	if res, err := t.s.m.Runs().Result(t.run); res != nil || err != nil {
		return err
	}

	res := &bundle.Result{Run: t.run, Outcome: bundle.OutcomeRolledBack, CutOff: true, Error: "the run died before it touched anything"}
	if now, err := t.s.m.Current(); err == nil && now.Exists {
		res.Record = &now.Record
	}

	keyfiles.Of(t.s.m).Drop(t.run, nil)
	t.s.m.Unstage(t.run)
	t.s.m.Runs().Release(t.run)
	if err := t.s.m.Runs().Make(t.run); err != nil {
		return err
	}

	return t.s.m.Runs().Save(res)
}

// waitFree waits until a run that has written its result has released the lock, so that who reads it
// it may begin the next.
func waitFree(m state.Dir, most time.Duration) {
	if unlock, err := m.Lock(most); err == nil {
		unlock()
	}
}
