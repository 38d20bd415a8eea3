package link_test

import (
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bellhop/internal/link"
)

// TestCrowdOfHosts: real conversations of a crowd are read at beats and come whole, and each session
// that ends is counted out, however it ended.
func TestCrowdOfHosts(t *testing.T) {
	const hosts = 20
	p := newPool(t, config(t))
	var beats atomic.Int64
	p.OnBeat(func() { beats.Add(1); time.Sleep(time.Millisecond) })
	var targets []link.Target
	for i := range hosts {
		targets = append(targets, newHost(t, "h"+string(rune('a'+i))).Target())
	}
	var all, there, counted sync.WaitGroup
	there.Add(hosts)
	counted.Add(1)
	for i, target := range targets {
		all.Go(func() {
			s, err := p.Helper(t.Context(), target, nil)
			there.Done()
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			counted.Wait()
			got := make([]byte, 1<<16)
			for range 3 {
				if _, err := s.Write(make([]byte, len(got))); err != nil {
					t.Error(err)
					return
				}
				if _, err := io.ReadFull(s, got); err != nil {
					t.Error(err)
					return
				}
			}
			if i%2 == 0 { // the others are just closed
				s.CloseWrite()
				io.Copy(io.Discard, s)
				s.Wait()
			}
		})
	}
	there.Wait()
	if n := p.AtWork(); n != hosts {
		t.Errorf("%d sessions are at work, want %d", n, hosts)
	}
	counted.Done()
	all.Wait()
	if beats.Load() == 0 {
		t.Error("nothing was read at a tick")
	}
	for end := time.Now().Add(time.Minute); p.AtWork() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d sessions still count as at work", p.AtWork())
		}
	}
}
