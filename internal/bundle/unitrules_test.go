package bundle_test

import (
	"testing"

	"bellhop/internal/bundle"
)

// A unit of a service that is held back is left down when its last start failed. One that only waited for
// its keys, or need not run, is treated like any other.
func TestUnitsOfHeldServices(t *testing.T) {
	app := &bundle.Unit{Name: "app.service", Start: true, OnChange: bundle.Restart}
	keyed := &bundle.Unit{Name: "app.service", Start: true, OnChange: bundle.Restart, Triggers: []string{bundle.KindKey + ":db"}}
	timed := &bundle.Unit{Name: "app.service", OnChange: bundle.Restart}
	for what, tt := range map[string]struct {
		unit *bundle.Unit
		now  bundle.UnitFacts
		want bundle.UnitVerb
	}{
		"failed":                         {app, bundle.UnitFacts{Failed: true, RanThisBoot: true}, bundle.VerbLeave},
		"did not run since the boot":     {app, bundle.UnitFacts{}, bundle.VerbLeave},
		"waited for keys after a reboot": {keyed, bundle.UnitFacts{Barred: true}, bundle.VerbStart},
		"with keys, and failed":          {keyed, bundle.UnitFacts{Failed: true, RanThisBoot: true}, bundle.VerbLeave},
		"is started by a timer":          {timed, bundle.UnitFacts{}, bundle.VerbNone},
		"runs":                           {app, bundle.UnitFacts{Running: true, RanThisBoot: true}, bundle.VerbKeep},
		"stopped by hand":                {app, bundle.UnitFacts{RanThisBoot: true}, bundle.VerbDrift},
	} {
		tt.now.StaysBack = true
		unchanged := func(string) bool { return false }
		if got := bundle.DecideUnit(tt.unit, tt.unit, unchanged, tt.now).Verb; got != tt.want {
			t.Errorf("%s: %q, want %q", what, got, tt.want)
		}
	}
}
