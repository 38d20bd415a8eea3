package host

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
)

// What a run leaves for those who watch: events, appended as they happen, and one result,
// renamed into place when it has ended. Neither is ever written to a connection by the unit:
// a write would block for as long as the line is cut.

// keptRuns is how many runs are remembered on the host.
const keptRuns = 20

func runDir(run string) string     { return runsDir + "/" + run }
func eventsPath(run string) string { return runDir(run) + "/events" }
func resultPath(run string) string { return runDir(run) + "/result" }

// staged is where a session puts the bytes of digest for run.
func (m *Machine) staged(run, digest string) string {
	return filepath.Join(m.at(stagingDir), run, digest)
}

func (m *Machine) event(run, step, text string) {
	f, err := os.OpenFile(m.at(eventsPath(run)), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return // a run goes on without its watchers
	}
	defer f.Close()
	p, err := json.Marshal(bundle.Event{At: m.now().UnixMilli(), Step: step, Text: text})
	if err == nil {
		f.Write(append(p, '\n'))
	}
}

func (m *Machine) now() time.Time {
	if m.Clock == nil {
		return time.Now()
	}
	return m.Clock()
}

// saveResult ends a run for those who watch. It is not synced: after a power cut the record
// says what stands, and the journal, if it is open, makes a new result.
func (m *Machine) saveResult(res *bundle.Result) error {
	if err := os.MkdirAll(m.at(runDir(res.Run)), 0o700); err != nil {
		return err
	}
	p, err := json.Marshal(res)
	if err != nil {
		return err
	}
	tmp := m.at(resultPath(res.Run)) + ".new"
	if err := os.WriteFile(tmp, p, 0o600); err != nil {
		return err
	}
	m.dateNewest(res.Run, tmp)
	return os.Rename(tmp, m.at(resultPath(res.Run)))
}

// dateNewest makes file, the result of run, the newest of all by its date, which is what
// lastResult goes by. A machine without a clock of its own boots with an older time than it had,
// and its newest run would be taken for the oldest, and swept.
func (m *Machine) dateNewest(run, file string) {
	st, err := os.Stat(file)
	if err != nil {
		return
	}
	names, _ := os.ReadDir(m.at(runsDir))
	last := st.ModTime().Add(-1)
	for _, e := range names {
		if other, err := os.Stat(m.at(resultPath(e.Name()))); err == nil && e.Name() != run && other.ModTime().After(last) {
			last = other.ModTime()
		}
	}
	if !st.ModTime().After(last) {
		last = last.Add(time.Second) // some filesystems count whole seconds
		os.Chtimes(file, last, last)
	}
}

// reserveSize is the room on disk, bytes, that a run holds for its end: the record, the result
// and a few lines of journal, of a host with hundreds of keys.
const reserveSize = 512 << 10

// reserve holds room for the end of a run, so that one on a full disk ends before it begins.
func (m *Machine) reserve(run string, size int64) error {
	f, err := os.OpenFile(m.at(reservePath(run)), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, size)
	if err == unix.EOPNOTSUPP || err == unix.ENOSYS {
		err = nil // a filesystem that can't promise
	}
	if err = errors.Join(err, f.Close()); err != nil {
		m.release(run)
	}
	return err
}

// release gives the room back: what it was held for is written now.
func (m *Machine) release(run string) { os.Remove(m.at(reservePath(run))) }

func reservePath(run string) string { return runDir(run) + "/reserve" }

// result reads the result of a run; nil while it has none.
func (m *Machine) result(run string) (*bundle.Result, error) {
	return m.readResult(resultPath(run))
}

func readJSON[T any](path string) (*T, error) {
	p, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v := new(T)
	return v, json.Unmarshal(p, v)
}

// lastResult is the result of the newest run that ended, and sweeps the oldest runs.
func (m *Machine) lastResult() *bundle.Result {
	names, err := os.ReadDir(m.at(runsDir))
	if err != nil {
		return nil
	}
	var newest, oldest string
	var first, last time.Time
	for _, e := range names {
		st, err := os.Stat(m.at(resultPath(e.Name())))
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
	if len(names) > keptRuns && oldest != "" && oldest != newest {
		os.RemoveAll(m.at(runDir(oldest)))
	}
	if newest == "" {
		return nil
	}
	res, err := m.result(newest)
	if err != nil {
		return nil
	}
	return res
}
