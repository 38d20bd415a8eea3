package history

import (
	"time"

	"bellhop/internal/history/generations"
	"bellhop/internal/history/hosttable"
	"bellhop/internal/history/looks"
	"bellhop/internal/history/manifests"
	"bellhop/internal/history/openruns"
	"bellhop/internal/history/services"
	"bellhop/internal/history/stops"
	"bellhop/internal/history/store"
)

// A memory is what the writer keeps of the file in memory, so that a plan over ten thousand hosts
// reads no rows for those that a commit leaves alone (BenchmarkRatioReplan in package deploy).
// It changes only inside a transaction; when one fails, it is thrown away and read again.
type memory struct {
	hosts map[string]Host
	top   string // commit
	// restless are the hosts that a plan must look at whatever a commit changed: all but those
	// that follow the top commit and are current, and those that were released.
	restless map[string]bool
	// failing are the hosts that have rows in failures.
	failing map[string]bool

	services *services.Set // those whose state or commit is not that of their host

	stopped *hosttable.Table[stops.Stop] // the run that stopped before a host
	holds   *hosttable.Table[*stops.Hold]

	looks *hosttable.Table[looks.Look] // what the last look at a host found

	generations *generations.Kept
	runs        *openruns.Set
	manifests   *manifests.Set
}

func newMemory() *memory {
	return &memory{
		services: services.NewSet(), stopped: hosttable.New(stops.Stops()), holds: hosttable.New(stops.Holds()), looks: hosttable.New(looks.Stored()), hosts: map[string]Host{}, restless: map[string]bool{}, failing: map[string]bool{},
		generations: generations.New(), runs: openruns.New(), manifests: manifests.New(),
	}
}

// readMemory reads it from the file.
func readMemory(q store.RowQuerier) (*memory, error) {
	m := newMemory()

	var err error
	if m.runs, err = openruns.Read(q); err != nil {
		return nil, err
	}
	if m.generations, err = generations.Read(q); err != nil {
		return nil, err
	}
	if m.top, err = meta(q, "commit"); err != nil {
		return nil, err
	}
	if m.failing, err = store.Set(store.Column(q, `SELECT DISTINCT host FROM failures`)); err != nil {
		return nil, err
	}

	if m.services, err = services.Read(q); err != nil {
		return nil, err
	}
	if m.stopped, err = hosttable.Read(q, stops.Stops()); err != nil {
		return nil, err
	}
	if m.holds, err = hosttable.Read(q, stops.Holds()); err != nil {
		return nil, err
	}
	if m.looks, err = hosttable.Read(q, looks.Stored()); err != nil {
		return nil, err
	}

	hosts, err := readHosts(q, m.runs)
	if err != nil {
		return nil, err
	}

	for _, h := range hosts {
		m.note(h)
		m.manifests.Count("", h.Given)
	}

	return m, nil
}

// note keeps h as the file now holds it.
func (m *memory) note(h Host) {
	m.hosts[h.Name] = h

	settled := h.Follows && h.State == Current
	if settled || h.State == Released {
		delete(m.restless, h.Name)
	} else {
		m.restless[h.Name] = true
	}
}

// forget takes a host out.
func (m *memory) forget(name string) {
	delete(m.hosts, name)
	delete(m.restless, name)
}

// deploying counts the hosts that a run is at work on.
func (m *memory) deploying() (n int64) {
	for _, h := range m.hosts {
		if h.State == Deploying {
			n++
		}
	}
	return n
}

// host is what is remembered of one, with the commit that it satisfies.
func (m *memory) host(name string) (Host, bool) {
	h, ok := m.hosts[name]
	if h.Follows {
		h.Commit = m.top
	}
	return h, ok
}

// after is what is remembered of h once it ended as e.
func (m *memory) after(h Host, e End, now time.Time) Host {
	if h.Follows {
		h.Commit = m.top
	}
	h.Error = e.Error
	if e.Record != nil {
		h.Generation, h.Had = e.Record.Generation, true
		h.Digest = e.Record.Digest
	}
	if e.Present != nil {
		h.KeysPresent = *e.Present
	}

	switch {
	case e.Stood():
		return afterSuccess(h, e, now)
	case !e.Untouched && (e.Outcome == OutcomeFailed || e.Outcome == OutcomeUnknown):
		h.Digest = "" // nobody knows what the host holds
	}
	h.State, h.Follows = e.State, false
	h.ReasonAt = time.Time{} // it went back anew
	return h.withReason(e.Reason, now)
}

// afterSuccess is what is remembered of a host that holds the bundle of e.
func afterSuccess(h Host, e End, now time.Time) Host {
	was := h.Commit
	h.Digest, h.Had, h.Commit = e.Digest, true, e.Commit
	if e.Overtaken {
		h.Digest = e.Record.Digest
	}
	if e.Manifest != nil {
		h.KeysExpected = len(e.Manifest.Keys)
	}
	if e.Outcome == OutcomeDone || h.DeployedAt.IsZero() {
		h.DeployedAt = now
	}
	if e.BootID != "" {
		h.BootID = e.BootID
	}

	if e.Outcome == OutcomeHeldBack {
		return afterHeldBack(h, was, e)
	}

	// A newer plan may want another bundle by now: then the host is behind, with what this run
	// gave it.
	h.Follows = h.Wanted == e.Digest && !e.Overtaken
	h.State, h.Reason, h.ReasonAt = Behind, "", time.Time{}
	if h.Follows {
		h.State, h.Commit = Current, ""
	}
	return h
}

// afterHeldBack is what is remembered of a host of which some services stay as they were: it does not
// satisfy the commit, so it stays at the one before.
func afterHeldBack(h Host, was string, e End) Host {
	h.Commit, h.Follows, h.State = was, false, HeldBack
	if h.Wanted != e.Whole || e.Overtaken { // a newer plan wants another bundle by now
		h.State = Behind
	}
	return h
}
