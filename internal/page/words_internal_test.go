package page

import (
	"testing"
	"time"

	"bellhop/internal/history"
)

// Each state that wants somebody to act has the command that acts, and no other has one.
func TestCommandOfEachState(t *testing.T) {
	now, why, who := time.Now(), "web.service failed", "Cadey"
	for want, hosts := range map[string][]history.HostStatus{
		"":                           {{State: history.Current}, {State: history.Deploying}},
		"bellhop deploy --retry web": {{State: history.Failed}, {State: history.RolledBack}, {State: history.HeldBack}, {State: history.Unconfirmed}, {State: history.Behind, Error: &why}},
		"bellhop deploy web":         {{State: history.Behind}, {State: history.Unknown}, {State: history.Never}, {State: history.Behind, Error: &why, CancelledBy: &who}},
		"bellhop host check web":     {{State: history.Pending}, {State: history.Current, AwaySince: &now}, {State: history.Failed, AwaySince: &now}},
		"bellhop check":              {{State: history.Refused}},
		"bellhop host remove web":    {{State: history.Released}, {State: history.Released, AwaySince: &now}},
		"bellhop key push web":       {{State: history.Current, Keys: history.KeyCount{Expected: 2, Present: 1}}},
	} {
		for _, h := range hosts {
			h.Name = "web"
			if got := command(h); got != want {
				t.Errorf("%s (%+v): %q, want %q", h.State, h, got, want)
			}
		}
	}
}
