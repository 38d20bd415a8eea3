package history

import (
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/history/results"
	"bellhop/internal/history/services"
)

// An End is what came of a run on one host.
type End struct {
	Outcome Outcome
	State   State  // of the host, when Outcome is neither done nor nothing
	Digest  string // of the bundle that the run was about
	Commit  string // that the bundle came from
	Changed []string
	Took    time.Duration
	Error   string
	Reason  results.Reason // with Outcome unconfirmed
	Record  *bundle.Record // what the host holds now, as it says itself; nil: it was not asked
	// Overtaken says that the host held the bundle when the run ended, and that others had changed it by the time
	// that it was heard: Record is theirs.
	Overtaken bool
	Manifest  *bundle.Manifest // stored as last when the host now holds it
	BootID    string           // of the boot that the keys were put there in; "" when not heard
	Present   *int             // keys that are there; nil: not heard
	Heard     bool             // the host said something in this run
	AwayAt    time.Time        // since when it does not answer, or shows another key; zero when it does
	Remember  bool             // never try this bundle there again unless asked
	Stopped   bool             // the run stopped before it came to the host: never try its commit there again unless asked
	// CancelledBy says, with Stopped, who cancelled the run; "" when it stopped since too many hosts failed.
	CancelledBy string
	Untouched   bool // nothing was pushed: the outcome says how the host is left as it was
	Details     any  // a *bundle.Result, of which is kept what no field here says

	// Of a bundle that is composed, since some services stay as they were:
	Whole   string          // digest of the bundle that was wanted
	Tried   string          // with Remember, digest of the composed bundle that failed too; "" when none did
	Origins []bundle.Origin // the commit of each service that stays, "" for one that is not there

	Services       []services.Status  // state of single services; nil: unchanged
	FailedServices []services.Failure // never try these there again unless asked
	Mended         []services.Failure // remembered as failed, and the host holds them now
}

// Stood says that the host holds the bundle.
func (e End) Stood() bool {
	isGood := e.Outcome == OutcomeDone || e.Outcome == OutcomeNothing || e.Outcome == OutcomeHeldBack
	return isGood && !e.Untouched
}

// Failed are the digests of the bundles that are never to be tried there again unless asked.
func (e End) Failed() []string {
	switch {
	case !e.Remember:
		return nil
	case e.Tried == "":
		return []string{e.Digest}
	}
	return []string{e.Digest, e.Tried}
}
