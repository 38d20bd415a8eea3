package stops

import "bellhop/internal/history/hosttable"

// A Stop says that a run stopped before it came to a host.
type Stop struct {
	Commit      string // of that run; "": none did since the host was pushed last
	CancelledBy string // who cancelled the run; "" when it stopped since too many hosts failed
}

// IsOf says that the run was to bring the host to what it is to hold now: the top commit, or what its hold
// names. After another commit it says nothing any more.
func (s Stop) IsOf(hold *Hold, top string) bool {
	if hold != nil {
		return s.Commit == hold.Commit
	}
	return s.Commit == top
}

// Stops is how they are stored by host.
func Stops() hosttable.Layout[Stop] {
	return hosttable.Layout[Stop]{
		Table: "stopped", Columns: []string{"commit_id", "cancelled_by"},
		Values: func(s Stop) ([]any, error) { return []any{s.Commit, s.CancelledBy}, nil },
		Scan: func(scan func(dest ...any) error) (s Stop, err error) {
			err = scan(&s.Commit, &s.CancelledBy)
			return s, err
		},
		Equal: func(a, b Stop) bool { return a == b },
	}
}
