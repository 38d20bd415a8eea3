package plan

import (
	"errors"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
)

// What a run does with one host, for everything that decides it.
func TestDecide(t *testing.T) {
	failures := map[string]history.Failure{"new": {State: history.RolledBack, Error: "unit web failed"}}
	behind := history.Host{State: history.Behind, Had: true, Digest: "old", Wanted: "new"}
	with := func(change func(*history.Host)) history.Host {
		h := behind
		change(&h)
		return h
	}
	current := with(func(h *history.Host) { h.State, h.Digest = history.Current, "new" })
	pending := with(func(h *history.Host) { h.State, h.Error = history.Pending, "no route" })
	clock := Request{Trigger: TriggerClock}
	later := &fleet.SystemError{Text: "being made", Later: true}

	for _, c := range []struct {
		name     string
		req      Request
		last     history.Host
		failures map[string]history.Failure
		pushing  bool
		settled  bool
		err      error
		empty    bool // the bundle has nothing in it
		state    history.State
		push     bool
		text     string
	}{
		{name: "new", last: history.Host{}, state: history.Never, push: true},
		{name: "new, and to hold nothing", empty: true, state: history.Current},
		{name: "behind, and to hold nothing", empty: true, last: behind, state: history.Behind, push: true},
		{name: "behind", last: behind, state: history.Behind, push: true},
		{name: "current", last: current, state: history.Current},
		{name: "current, and asked for", req: Request{All: true}, last: current, state: history.Current, push: true},
		{name: "unknown, with what is wanted", last: with(func(h *history.Host) { h.State, h.Digest = history.Unknown, "new" }), state: history.Unknown, push: true},
		{name: "not chosen", req: Request{On: "other"}, last: behind, state: history.Behind},
		{name: "at work", last: behind, pushing: true, state: history.Deploying},
		{name: "no bundle", last: behind, err: errors.New("no secret"), state: history.Refused, text: "no secret"},
		{name: "its system is made", last: current, err: later, state: history.Behind, text: "being made"},
		{name: "its first system is made", err: later, state: history.Never, text: "being made"},
		{name: "its system is made, and it was away", last: pending, err: later, state: history.Behind, text: "being made"},
		{name: "its system is made, and nothing is known of it", last: with(func(h *history.Host) { h.State = history.Unknown }), err: later, state: history.Unknown, text: "being made"},

		{name: "failed", last: behind, failures: failures, state: history.RolledBack, text: "unit web failed"},
		{name: "failed, all", req: Request{All: true}, last: behind, failures: failures, state: history.RolledBack, text: "unit web failed"},
		{name: "failed, retry", req: Request{Retry: true}, last: behind, failures: failures, state: history.Behind, push: true},
		{name: "failed, take over", req: Request{TakeOver: true}, last: behind, failures: failures, state: history.Behind, push: true},
		{name: "failed, another is chosen", req: Request{Retry: true, On: "other"}, last: behind, failures: failures, state: history.RolledBack, text: "unit web failed"},

		{name: "pending", last: pending, state: history.Pending, push: true, text: "no route"},
		{name: "pending, by the clock", req: clock, last: pending, settled: true, state: history.Pending, text: "no route"},
		{name: "pending, by the clock, and it differs", req: clock, last: pending, state: history.Pending, push: true, text: "no route"},
		{name: "pending, another bundle", req: clock, last: with(func(h *history.Host) { h.State, h.Wanted = history.Pending, "older" }), settled: true, state: history.Pending, push: true},
		{name: "behind, by the clock", req: clock, last: behind, settled: true, state: history.Behind, push: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &Plan{Request: c.req}
			if c.req.On != "" {
				p.Chosen = map[string]bool{c.req.On: true}
			}
			w := &wanted{host: &fleet.Host{Name: "a"}, bundle: &fleet.Bundle{Digest: "new"}, err: c.err}
			if !c.empty {
				w.bundle.Manifest.Links = []bundle.Link{{Path: "/etc/localtime", Target: "/usr/share/zoneinfo/UTC"}}
			}
			hp := decide(p, w, facts{last: c.last, pushing: c.pushing, settled: c.settled,
				failure: func(digest string) (history.Failure, bool) { f, failed := c.failures[digest]; return f, failed }})

			if hp.State != c.state || hp.Push != c.push || hp.Error != c.text {
				t.Errorf("decide: %s, push %v, error %q; want %s, push %v, error %q", hp.State, hp.Push, hp.Error, c.state, c.push, c.text)
			}
			if follows := c.state == history.Current; hp.Follows != follows {
				t.Errorf("decide: follows %v, want %v", hp.Follows, follows)
			}
		})
	}
}
