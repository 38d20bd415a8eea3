package nixhosts_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bellhop/internal/fleet"
	"bellhop/internal/nixhosts"
	"bellhop/internal/nixos"
)

// slowHosts builds systems whose builders wait for a file.
type slowHosts struct {
	*nixhosts.Hosts
	mu      sync.Mutex
	started []string
	ended   chan struct{}
	gate    string
}

func newSlowHosts(t *testing.T) *slowHosts {
	t.Helper()
	needNix(t)
	s := &slowHosts{ended: make(chan struct{}, 9), gate: filepath.Join(t.TempDir(), "open")}
	s.Hosts = &nixhosts.Hosts{Patience: time.Millisecond, Ended: func() { s.ended <- struct{}{} },
		Nix: &nixos.Nix{Dir: t.TempDir(), Started: func(argv []string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.started = append(s.started, filepath.Base(argv[0]))
		}}}
	t.Cleanup(func() { s.Close() })
	return s
}

// count is how many programs of Nix were started.
func (s *slowHosts) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.started)
}

func (s *slowHosts) ask(t *testing.T, what string) *fleet.HostSystem {
	t.Helper()
	script := fmt.Sprintf("until test -e %s; do /bin/sleep 0.05; done; echo %s > $out", s.gate, what)
	tree := repo(fmt.Sprintf(`slow = host "slow" "%s" { };`, script))
	return s.Systems(t.Context(), tree, strings.Repeat("1", 40), hostsOf("slow"))["slow"]
}

func isLater(s *fleet.HostSystem) bool {
	var err *fleet.SystemError
	return errors.As(s.Err, &err) && err.Later
}

// Who asks for a system whose build takes long is not held up: the build goes on, and its end is told once.
func TestLongBuildHoldsNobodyUp(t *testing.T) {
	s := newSlowHosts(t)
	for range 3 {
		if got := s.ask(t, "one"); !isLater(got) {
			t.Fatalf("while it is built: %+v", got)
		}
	}
	if err := os.WriteFile(s.gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	<-s.ended

	before := s.count()
	if got := s.ask(t, "one"); got.Err != nil || !strings.HasSuffix(got.Path, "-nixos-system-slow") {
		t.Errorf("once it is built: %+v", got)
	}
	if n := s.count() - before; n > 0 {
		t.Errorf("asking for what was built started %d programs", n)
	}
	if len(s.ended) > 0 {
		t.Error("its end was told twice")
	}
}

// Of commits that come while one is built, the newest alone is built next.
func TestNewestCommitIsBuiltNext(t *testing.T) {
	s := newSlowHosts(t)
	for _, what := range []string{"one", "two", "three"} {
		if got := s.ask(t, what); !isLater(got) {
			t.Fatalf("%s while one is built: %+v", what, got)
		}
	}
	if err := os.WriteFile(s.gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for <-s.ended; ; <-s.ended {
		got := s.ask(t, "three")
		if isLater(got) {
			continue // it is told again
		}
		if text, err := os.ReadFile(got.Path); err != nil || string(text) != "three\n" {
			t.Errorf("the newest came to %q, %v; %+v", text, err, got)
		}
		break
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	evaluations := 0
	for _, name := range s.started {
		if name == "nix" {
			evaluations++
		}
	}
	if evaluations != 2 {
		t.Errorf("%d commits were evaluated, want the first and the newest: %q", evaluations, s.started)
	}
}

// A process that ends does not leave a build behind.
func TestCloseEndsABuild(t *testing.T) {
	s := newSlowHosts(t)
	if got := s.ask(t, "never"); !isLater(got) {
		t.Fatalf("while it is built: %+v", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
