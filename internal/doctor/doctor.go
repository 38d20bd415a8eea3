// Package doctor says how a deployer does, beside the states of its hosts: its disk and clock, what waits to be told, and what it
// knows of the machines that it deploys to. What is wrong comes with what to do about it.
//
// It contacts no host and changes nothing.
package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bellhop/internal/history"
	"bellhop/internal/history/deliveries"
	"bellhop/internal/newhost"
)

// A Health is what a server answers for doctor. Fields are only added: clients of other releases read it.
type Health struct {
	Now          time.Time            `json:"now"`
	Free         uint64               `json:"free"`    // bytes of the state directory's file system; 0: not known
	Waiting      int                  `json:"waiting"` // rows of the outbox that somebody is to be told and was not
	WaitsSince   *time.Time           `json:"waits_since"`
	LastDelivery *deliveries.Delivery `json:"last_delivery"`
	Hosts        []Host               `json:"hosts"`
	// Clock is filled in by who asks, on the same machine: a server under bellhop.service would be killed for asking.
	Clock Clock `json:"-"`
}

// A Clock is what the kernel says of the machine's.
type Clock int

const (
	ClockUnknown Clock = iota
	ClockKept          // something keeps it right
	ClockLeft          // nothing does
)

// ReadClock asks the kernel of this machine. It needs the system call adjtimex(2), which the filter of
// bellhop.service ends a process for.
func ReadClock() Clock {
	var now unix.Timex
	state, err := unix.Adjtimex(&now)
	switch {
	case err != nil:
		return ClockUnknown // a container may not ask
	case state == unix.TIME_ERROR:
		return ClockLeft
	}
	return ClockKept
}

// A Host is what is known of a machine from its last contact.
type Host struct {
	Name    string `json:"name"`
	Systemd int    `json:"systemd"` // version; 0: it was not contacted yet
	IsLocal bool   `json:"is_local"`
	Pins    int    `json:"pins"` // host keys that it is known by
	// SkewMs is how far its clock was ahead of the server's when it was heard last, milliseconds; null: it was not heard
	// since the server began.
	SkewMs *int64 `json:"skew_ms"`
}

// Read looks at the deployer whose state directory is dir. ahead is how far the clocks of hosts were ahead of this machine's.
func Read(ctx context.Context, db *history.DB, dir string, ahead map[string]time.Duration) (Health, error) {
	h := Health{Now: time.Now().UTC(), Hosts: hostsOf(db, ahead)}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err == nil {
		h.Free = fs.Bavail * uint64(fs.Bsize)
	}

	out := db.Outgoing()
	var err error
	if h.Waiting, err = out.Waiting(ctx); err != nil {
		return h, err
	}
	oldest, err := out.After(ctx, 0, 1)
	if err != nil {
		return h, err
	}
	if len(oldest) > 0 && len(oldest[0].Messages) > 0 {
		h.WaitsSince = &oldest[0].Messages[0].At
	}

	ds, err := db.Deliveries(ctx, 1)
	if len(ds) > 0 {
		h.LastDelivery = &ds[0]
	}
	return h, err
}

func hostsOf(db *history.DB, ahead map[string]time.Duration) []Host {
	known := db.Hosts()
	all := make([]Host, 0, len(known))
	for _, name := range slices.Sorted(maps.Keys(known)) {
		h := known[name]
		if h.State == history.Released {
			continue
		}

		one := Host{Name: name, Systemd: h.Systemd, IsLocal: len(h.Reach.Addresses) == 0, Pins: len(h.Reach.HostKeys)}
		if d, ok := ahead[name]; ok {
			one.SkewMs = new(d.Milliseconds())
		}

		all = append(all, one)
	}

	return all
}

// A Finding is one thing that was looked at.
type Finding struct {
	What string
	Note string // what was found; in a sentence, when nothing is wrong
	Warn string // what works, and may cost somebody much one day; "": nothing
	ToDo string // about Warn
}

// Limits from which on a person is told.
const (
	leastFree = 1 << 30 // room for a fetch, a copy of history and packages
	longWait  = 15 * time.Minute
	mostNamed = 5 // hosts in one line
)

// Findings are what a person is told.
func (h Health) Findings() []Finding {
	return []Finding{h.disk(), h.clock(), h.clocks(), h.messages(), h.delivery(), h.pins(), h.systemd()}
}

func (h Health) disk() Finding {
	f := Finding{What: "disk of the deployer", Note: fmt.Sprintf("%.1f GiB are free", float64(h.Free)/(1<<30))}
	if h.Free > 0 && h.Free < leastFree {
		f.Warn = fmt.Sprintf("%d MiB are free: a fetch, or an update of bellhop.db, may not fit", h.Free>>20)
		f.ToDo = "free 1 GiB where the state directory is"
	}
	return f
}

