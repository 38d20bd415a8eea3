// Package runs keeps what a run leaves for those who watch it.
//
// A run has a folder, with the events that are appended as they happen, and one result that is
// renamed into place when it has ended. Neither is ever written to a connection by the unit that
// runs it: a write would block for as long as the line is cut. The promise: a result is there whole
// or not at all, and the room that a run needs for its end is held from its beginning.
package runs

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
)

// kept is how many runs are remembered.
const kept = 20

// Runs are the runs of a host, by their id.
type Runs struct {
	Dir   string // root's alone
	Now   func() time.Time
	Polls bool // a Watch looks again and again, and does not have the kernel tell
}

// Folder is where a run leaves what it leaves.
func (r Runs) Folder(run string) string { return filepath.Join(r.Dir, run) }

// Events is the file of its events, a line of JSON each.
func (r Runs) Events(run string) string { return filepath.Join(r.Dir, run, "events") }

func (r Runs) resultPath(run string) string  { return filepath.Join(r.Dir, run, "result") }
func (r Runs) draftPath(run string) string   { return filepath.Join(r.Dir, run, "draft") }
func (r Runs) reservePath(run string) string { return filepath.Join(r.Dir, run, "reserve") }

// Make makes the folder of a run.
func (r Runs) Make(run string) error { return os.MkdirAll(r.Folder(run), 0o700) }

// Event adds one, of which the first line of text is told: the result has all of it. A run goes on
// without its watchers, so an event that can't be written is lost.
func (r Runs) Event(run, step, text string) {
	text, _, _ = strings.Cut(text, "\n")
	f, err := os.OpenFile(r.Events(run), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return
	}
	defer f.Close()

	p, err := json.Marshal(bundle.Event{At: r.Now().UnixMilli(), Step: step, Text: text})
	if err == nil {
		f.Write(append(p, '\n'))
	}
}

// Save ends a run for those who watch. It is not synced: after a power cut the record
// says what stands, and the journal, if it is open, makes a new result.
func (r Runs) Save(res *bundle.Result) error {
	if err := r.Make(res.Run); err != nil {
		return err
	}

	p, err := json.Marshal(res)
	if err != nil {
		return err
	}

	tmp := r.resultPath(res.Run) + ".new"
	if err := os.WriteFile(tmp, p, 0o600); err != nil {
		return err
	}

	r.dateNewest(res.Run, tmp)
	return os.Rename(tmp, r.resultPath(res.Run))
}

// dateNewest makes file, the result of run, the newest of all by its date, which is what
// Last goes by. A machine without a clock of its own boots with an older time than it had,
// and its newest run would be taken for the oldest, and swept.
func (r Runs) dateNewest(run, file string) {
	st, err := os.Stat(file)
	if err != nil {
		return
	}

	names, _ := os.ReadDir(r.Dir)
	last := st.ModTime().Add(-1)
	for _, e := range names {
		if other, err := os.Stat(r.resultPath(e.Name())); err == nil && e.Name() != run && other.ModTime().After(last) {
			last = other.ModTime()
		}
	}

	if !st.ModTime().After(last) {
		last = last.Add(time.Second) // some filesystems count whole seconds
		os.Chtimes(file, last, last)
	}
}

// ReserveSize is the room on disk, bytes, that a run holds for its end: the record, the result
// and a few lines of journal, of a host with hundreds of keys.
const ReserveSize = 512 << 10

// Reserve holds room for the end of a run, so that one on a full disk ends before it begins.
func (r Runs) Reserve(run string, size int64) error {
	f, err := os.OpenFile(r.reservePath(run), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}

	err = unix.Fallocate(int(f.Fd()), 0, 0, size)
	if err == unix.EOPNOTSUPP || err == unix.ENOSYS {
		err = nil // a filesystem that can't promise
	}
	if err = errors.Join(err, f.Close()); err != nil {
		r.Release(run)
	}

	return err
}

// Release gives the room back: what it was held for is written now.
func (r Runs) Release(run string) { os.Remove(r.reservePath(run)) }

// Result reads the result of a run; nil while it has none.
func (r Runs) Result(run string) (*bundle.Result, error) {
	return read(r.resultPath(run))
}

// Last is the result of the newest run that ended, and sweeps the oldest runs.
func (r Runs) Last() *bundle.Result {
	names, err := os.ReadDir(r.Dir)
	if err != nil {
		return nil
	}

	var newest, oldest string
	var first, last time.Time
	for _, e := range names {
		st, err := os.Stat(r.resultPath(e.Name()))
		if err != nil {
			continue
		}
		if newest == "" || st.ModTime().After(last) {
			newest, last = e.Name(), st.ModTime()
		}
		if oldest == "" || st.ModTime().Before(first) {
			oldest, first = e.Name(), st.ModTime()
		}
	}

	if len(names) > kept && oldest != "" && oldest != newest {
		os.RemoveAll(r.Folder(oldest))
	}
	if newest == "" {
		return nil
	}

	res, err := r.Result(newest)
	if err != nil {
		return nil
	}

	return res
}

// SaveDraft writes the result of a run that is about to be done, so that one killed right after it
// can still be told whole. Draft reads it; nil when there is none.
func (r Runs) SaveDraft(res *bundle.Result) error {
	p, err := json.Marshal(res)
	if err != nil {
		return err
	}
	return os.WriteFile(r.draftPath(res.Run), p, 0o600)
}

// Draft reads what SaveDraft wrote.
func (r Runs) Draft(run string) (*bundle.Result, error) { return read(r.draftPath(run)) }

func read(path string) (*bundle.Result, error) {
	p, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}

	res := &bundle.Result{}
	if json.Unmarshal(p, res) != nil {
		return nil, nil // torn by a power cut, since it is not synced: as if it was not written
	}
	return res, nil
}
