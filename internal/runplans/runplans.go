// Package runplans keeps the plan of each run as people read it, for the page of the run.
//
// A plan is one file in a folder of the state directory, named by its run: it has lines of files of the repo, and history
// holds no contents of files. It has no value of a key, since a plan shows keys as a word. What is lost in a crash is a page
// that says less; nothing else reads these files.
//
// Its promise: a plan takes at most MaxText bytes, its texts are fit to be shown, and of old plans only the newest stay.
package runplans

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"bellhop/internal/durable"
	"bellhop/internal/plain"
)

// MaxText is how much of a plan is kept, bytes.
const MaxText = 64 << 10

// keep is how many plans are kept.
const keep = 200

// patience is how long a push may take before its plan is written beside it. Most pushes are over by then, and the work of
// the plan takes nothing from them.
const patience = 2 * time.Second

// cutMark stands at the end of a plan that is too long.
const cutMark = "… the rest of this plan is not kept\n"

// A Store keeps plans. Its fields are set before its first use.
type Store struct {
	Dir string
	// Kept is called after a plan was written; nil: nobody waits.
	Kept func()
	Log  *slog.Logger

	mu sync.Mutex // of writing
}

// Keep writes the plan of a run, which write makes: once pushed is closed, and before that when the push takes long.
func (s *Store) Keep(run string, pushed <-chan struct{}, write func(io.Writer) error) {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-pushed:
	case <-late.C:
	}

	if err := s.put(run, write); err != nil {
		s.Log.Warn("the plan of a run is not kept", "run", run, "err", err)
		return
	}
	if s.Kept != nil {
		s.Kept()
	}
}

func (s *Store) put(run string, write func(io.Writer) error) error {
	if !isName(run) {
		return fmt.Errorf("%q is no name of a run", run)
	}
	var text bounded
	if err := write(&text); err != nil && !errors.Is(err, errFull) {
		return err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	if err := durable.Write(filepath.Join(s.Dir, run), text.plain(), 0o600); err != nil {
		return err
	}
	return s.prune()
}

// prune removes all plans but the newest.
func (s *Store) prune() error {
	entries, err := os.ReadDir(s.Dir)
	if err != nil || len(entries) <= keep {
		return err
	}

	age := func(e fs.DirEntry) time.Time {
		info, err := e.Info()
		if err != nil {
			return time.Time{}
		}
		return info.ModTime()
	}
	slices.SortStableFunc(entries, func(a, b fs.DirEntry) int { return age(a).Compare(age(b)) })
	for _, e := range entries[:len(entries)-keep] {
		if err := os.Remove(filepath.Join(s.Dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// Of is the plan of a run; "" where none is kept.
func (s *Store) Of(run string) string {
	if !isName(run) {
		return ""
	}
	f, err := os.Open(filepath.Join(s.Dir, run))
	if err != nil {
		return ""
	}
	defer f.Close()

	text, err := io.ReadAll(io.LimitReader(f, MaxText))
	if err != nil {
		return ""
	}
	return string(text)
}

// isName says that run may be the name of a file in the folder.
func isName(run string) bool {
	isOther := func(r rune) bool {
		isSmall, isCapital, isDigit := r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9'
		isPlain := isSmall || isCapital || isDigit
		return !isPlain && r != '-'
	}
	return run != "" && len(run) <= 100 && !strings.ContainsFunc(run, isOther)
}

var errFull = errors.New("the plan is longer than what is kept of one")

// bounded takes what is kept of a plan, and then refuses, so that nobody makes the rest.
type bounded struct {
	text   []byte
	isFull bool
}

func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), MaxText-len(b.text))
	b.text = append(b.text, p[:n]...)
	if n < len(p) {
		b.isFull = true
		return n, errFull
	}
	return n, nil
}

// plain is the text, fit to be shown.
func (b *bounded) plain() []byte {
	if !b.isFull {
		return []byte(plain.Text(string(b.text), MaxText))
	}
	room := MaxText - len(cutMark)
	whole := bytes.LastIndexByte(b.text[:room], '\n') + 1
	return []byte(plain.Text(string(b.text[:whole]), room) + cutMark)
}
