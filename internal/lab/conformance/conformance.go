// Package conformance says what the engine may expect of a machine, as tests.
//
// Run is called with a way to open one: the lab's twin in every go test, a real host where a
// test binary is run there as root. What it finds alike on both, the engine's own tests need
// not try on real hosts again. It touches only units and accounts whose names begin with
// "bhconf", and takes them away when it ends; the place for keys stays.
package conformance

import (
	"context"
	"testing"
	"time"

	"bellhop/internal/host/machine"
)

// Run checks the machine that open gives.
func Run(t *testing.T, open func(t *testing.T) *machine.Machine) {
	for _, c := range []struct {
		name string
		test func(*bench)
	}{
		{"boot", boot},
		{"unknown unit", unknownUnit},
		{"life of a service", lifeOfService},
		{"oneshots", oneshots},
		{"enable", enable},
		{"no install", noInstall},
		{"template", template},
		{"failing", failing},
		{"dies later", diesLater},
		{"dependency", dependency},
		{"assert and condition", assertCondition},
		{"masked", masked},
		{"bad unit", badUnit},
		{"reload verb", reloadVerb},
		{"needs daemon-reload", needsReload},
		{"restart takes along", restartTakesAlong},
		{"activators", activators},
		{"queue", queue},
		{"gate", gate},
		{"accounts", accounts},
		{"files", files},
		{"place for keys", placeForKeys},
		{"sealed copies", sealedCopies},
		{"apply unit", applyUnit},
		{"commands", commands},
		{"command that is too slow", slowCommand},
		{"words in the journal", journal},
		{"probes", probes},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := open(t)
			b := &bench{T: t, m: m}
			t.Cleanup(b.clean)
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
			t.Cleanup(cancel)
			b.ctx = ctx
			c.test(b)
		})
	}
}
