package admission

import (
	"fmt"
	"testing"
	"time"
)

func TestLimiter(t *testing.T) {
	l := NewLimiter()
	now := time.Unix(60_000, 0)
	l.now = func() time.Time { return now }
	at := func(remote string) Sender { return Proxies(nil).Peer(remote) }
	attacker, github := at("203.0.113.7:1234"), at("140.82.112.1:443")
	for range FailuresPerMinute {
		if l.Over(attacker) {
			t.Fatal("over the limit too early")
		}
		l.Fail(attacker)
	}
	if !l.Over(attacker) {
		t.Error("not over the limit after its failures")
	}
	if l.Over(at("203.0.113.8:1")) {
		t.Error("its neighbour is over the limit")
	}
	// From ever so many other addresses it cannot wash its counter out.
	l.total = 1 << 30
	for i := range 100_000 {
		l.Fail(at(fmt.Sprintf("11.%d.%d.%d:1", i>>16, i>>8&255, i&255)))
	}
	if !l.Over(attacker) {
		t.Error("the attacker's counter was evicted")
	}
	l.Good(github)
	l.total = 10
	if l.Over(github) || !l.Over(at("198.51.100.1:1")) {
		t.Error("past the global limit, only who proved himself lately is not over it")
	}
	now = now.Add(time.Minute)
	if l.Over(attacker) {
		t.Error("over the limit for longer than a minute")
	}
	for i := range 3 * mostKnown {
		l.Good(at(fmt.Sprintf("11.0.%d.%d:1", i>>8, i&255)))
	}
	if len(l.known) > mostKnown {
		t.Errorf("%d addresses are known, want at most %d", len(l.known), mostKnown)
	}
}
