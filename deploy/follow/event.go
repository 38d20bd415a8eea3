// Package follow keeps what happens in runs for those who follow them: the events of the newest runs.
//
// Each run is kept within a number of bytes, since hosts choose much of their text. Of a run with more to
// tell the oldest events are dropped. Who follows a run hears each event that is kept once, in its order.
package follow

import (
	"time"

	"bellhop/internal/history"
)

// An Event is one thing that happened in a run, for people who watch.
type Event struct {
	Run  string    `json:"run"`
	At   time.Time `json:"at"`
	Host string    `json:"host,omitempty"` // "": the run itself
	// Step is sync, load, plan, begin, a step of the helper's, note (what a person must hear
	// besides what came of it), wave (the hosts that come next), detached (the run does not wait for it any more), deploying (an
	// earlier run is at work there), or end.
	Step    string          `json:"step"`
	Text    string          `json:"text,omitempty"`
	Outcome history.Outcome `json:"outcome,omitempty"` // with step end
}
