package nixhosts_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bellhop/internal/fleet"
	"bellhop/internal/nixhosts"
	"bellhop/internal/nixos"
)

// themselves are hosts that build their systems themselves.
func themselves(names ...string) []*fleet.Host {
	all := hostsOf(names...)
	for _, h := range all {
		h.NixOS.OnHost = true
	}
	return all
}

// The system of a host that builds it itself is evaluated here, and nothing is built: what it is built from stays.
func TestHostThatBuildsItself(t *testing.T) {
	needNix(t)
	var started []string
	h := &nixhosts.Hosts{Nix: &nixos.Nix{Dir: t.TempDir(), Started: func(argv []string) { started = append(started, strings.Join(argv, " ")) }}}
	tree := repo(`own = host "own" "echo why it failed; exit 3" { db.keyFile = ./secrets/db.age; };`)
	own := h.Systems(t.Context(), tree, strings.Repeat("1", 40), themselves("own"))["own"]
	if own.Err != nil || !strings.HasSuffix(own.Path, "-nixos-system-own") || len(own.Keys) != 1 {
		t.Fatalf("own came to %+v", own)
	}
	if slices.ContainsFunc(started, func(s string) bool { return strings.Contains(s, "--keep-going") }) {
		t.Errorf("something was built: %q", started)
	}

	started = nil
	again := h.Systems(t.Context(), tree, strings.Repeat("1", 40), themselves("own"))["own"]
	if again.Path != own.Path || len(started) > 0 {
		t.Errorf("once more: %+v, and started %q", again, started)
	}
}

// A host that hangs in its own evaluation holds up neither those that end before it, nor a newer commit for long.
func TestHostThatHangsInItsEvaluation(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if nixos.Installed() {
		t.Skip("Nix lies outside of PATH here")
	}

	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		asked, told := map[string]int{}, 0
		h := &nixhosts.Hosts{Nix: &nixos.Nix{Dir: dir}, Patience: nixhosts.ServerPatience}
		h.Ended = func() { mu.Lock(); told++; mu.Unlock() }
		h.On = func(host string) nixos.Shell {
			return func(ctx context.Context, _ string, in io.Reader, _, _ io.Writer) (int, error) {
				mu.Lock()
				asked[host]++
				mu.Unlock()
				wait := time.Hour
				if host == "slow" {
					wait = time.Minute
				}
				select {
				case <-time.After(wait):
				case <-ctx.Done():
				}
				return 127, ctx.Err()
			}
		}
		isLater := func(what string) {
			t.Helper()
			for host, s := range h.Systems(t.Context(), repo(what), strings.Repeat("1", 40), themselves("slow", "hung")) {
				if failed := new(fleet.SystemError); !errors.As(s.Err, &failed) || !failed.Later {
					t.Errorf("%s came to %v", host, s.Err)
				}
			}
		}
		wants := func(hung, ended int) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if asked["hung"] != hung || told != ended {
				t.Errorf("hung was asked %d times, and the end was told %d times; want %d and %d", asked["hung"], told, hung, ended)
			}
		}

		began := time.Now()
		isLater("one = null;")
		wants(1, 0)
		time.Sleep(time.Minute)
		wants(1, 1) // slow has ended
		isLater("two = null;")
		wants(1, 1)
		time.Sleep(time.Until(began.Add(5*time.Minute - time.Second)))
		wants(1, 1)
		time.Sleep(2 * time.Second)
		wants(2, 2)
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Without Nix here, a host that is away waits for its system like one whose system is still built, and no plan of what is
// not to be deployed asks a host.
func TestHostThatEvaluatesItself(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if nixos.Installed() {
		t.Skip("Nix lies outside of PATH here")
	}
	asked := 0
	h := &nixhosts.Hosts{Nix: &nixos.Nix{Dir: t.TempDir()}, On: func(host string) nixos.Shell {
		return func(context.Context, string, io.Reader, io.Writer, io.Writer) (int, error) {
			asked++
			return 0, errors.New("no route to " + host)
		}
	}}
	t.Cleanup(func() { h.Close() })
	tree := repo(`own = host "own" "echo > $out" { };`)

	own := h.Systems(t.Context(), tree, strings.Repeat("1", 40), themselves("own"))["own"]
	if failed := new(fleet.SystemError); !errors.As(own.Err, &failed) || !failed.Later || !strings.Contains(failed.Text, "no route to own") {
		t.Errorf("a host that is away came to %v", own.Err)
	}

	asked = 0
	own = h.SystemsAside(t.Context(), tree, strings.Repeat("1", 40), themselves("own"))["own"]
	if own.Err == nil || !strings.Contains(own.Err.Error(), "asked for what is to be deployed alone") || asked > 0 {
		t.Errorf("a plan asked %d times, and came to %v", asked, own.Err)
	}
}
