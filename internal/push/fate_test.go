package push_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"bellhop/internal/bundle/wire"
	"bellhop/internal/link"
	"bellhop/internal/push"
)

// What an error means for a push, and whether it may be gone in a second.
func TestFateOf(t *testing.T) {
	kind := func(kind error) error { return &link.Error{Host: "a", Kind: kind, Err: errors.New("so it is")} }
	key := &link.HostKeyError{Host: "a", Address: "b", Got: "c"}

	for name, c := range map[string]struct {
		err    error
		fate   push.Fate
		passes bool
	}{
		"nil":                  {nil, push.Ended, false},
		"unreachable":          {kind(link.ErrUnreachable), push.Waiting, true},
		"lost before it began": {kind(link.ErrLost), push.Waiting, true},
		"something else":       {errors.New("no"), push.Waiting, true},
		"login refused":        {kind(link.ErrAuth), push.Waiting, false},
		"pool closed":          {kind(link.ErrClosed), push.Waiting, false},
		"cancelled":            {fmt.Errorf("offer: %w", context.Canceled), push.Waiting, false},
		"the host's deadline":  {fmt.Errorf("offer: %w", push.ErrDeadline), push.Waiting, false},
		"sudo":                 {kind(link.ErrSudo), push.Denied, false},
		"helper":               {kind(link.ErrHelper), push.Denied, false},
		"another key":          {fmt.Errorf("jump: %w", key), push.WrongKey, false},
		"final":                {push.Final(errors.New("no")), push.Refused, false},
		"protocol":             {fmt.Errorf("hear: %w", wire.ErrProtocol), push.Failed, false},
		"protocol, when final": {push.Final(wire.ErrProtocol), push.Failed, false},
	} {
		if got := push.FateOf(c.err); got != c.fate {
			t.Errorf("%s: FateOf = %d, want %d", name, got, c.fate)
		}
		if got := push.Passes(c.err); got != c.passes {
			t.Errorf("%s: Passes = %v, want %v", name, got, c.passes)
		}
	}

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got := push.FateIn(ended, errors.New("no")); got != push.Cancelled {
		t.Errorf("FateIn of a deployer that ends = %d, want Cancelled", got)
	}
	if got := push.FateIn(ended, key); got != push.WrongKey {
		t.Errorf("FateIn of another key = %d, want WrongKey", got)
	}
}
