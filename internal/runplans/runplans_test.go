package runplans_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bellhop/internal/runplans"
)

func store(t *testing.T) *runplans.Store {
	return &runplans.Store{Dir: filepath.Join(t.TempDir(), "plans"), Log: slog.New(slog.DiscardHandler)}
}

// put keeps a plan of a run that was pushed.
func put(s *runplans.Store, run, text string) {
	pushed := make(chan struct{})
	close(pushed)
	s.Keep(run, pushed, func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
}

func TestKeep(t *testing.T) {
	s, told := store(t), 0
	s.Kept = func() { told++ }
	put(s, "r1", "web1\n  ~ file /etc/x\n    +\x1b[2J\u202ex\r\n")
	if got, want := s.Of("r1"), "web1\n  ~ file /etc/x\n    +[2Jx\n"; got != want || told != 1 {
		t.Errorf("Of = %q after %d calls, want %q after one", got, told, want)
	}
	if s.Of("r2") != "" {
		t.Error("a run without a plan has one")
	}

	info, err := os.Stat(filepath.Join(s.Dir, "r1"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", info.Mode(), err)
	}
}

// A plan that can't be written is none, and nobody is told of it.
func TestKeepNothingOfAnError(t *testing.T) {
	s := store(t)
	s.Kept = func() { t.Error("told") }
	pushed := make(chan struct{})
	close(pushed)
	s.Keep("r1", pushed, func(w io.Writer) error {
		fmt.Fprintln(w, "half")
		return errors.New("gone")
	})
	if got := s.Of("r1"); got != "" {
		t.Errorf("Of = %q", got)
	}
}

// Whoever makes a plan is told when there is room for no more of it, and whole lines stay.
func TestALongPlanIsCut(t *testing.T) {
	s, written := store(t), 0
	pushed := make(chan struct{})
	close(pushed)
	s.Keep("r1", pushed, func(w io.Writer) error {
		for {
			if _, err := fmt.Fprintf(w, "line %d é\n", written); err != nil {
				return err
			}
			written++
		}
	})

	got := s.Of("r1")
	lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
	if len(got) > runplans.MaxText || lines[len(lines)-1] != "… the rest of this plan is not kept" {
		t.Errorf("%d bytes, ending in %q", len(got), lines[len(lines)-1])
	}
	if want := fmt.Sprintf("line %d é", len(lines)-2); lines[len(lines)-2] != want {
		t.Errorf("the last line is %q, want %q", lines[len(lines)-2], want)
	}

	put(s, "r2", strings.Repeat("x", 2*runplans.MaxText))
	if got := s.Of("r2"); got != "… the rest of this plan is not kept\n" {
		t.Errorf("one line that is too long: %.100q", got)
	}
}

func TestOnlyTheNewestStay(t *testing.T) {
	s := store(t)
	for i := range 203 {
		run := fmt.Sprintf("r%d", i)
		put(s, run, "plan\n")
		at := time.Unix(int64(1_000_000+i), 0)
		if err := os.Chtimes(filepath.Join(s.Dir, run), at, at); err != nil {
			t.Fatal(err)
		}
	}
	put(s, "last", "plan\n")
	if s.Of("r3") != "" || s.Of("r4") == "" || s.Of("last") == "" {
		t.Errorf("r3 %q, r4 %q, last %q: want the newest 200", s.Of("r3"), s.Of("r4"), s.Of("last"))
	}
}

// No name of a run leads out of the folder.
func TestNames(t *testing.T) {
	s := store(t)
	outside := filepath.Join(filepath.Dir(s.Dir), "secret")
	if err := os.WriteFile(outside, []byte("hidden"), 0o600); err != nil {
		t.Fatal(err)
	}
	put(s, "r1", "plan\n")
	for _, name := range []string{"../secret", "", ".", "..", "r1/../../secret", outside, "a\x00b", strings.Repeat("x", 101)} {
		if got := s.Of(name); got != "" {
			t.Errorf("Of(%q) = %q", name, got)
		}
	}
	put(s, "../secret", "overwritten")
	if b, err := os.ReadFile(outside); err != nil || string(b) != "hidden" {
		t.Errorf("outside of the folder: %q, %v", b, err)
	}
}

// A plan is made when the push is over, so that it takes nothing from the push, or beside one that takes long.
func TestKeepWaitsForThePush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, began := store(t), time.Now()
		pushed := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(pushed) })
		s.Keep("r1", pushed, func(io.Writer) error {
			if took := time.Since(began); took != time.Second {
				t.Errorf("made after %v, want 1 s: the push was over", took)
			}
			return nil
		})

		began = time.Now()
		s.Keep("r2", make(chan struct{}), func(io.Writer) error {
			if took := time.Since(began); took != 2*time.Second {
				t.Errorf("made after %v, want 2 s: the push takes long", took)
			}
			return nil
		})
	})
}
