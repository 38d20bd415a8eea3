// Package trace writes what runs did and when, as a file that Perfetto and Chrome show.
//
// A span is something that took time: the sync of a run, the offer to a host, a step of a helper. A
// track is a row of spans that do not overlap but lie within each other: one of the run, one of each
// push to a host, and one of what each host did by its own account. The clocks of hosts are set to the
// deployer's by how long their words took.
//
// The file is one JSON array of events of the Trace Event Format. Each event is written at once, in one
// write together with the bracket that ends the array, so that the file is valid JSON at any moment,
// also after kill -9; a power cut may take that bracket, which neither viewer needs. A file that has
// grown to half of MaxSize is renamed to NAME.1, and a new one is begun.
//
// What is not traced costs nothing: the methods of a nil File do nothing. Texts pass internal/plain;
// those of hosts pass the filter of their session before they come here.
package trace

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"bellhop/internal/plain"
)

// MaxSize is how large a trace grows, with the former file beside it, bytes.
const MaxSize = 64 << 20

// maxText caps the text of a span, bytes.
const maxText = 256

// A File is a trace that is being written. A nil File writes nothing. Its methods may be called by
// several goroutines.
type File struct {
	path string
	half int64 // when the file is renamed

	mu     sync.Mutex // guards what follows
	file   *os.File
	size   int64 // up to the end of the last event
	began  time.Time
	tracks map[track]int
	clocks map[string]*clock // of hosts
	err    error             // the first that a write met: nothing is written after it
}

// A track is a row of spans, below one of two headings.
type track struct {
	heading int
	name    string
}

// The headings of tracks; viewers call them processes.
const (
	deployer = 1
	hosts    = 2
)

// A clock is what is known of a host's clock, and what the host does now.
type clock struct {
	ahead time.Duration // least time from a word's stamp to its arrival, by the two clocks
	known bool
	last  time.Time // when the last step began, by the deployer's clock
	open  bool      // a step has begun
}

// An event is one of the Trace Event Format.
type event struct {
	Name string            `json:"name,omitempty"`
	Ph   string            `json:"ph"` // B begins a span, E ends the last of its track, M names a track
	Ts   float64           `json:"ts"` // microseconds since the file was begun
	Pid  int               `json:"pid"`
	Tid  int               `json:"tid"`
	Args map[string]string `json:"args,omitempty"`
}

// Create begins a trace in the file at path, which is made 0600. A file that is there, of an earlier
// trace, is renamed to path.1; what is no regular file is an error.
func Create(path string) (*File, error) {
	f := &File{path: path, half: MaxSize / 2}
	if err := f.begin(); err != nil {
		return nil, fmt.Errorf("write a trace to %s: %w", path, err)
	}
	return f, nil
}

// begin makes the file.
func (f *File) begin() error {
	info, err := os.Lstat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("it is no regular file")
	default:
		if err := os.Rename(f.path, f.path+".1"); err != nil {
			return err
		}
	}

	file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}

	f.file, f.size, f.began, f.tracks = file, 0, time.Now(), map[track]int{}
	if f.clocks == nil {
		f.clocks = map[string]*clock{}
	}

	f.name("process_name", deployer, 0, "deployer, from "+f.began.UTC().Format(time.RFC3339Nano))
	f.name("process_name", hosts, 0, "hosts, by their own steps")
	return f.err
}

func nothing() {}

// Span begins a span of the deployer's, and returns what ends it. track is "run" or the name of a host;
// text, which may be empty, is shown beside it.
func (f *File) Span(track, name, text string) (end func()) {
	if f == nil {
		return nothing
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.write(deployer, track, "B", name, text, time.Now())
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.write(deployer, track, "E", "", "", time.Now())
	}
}

// HostClock says that a host has just named the time by its clock, Unix milliseconds; 0: it did not.
// From then on its stamps are read by that.
func (f *File) HostClock(host string, at int64) {
	if f == nil || at == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.clock(host)
	c.known = false
	c.read(at, time.Now())
}

