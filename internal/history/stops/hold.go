package stops

import (
	"fmt"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/history/hosttable"
	"bellhop/internal/history/null"
)

// A Hold says that a person brought a host back to a bundle that it held before, and that the host is to
// hold that one until the hold ends.
type Hold struct {
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"` // "" when none was given
	Since  time.Time `json:"since"`
	Run    string    `json:"run"` // that brought the host back

	Digest  string          `json:"digest"`            // of the bundle that the host is to hold
	Commit  string          `json:"commit"`            // that it came from
	Origins []bundle.Origin `json:"origins,omitempty"` // of services of it that are not at Commit
	// Wanted is the digest of what the head wanted of the host when the hold began; "" when that could
	// not be made. A commit that wants something else ends the hold.
	Wanted string `json:"wanted,omitempty"`
	// Host is the name that the host had when the hold began; "" where it has it still.
	Host string `json:"host,omitempty"`
	// Left are the bundles that rollbacks left since the host was not held last, by digest: another
	// rollback goes to none of them.
	Left []string `json:"left,omitempty"`
	// Test is the branch of a system that is tried on the host, and Commit what it was at. "": a person brought the host
	// back. A test that could not be made has no Digest.
	Test string `json:"test,omitempty"`
}

// A TestStatus is a system that is tried on a host.
type TestStatus struct {
	Branch string `json:"branch"` // testing-HOST
	Commit string `json:"commit"` // that the host is to run
}

// testEnds says what ends a test.
const testEnds = "when the branch is deleted or merged, or with the next push to the branch that is deployed"

// HoldStatus is a hold as a status shows it.
type HoldStatus struct {
	By     *string   `json:"by"`
	Reason *string   `json:"reason"` // null when none was given
	Since  time.Time `json:"since"`

	Test *TestStatus `json:"test,omitempty"` // nil: no system is tried there
}

// Status is h as a status shows it; nil where a host is not held.
func (h *Hold) Status() *HoldStatus {
	if h == nil {
		return nil
	}

	s := &HoldStatus{By: null.Text(h.By), Reason: null.Text(h.Reason), Since: h.Since.UTC()}
	if h.Test != "" {
		s.Test = &TestStatus{Branch: h.Test, Commit: h.Commit}
	}
	return s
}

// IsTest says that a system is tried on the host, which no person brought back. h may be nil.
func (h *Hold) IsTest() bool { return h != nil && h.Test != "" }

// GoesBack says that a person brought the host back to what it held before. h may be nil.
func (h *Hold) GoesBack() bool { return h != nil && h.Test == "" }

// Text says who holds a host, since when and why: "held since 2026-11-30 07:20 UTC by cadey: it leaks".
func (h *Hold) Text() string {
	if h.IsTest() {
		return fmt.Sprintf("to run a test of commit %.10s (branch %s) since %s", h.Commit, h.Test, clockText(h.Since))
	}

	s := "held since " + clockText(h.Since)
	if h.By != "" {
		s += " by " + h.By
	}
	if h.Reason != "" {
		s += ": " + h.Reason
	}
	return s
}

// EndsText says who holds a host, and how that ends for the host.
func (h *Hold) EndsText(host string) string {
	if h.IsTest() {
		return h.Text() + "; it ends " + testEnds
	}
	return fmt.Sprintf("%s; it ends with a commit that changes what the host is to hold, or with: bellhop resume %s", h.Text(), host)
}

// Holds is how the holds of hosts are stored.
func Holds() hosttable.Layout[*Hold] { return hosttable.JSON[*Hold]("holds", "hold", "the hold", nil) }
