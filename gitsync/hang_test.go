package gitsync_test

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"bellhop/gitsync"
)

// Commits that are here are handed out while the remote is asked and does not answer: the keys of
// what is on hosts come from them.
func TestAtWhileTheRemoteHangs(t *testing.T) {
	rem := remote(t)
	commit := rem.Commit(map[string]string{"a": "1"}, "one", "")
	dir := filepath.Join(t.TempDir(), "repo.git")
	sync1(t, open(t, gitsync.Config{URL: rem.URL(), Dir: dir}))

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	asked := make(chan net.Conn, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			asked <- c
		}
	}()

	r := open(t, gitsync.Config{URL: "http://" + l.Addr().String() + "/x.git", Dir: dir})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := r.Sync(ctx)
		ended <- err
	}()
	c := <-asked
	defer c.Close()

	at := make(chan error, 1)
	go func() {
		s, err := r.At(ctx, commit)
		if err == nil && s.Commit != commit {
			t.Errorf("At = %s, want %s", s.Commit, commit)
		}
		if ok, herr := r.Holds(ctx, commit, commit); !ok || herr != nil {
			t.Errorf("Holds = %v, %v", ok, herr)
		}
		if got, serr := r.Since(ctx, commit, commit); len(got) > 0 || serr != nil {
			t.Errorf("Since = %q, %v", got, serr)
		}
		at <- err
	}()
	select {
	case err := <-at:
		if err != nil {
			t.Errorf("At: %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("At waits for the remote")
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("Sync of a remote that never answers ended well")
	}
}
