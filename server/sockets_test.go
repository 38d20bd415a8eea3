package server

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bellhop/server/admission"
)

// Limits of one user's connections, with users that are made up: only root may be others.
func TestConnectionsByUser(t *testing.T) {
	s, _ := newServer(t, Config{})
	users := map[net.Conn]socketUser{}
	table := s.socketConns()
	if table.Trusts(socketUser{}) {
		t.Error("one whom the kernel does not tell is trusted")
	}
	table.Claim = func(c net.Conn) admission.Claim[socketUser] {
		return admission.Claim[socketUser]{Of: users[c], Trusted: table.Trusts(users[c])}
	}
	table.Listen(nil)
	table.Listen(nil) // both sockets
	enter := func(uid int) *admission.Tracked {
		c := &pipeConn{}
		users[c] = socketUser{uid: uid, isKnown: true}
		one := table.Enter(c)
		if one != nil {
			one.EnterPhase(admission.PhaseTrusted) // it follows a run
		}
		return one
	}
	const first = 20_000
	for i := range socketEach {
		if enter(first) == nil {
			t.Fatalf("connection %d of a user is refused", i)
		}
	}
	if enter(first) != nil {
		t.Errorf("a user has more than %d connections", socketEach)
	}
	for i := range 50 {
		for range socketEach {
			enter(first + i)
		}
	}
	if all, _ := table.Count(); all != socketConns-socketReserved {
		t.Errorf("users have %d connections, want %d", all, socketConns-socketReserved)
	}
	for i := range socketReserved {
		if enter([]int{0, os.Geteuid()}[i%2]) == nil {
			t.Fatalf("call %d of root or the server's own user is refused", i)
		}
	}
	if all, _ := table.Count(); all != socketConns {
		t.Errorf("%d connections, want %d", all, socketConns)
	}
}

func TestFollowersByUser(t *testing.T) {
	hold := make(chan struct{})
	var once sync.Once
	s, b := newServer(t, Config{Follow: func(ctx context.Context, _ string, _ func(any)) (any, error) {
		<-hold
		return "done", nil
	}})
	defer once.Do(func() { close(hold) })
	var wg sync.WaitGroup
	stranger := Caller{UID: 20_000}
	for range followersEach {
		wg.Go(func() { s.ringVerb(t.Context(), stranger, RingRequest{Follow: true}, nil) })
	}
	for s.follows.InUse() < followersEach {
		time.Sleep(time.Millisecond)
	}
	rung := b.rung()
	_, err := s.ringVerb(t.Context(), stranger, RingRequest{Follow: true}, nil)
	if err == nil || !strings.Contains(err.Error(), "it rang") || b.rung() != rung+1 {
		t.Errorf("one follower too many: %v, rang %d times", err, b.rung()-rung)
	}
	if _, err := s.ringVerb(t.Context(), stranger, RingRequest{}, nil); err != nil {
		t.Errorf("a ring without following: %v", err)
	}
	wg.Go(func() {
		if _, err := s.ringVerb(t.Context(), Caller{UID: os.Geteuid()}, RingRequest{Follow: true}, nil); err != nil {
			t.Errorf("the server's own user: %v", err)
		}
	})
	for s.follows.InUse() < followersEach+1 {
		time.Sleep(time.Millisecond)
	}
	once.Do(func() { close(hold) })
	wg.Wait()
}

// A ring is short, and comes soon.
func TestRingBody(t *testing.T) {
	dir, err := os.MkdirTemp("", "bh")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, RingSocketName)
	l, err := ListenSocket(path, "")
	if err != nil {
		t.Fatal(err)
	}
	s, b := newServer(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, Listeners{Ring: l}) }()
	defer func() { cancel(); <-done }()

	send := func(claimed int, body string) string {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		fmt.Fprintf(c, "POST /v1/ring HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", claimed, body)
		b, _ := io.ReadAll(c)
		status, _, _ := strings.Cut(string(b), "\r\n")
		return status
	}
	if got := send(2, "{}"); !strings.Contains(got, "200") || b.rung() != 1 {
		t.Errorf("a ring: %q, rang %d", got, b.rung())
	}
	if got := send(maxRingBody+1, "{"+strings.Repeat(" ", maxRingBody-1)+"}"); !strings.Contains(got, "413") {
		t.Errorf("a ring of %d bytes: %q, want 413", maxRingBody+1, got)
	}
	if got := send(100, "{"); !strings.Contains(got, "408") {
		t.Errorf("a ring whose body never comes: %q, want 408 soon", got)
	}
}
