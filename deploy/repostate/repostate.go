// Package repostate knows what came of the last look at the config repo: whether it can be read, which
// commit is being loaded, and which one was refused.
package repostate

import (
	"context"
	"errors"
	"sync"
	"time"

	"bellhop/internal/fleet"
	"bellhop/internal/history"
)

// A State is what came of the last look at the repo and of loading its head: what a status tells
// about it, and what a run by the clock need not do or tell again.
type State struct {
	mu         sync.Mutex
	unreadable *history.SyncError // since when the repo can't be read; nil when it can
	// readableAgain says that it could not be read, and that no run was stored since it can.
	readableAgain bool
	lastError     string           // that the last run by the clock ended by; "" after a good look
	loading       *history.Loading // the commit that is being loaded; nil: none
	costly        costlyCommit
	unkept        string // why git could not keep the commits of generations; "" when it kept all
}

// A costlyCommit is a commit that was refused after long work. Loading is bounded, and may still take
// half a minute until it refuses: a run by the clock does not spend that again on the same commit.
type costlyCommit struct {
	commit   string
	problems fleet.Problems
}

// longLoad is the time from which on a refusal is remembered.
const longLoad = 3 * time.Second

// Looked notes what came of a look at the remote.
func (s *State) Looked(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if errors.Is(err, context.Canceled) {
		return
	}
	if err == nil {
		s.readableAgain = s.readableAgain || s.unreadable != nil
		s.unreadable, s.lastError = nil, ""
		return
	}

	since := time.Now().UTC().Truncate(time.Second)
	if s.unreadable != nil {
		since = s.unreadable.Since
	}
	s.unreadable = &history.SyncError{Since: since, Error: err.Error()}
}

// TellsRecovery says, once, that the repo can be read again after it could not: the run that finds that is worth storing.
func (s *State) TellsRecovery() bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	is := s.readableAgain
	s.readableAgain = false
	return is
}

// SyncError says since when the repo can't be read, and why; nil when the last look was good.
func (s *State) SyncError() *history.SyncError {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unreadable
}

// Repeats notes the error of a run, and says whether the run before it ended by the same.
func (s *State) Repeats(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	same := s.lastError == err.Error()
	s.lastError = err.Error()
	return same
}

// StartLoading says that a commit is being loaded, until done is called.
func (s *State) StartLoading(commit string) (done func()) {
	now := &history.Loading{Commit: commit, Since: time.Now().UTC()}
	s.mu.Lock()
	s.loading = now
	s.mu.Unlock()

	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()

		if s.loading == now {
			s.loading = nil
		}
	}
}

// Loading is the commit that is being loaded, and since when; nil when none is.
func (s *State) Loading() *history.Loading {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loading
}

// Refused remembers a commit that was refused after long work, in place of the one before.
func (s *State) Refused(commit string, problems fleet.Problems, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.costly = costlyCommit{}
	if took >= longLoad {
		s.costly = costlyCommit{commit, problems}
	}
}

// Refusal is why the commit was refused after long work; nil when that is not known.
func (s *State) Refusal(commit string) error {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.costly.commit != commit || s.costly.problems == nil {
		return nil
	}
	return s.costly.problems
}

// NotKept notes why commits of generations are not kept, and says whether that is news.
func (s *State) NotKept(err error) (news bool) {
	text := ""
	if err != nil {
		text = err.Error()
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	news = text != "" && text != s.unkept
	s.unkept = text
	return news
}
