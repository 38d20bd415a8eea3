// Package tally counts what came of the hosts of a run so far: whether too many failed for another wave, and which
// services failed, and are not tried on the hosts that come later.
package tally

import (
	"fmt"
	"maps"
	"strings"
	"sync"

	"bellhop/deploy/plan"
	"bellhop/internal/history"
	"bellhop/internal/history/results"
	"bellhop/internal/plain"
)

// A Tally is what came of the hosts of a run so far, for those that come later.
type Tally struct {
	max int // of failed hosts

	mu       sync.Mutex
	failed   []string          // hosts that failed as a whole, each as people read it
	cut      []string          // hosts where the run was cut off, by name: they are tried again
	services map[string]string // services that failed on a host, and where and why
}

// New makes the tally of a run in which at most max hosts may fail.
func New(max int) *Tally { return &Tally{max: max, services: map[string]string{}} }

// Count takes in what came of one host.
func (t *Tally) Count(hp *plan.HostPlan, e history.End) {
	t.mu.Lock()
	defer t.mu.Unlock()

	host := hp.Name
	for _, f := range e.FailedServices {
		if t.services[f.Service] == "" && !f.Barred { // what a user bars on one host says nothing of others
			t.services[f.Service] = fmt.Sprintf("it failed on %s: %s", host, f.Error)
		}
	}

	isCut := e.Outcome == history.OutcomeRolledBack && e.State == history.Behind
	switch {
	case isCut:
		t.cut = append(t.cut, host)
	case failedAsWhole(e):
		t.failed = append(t.failed, failure(hp.Failing(e), host))
		t.noteFailing(hp, e)
	}
}

// noteFailing takes in the services for which a host was undone as a whole, since nobody knew what to leave there in
// their place. What a held host was to hold is of another commit, and says nothing of the others. It is called under mu.
func (t *Tally) noteFailing(hp *plan.HostPlan, e history.End) {
	if hp.Hold != nil {
		return
	}
	for _, service := range hp.Failing(e) {
		if t.services[service] == "" {
			t.services[service] = fmt.Sprintf("it failed on %s: %s", hp.Name, e.Error)
		}
	}
}

// failedAsWhole says that a host counts for max_failures: not one that could not be reached, nor one
// whose other services were brought.
func failedAsWhole(e history.End) bool {
	isOfEarlierRun := e.Untouched || e.Outcome == history.OutcomePending // it may still lack the way back, and then nothing was begun there
	if isOfEarlierRun {
		return false
	}

	switch e.State {
	case history.RolledBack, history.Failed:
		return !e.Stood()
	case history.Unconfirmed:
		return e.Reason == results.ReasonCutOff
	}
	return false
}

// Stops says why no other wave is begun; "" when the run goes on. isFirm says that the bundle is at
// fault: a host where the run was cut off is tried again first, and the others with it.
func (t *Tally) Stops() (why string, isFirm bool) {
	t.mu.Lock()
	defer t.mu.Unlock()

	switch {
	case len(t.failed) > t.max:
		return fmt.Sprintf("stopped: %s (max_failures %d)", plain.Few(t.failed), t.max), true
	case len(t.failed)+len(t.cut) > t.max:
		return fmt.Sprintf("not begun: the run was cut off on %s, which is tried again first", plain.Few(t.cut)), false
	}
	return "", false
}

// Failures are the services that failed, and where and why.
func (t *Tally) Failures() map[string]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.services)
}

// failure is what people read of a host that failed: "web failed on a".
func failure(services []string, host string) string {
	if len(services) == 0 {
		return host + " failed"
	}
	return strings.Join(services, ", ") + " failed on " + host
}
