package bell

// A Cancelled is what came of cancelling the current run.
type Cancelled struct {
	Run     string   `json:"run"`
	Left    []string `json:"left"`    // hosts that were not begun, by name
	AtWork  []string `json:"at_work"` // hosts that go on to their end, by name
	Planned bool     `json:"planned"` // false: the run has not read the repo yet, and will begin no host
	Again   bool     `json:"again"`   // it was cancelled before
	Next    []string `json:"next"`    // runs that persons asked for, which begin after it
}

// Cancel cancels the current run for somebody; ok is false when there is none.
func (b *Bell) Cancel(by string) (c Cancelled, ok bool) {
	b.mu.Lock()
	now := b.atWork
	c = Cancelled{Run: b.current, Left: []string{}, AtWork: []string{}, Next: []string{}}
	for _, r := range b.queue {
		c.Next = append(c.Next, r.RunID)
	}
	b.mu.Unlock()

	if now.Cancel == nil {
		return c, false
	}
	return c, now.Cancel(by, &c)
}
