package link

// OnBeat has f wait for each beat in the clock's place.
func (p *Pool) OnBeat(f func()) { p.beat.wait = f }

// AtWork is how many sessions the pool takes for being at work.
func (p *Pool) AtWork() int { return int(p.beat.sessions.Load()) }
