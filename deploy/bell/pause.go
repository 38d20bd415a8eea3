package bell

import "time"

// Paused has a bell that is served wait for the end of a pause, after the pause was stored or changed.
func (b *Bell) Paused() { b.rouse() }

// pauseEnds fires when the pause that holds is over by its clock. A pause whose time is over already is
// decided by the next run.
func (b *Bell) pauseEnds() <-chan time.Time {
	p, err := b.runs.Pauses.Now()
	if err != nil || p == nil {
		return nil
	}
	if p.Until.IsZero() || p.IsPast(time.Now()) {
		return nil
	}

	return time.After(time.Until(p.Until))
}
