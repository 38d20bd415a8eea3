package link

import "sync/atomic"

// Stats counts what a pool did since it was made.
type Stats struct {
	Open    int // connections that are open now
	Targets map[string]TargetStats
}

// TargetStats counts for one target. Bytes are those on the wire, handshakes included.
type TargetStats struct {
	Dials      int64 // network connections begun
	Handshakes int64 // logins that succeeded
	Sessions   int64 // commands begun
	Uploads    int64 // helpers sent
	BytesIn    int64 // from the host
	BytesOut   int64 // to the host
}

// Total is the sum over all targets.
func (s Stats) Total() TargetStats {
	var sum TargetStats
	for _, t := range s.Targets {
		sum.Dials += t.Dials
		sum.Handshakes += t.Handshakes
		sum.Sessions += t.Sessions
		sum.Uploads += t.Uploads
		sum.BytesIn += t.BytesIn
		sum.BytesOut += t.BytesOut
	}

	return sum
}

type counters struct {
	dials, handshakes, sessions, uploads, in, out atomic.Int64
}

func (c *counters) read() TargetStats {
	return TargetStats{c.dials.Load(), c.handshakes.Load(), c.sessions.Load(), c.uploads.Load(), c.in.Load(), c.out.Load()}
}