// clock is about this machine.
func (h Health) clock() Finding {
	f := Finding{What: "clock of the deployer"}
	switch h.Clock {
	case ClockKept:
		f.Note = "it is kept right"
	case ClockLeft:
		f.Warn = "nothing keeps it right: certificates, a GitHub App's login and the times of runs depend on it"
		f.ToDo = "apt install systemd-timesyncd, or chrony, on the deployer's machine"
	default:
		f.Note = "the kernel does not say here whether it is kept right; timedatectl on the machine does"
	}
	return f
}

// clocks is about those of hosts, as each said when it was heard last.
func (h Health) clocks() Finding {
	var off []string
	heard, most := 0, time.Duration(0)
	for _, one := range h.Hosts {
		if one.SkewMs == nil {
			continue
		}

		heard++
		ahead := time.Duration(*one.SkewMs) * time.Millisecond
		most = max(most, ahead.Abs())
		if ahead.Abs() > newhost.MaxSkew {
			off = append(off, one.Name+" is "+apart(ahead))
		}
	}

	f := Finding{What: "clocks of hosts", Note: "no host was heard since the server began"}
	if heard > 0 {
		f.Note = fmt.Sprintf("at most %v off, of %s that said it when they were heard last", most.Round(time.Millisecond), counted(heard, "host"))
	}
	if len(off) == 0 {
		return f
	}

	f.Warn = few(off) + " of the deployer, when they were heard last: certificates and timers go wrong there"
	f.ToDo = "turn on systemd-timesyncd or chrony there; bellhop host check HOST compares again"
	if everyHost := len(off) == heard && heard > 1; everyHost {
		f.ToDo = "every host differs, so look at the deployer's own clock first; then " + f.ToDo
	}

	return f
}

// apart says how far a clock is from another.
func apart(ahead time.Duration) string {
	if ahead < 0 {
		return ahead.Abs().Round(time.Second).String() + " behind"
	}
	return ahead.Round(time.Second).String() + " ahead"
}

func (h Health) messages() Finding {
	f := Finding{What: "messages", Note: "none waits"}
	if h.Waiting == 0 {
		return f
	}
	f.Note = counted(h.Waiting, "row") + " of the outbox are to be sent"
	if h.WaitsSince != nil && h.Now.Sub(*h.WaitsSince) > longWait {
		f.Warn = fmt.Sprintf("%s, the oldest since %s", f.Note, h.WaitsSince.UTC().Format(time.RFC3339))
		f.ToDo = "the server's log says which target refuses; bellhop notify test NAME tries one"
	}
	return f
}

func (h Health) delivery() Finding {
	f := Finding{What: "last delivery", Note: "none yet"}
	if d := h.LastDelivery; d != nil {
		f.Note = fmt.Sprintf("%s: %s", d.At.UTC().Format("2006-01-02 15:04:05 UTC"), d.Answer)
	}
	return f
}

func (h Health) pins() Finding {
	var bare []string
	remote := 0
	for _, one := range h.Hosts {
		if one.IsLocal {
			continue
		}
		remote++
		if one.Pins == 0 {
			bare = append(bare, one.Name)
		}
	}

	f := Finding{What: "host keys", Note: counted(remote, "host") + " known by a pinned key"}
	if len(bare) > 0 {
		f.Warn = "not pinned: " + few(bare)
		f.ToDo = "bellhop host check HOST shows the key; write it as host_key: into bellhop.yaml"
	}
	return f
}

func (h Health) systemd() Finding {
	var old, unknown []string
	lowest := 0
	for _, one := range h.Hosts {
		switch {
		case one.Systemd == 0:
			unknown = append(unknown, one.Name)
			continue
		case one.Systemd < newhost.MinSystemd:
			old = append(old, fmt.Sprintf("%s has %d", one.Name, one.Systemd))
		}
		if lowest == 0 || one.Systemd < lowest {
			lowest = one.Systemd
		}
	}

	f := Finding{What: "systemd of hosts", Note: "no host was contacted yet"}
	if lowest > 0 {
		f.Note = fmt.Sprintf("%d or newer", lowest)
	}
	if lowest > 0 && len(unknown) > 0 {
		f.Note += "; not known of " + few(unknown)
	}
	if len(old) > 0 {
		f.Warn = fmt.Sprintf("%s, and bellhop's units want %d", few(old), newhost.MinSystemd)
		f.ToDo = "upgrade the host's distribution"
	}

	return f
}

// few names the first of a list.
func few(names []string) string {
	if len(names) <= mostNamed {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:mostNamed], ", "), len(names)-mostNamed)
}

func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
