package nixhosts_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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

	building chan struct{} // a build begins
}

func newSlowHosts(t *testing.T) *slowHosts {
	t.Helper()
	needNix(t)
	s := &slowHosts{ended: make(chan struct{}, 9), building: make(chan struct{}, 9), gate: filepath.Join(t.TempDir(), "open")}
	s.Hosts = &nixhosts.Hosts{Patience: time.Millisecond, Ended: func() { s.ended <- struct{}{} },
		Nix: &nixos.Nix{Dir: t.TempDir(), Started: func(argv []string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.started = append(s.started, filepath.Base(argv[0]))
			if slices.Contains(argv, "--keep-going") {
				s.building <- struct{}{}
			}
		}}}
	t.Cleanup(func() { s.Close() })
	return s
}

// open lets builders end, and close has those wait that begin from then on.
func (s *slowHosts) open(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(s.gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

func (s *slowHosts) close(t *testing.T) {
	t.Helper()
	if err := os.Remove(s.gate); err != nil {
		t.Fatal(err)
	}
}

// count is how many programs of Nix were started.
func (s *slowHosts) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.started)
}

func (s *slowHosts) ask(t *testing.T, what string) *fleet.HostSystem {
	t.Helper()
	return s.asks(t, s.Systems, what)["slow"]
}

type systems = func(context.Context, fs.FS, string, []*fleet.Host) map[string]*fleet.HostSystem

// asks asks for the host whose builder waits, and for more: quick, which is built at once, or thrown, which has no system.
func (s *slowHosts) asks(t *testing.T, of systems, what string, more ...string) map[string]*fleet.HostSystem {
	t.Helper()
	script := fmt.Sprintf("until test -e %s; do /bin/sleep 0.05; done; echo %s > $out", s.gate, what)
	tree := repo(fmt.Sprintf(`slow = host "slow" "%s" { }; quick = host "quick" "echo > $out" { }; thrown = throw "no disk";`, script))
	return of(t.Context(), tree, strings.Repeat("1", 40), hostsOf(append(more, "slow")...))
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
	s.open(t)
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
	s.open(t)
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

// Who is built already, or can't be, does not wait for the others of a commit, and no program is started for him.
func TestSlowHostHoldsNoOtherUp(t *testing.T) {
	s := newSlowHosts(t)
	s.Patience = time.Hour
	s.open(t)
	s.asks(t, s.Systems, "one", "quick")
	s.close(t)

	<-s.building
	s.Patience = time.Millisecond
	s.asks(t, s.Systems, "two", "quick", "thrown")
	<-s.building // all are evaluated by then
	got := s.asks(t, s.Systems, "two", "quick", "thrown")
	if !isLater(got["slow"]) {
		t.Errorf("while it is built: %+v", got["slow"])
	}
	if got["quick"].Err != nil || got["thrown"].Err == nil || isLater(got["thrown"]) {
		t.Errorf("while another is built: thrown %+v, quick %+v", got["thrown"], got["quick"])
	}
}

// What a plan has built holds up no run: neither one for what is there, nor one that has something else to build.
func TestPlanHoldsNoRunUp(t *testing.T) {
	s := newSlowHosts(t)
	s.Patience = time.Hour
	s.open(t)
	if got := s.ask(t, "head"); got.Err != nil {
		t.Fatal(got.Err)
	}
	s.close(t)
	s.Patience = time.Millisecond
	if got := s.asks(t, s.SystemsAside, "plan")["slow"]; !isLater(got) {
		t.Fatalf("the plan: %+v", got)
	}

	before := s.count()
	s.Patience = time.Hour
	if got := s.ask(t, "head"); got.Err != nil || s.count() != before {
		t.Errorf("what is there came to %+v, and started programs: %v", got, s.count() != before)
	}
	tree := repo(`next = host "next" "echo > $out" { };`)
	if got := s.Systems(t.Context(), tree, strings.Repeat("2", 40), hostsOf("next"))["next"]; got.Err != nil {
		t.Errorf("another commit came to %+v", got)
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