func (f *File) clock(host string) *clock {
	c := f.clocks[host]
	if c == nil {
		c = &clock{}
		f.clocks[host] = c
	}
	return c
}

// HostStep begins a step of a host, and ends the one before it. at is the host's own stamp, Unix
// milliseconds. Whatever it says, no step begins before the last one did.
func (f *File) HostStep(host, step, text string, at int64) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()

	c := f.clock(host)
	when := c.read(at, time.Now())
	if when.Before(c.last) {
		when = c.last
	}
	c.last = when
	if c.open {
		f.write(hosts, host, "E", "", "", when)
	}
	c.open = true
	f.write(hosts, host, "B", step, text, when)
}

// HostEnd ends the step that a host is in: it gave its result, or is heard no more.
func (f *File) HostEnd(host string) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.clocks[host]; c != nil && c.open {
		c.open = false
		c.last = time.Now()
		f.write(hosts, host, "E", "", "", c.last)
	}
}

// read is a stamp of the host's, which arrived now, by the deployer's clock. It takes the word that
// arrived fastest for one that took no time, so what it returns is late by at most that.
func (c *clock) read(at int64, now time.Time) time.Time {
	const most = 200 * 365 * 24 * time.Hour // far from where durations end
	ahead := min(max(now.Sub(time.UnixMilli(at)), -most), most)
	if !c.known || ahead < c.ahead {
		c.ahead, c.known = ahead, true
	}
	return now.Add(c.ahead - ahead)
}

// Close ends the trace. It returns the error that kept it from being written whole.
func (f *File) Close() error {
	if f == nil {
		return nil
	}

	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return f.err
	}

	err := f.file.Close()
	f.file = nil
	if f.err == nil && err != nil {
		f.err = fmt.Errorf("write a trace to %s: %w", f.path, err)
	}

	return f.err
}

// write writes one event. The lock is held.
func (f *File) write(heading int, trackName, ph, name, text string, at time.Time) {
	if f.size > f.half {
		f.turn()
	}
	key := track{heading, plain.Line(trackName, maxText)}
	id, known := f.tracks[key]
	if !known {
		id = len(f.tracks) + 1
		f.tracks[key] = id
		f.name("thread_name", heading, id, key.name)
	}

	e := event{Name: plain.Line(name, maxText), Ph: ph, Ts: float64(at.Sub(f.began).Nanoseconds()) / 1000, Pid: heading, Tid: id}
	if text != "" {
		e.Args = map[string]string{"text": plain.Line(text, maxText)}
	}
	f.put(e)
}

// name names a heading or a track.
func (f *File) name(what string, heading, id int, name string) {
	f.put(event{Name: what, Ph: "M", Pid: heading, Tid: id, Args: map[string]string{"name": name}})
}

// turn goes on in a new file. What is open in the former one ends there.
func (f *File) turn() {
	if f.err != nil || f.file == nil {
		return
	}
	f.file.Close()
	f.file = nil
	if err := f.begin(); err != nil {
		f.fail(err)
	}
}

// put writes e and the end of the array over the end that stands there, in one write.
func (f *File) put(e event) {
	if f.err != nil || f.file == nil {
		return
	}

	text, err := json.Marshal(e)
	if err != nil {
		f.fail(err)
		return
	}

	before := ",\n"
	if f.size == 0 {
		before = "[\n"
	}

	line := make([]byte, 0, len(before)+len(text)+len(arrayEnd))
	line = append(append(append(line, before...), text...), arrayEnd...)
	if _, err := f.file.WriteAt(line, f.size); err != nil {
		f.fail(err)
		return
	}

	f.size += int64(len(before) + len(text))
}

const arrayEnd = "\n]\n"

// fail ends the trace before its time, such that what was written can be read.
func (f *File) fail(err error) {
	f.err = fmt.Errorf("write a trace to %s: %w", f.path, err)
	if f.file != nil && f.size > 0 && f.file.Truncate(f.size) == nil {
		_, _ = f.file.WriteAt([]byte(arrayEnd), f.size) // without it viewers read the file too
	}
}
