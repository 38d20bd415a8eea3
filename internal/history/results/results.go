// Package results says what came of a run on one host, beside the outcome: why it was unconfirmed, which
// edited files it put back, what became of units, and what the host saw of what failed.
//
// Most of it is JSON in one column of the result, its details; most results have none. Evidence has some
// kilobytes, so it has rows of its own, and only the newest results keep theirs.
package results

// A Reason says why a host is unconfirmed. It is stored and printed as it is written here.
type Reason string

// Reasons.
const (
	ReasonCutOff Reason = "cut-off"       // the bundle cut the host off: nobody could log in any more
	ReasonAway   Reason = "deployer-away" // nobody was there to confirm it
)
