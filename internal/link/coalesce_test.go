package link

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// line is a connection over loopback, and its far end.
func line(t *testing.T, b *coalescer) (*countedConn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return &countedConn{Conn: near, n: &counters{}, coalescer: b}, far
}

// crowd has sessions at work on other lines.
func crowd(n int32) *coalescer {
	b := &coalescer{}
	b.sessions.Store(n)
	return b
}

// lineOfCrowd is a line of a crowd on which a session is at work.
func lineOfCrowd(t *testing.T) (*coalescer, *countedConn, net.Conn) {
	t.Helper()
	b := crowd(minCrowd)
	c, far := line(t, b)
	c.work()
	return b, c, far
}

func say(t *testing.T, far net.Conn, words ...string) {
	t.Helper()
	for _, w := range words {
		if _, err := io.WriteString(far, w); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCrowdIsReadAtABeat: what hosts said in pieces is read at once when many are at work.
func TestCrowdIsReadAtABeat(t *testing.T) {
	b, c, far := lineOfCrowd(t)
	beats := 0
	b.wait = func() {
		if beats++; beats == 3 { // the first ones find nothing
			say(t, far, "hello ", "result ", "exit")
			far.(*net.TCPConn).CloseWrite()
			waitFor(t, c, 17)
		}
	}
	p := make([]byte, 100)
	if n, err := c.Read(p); err != nil || string(p[:n]) != "hello result exit" || beats != 3 {
		t.Errorf("%q, %v at tick %d; want all that was said, at the third", p[:n], err, beats)
	}
	if n, err := c.Read(p); n != 0 || err != io.EOF {
		t.Errorf("%q, %v at the end of the line", p[:n], err)
	}
}

// TestFewAreReadAtOnce: a line waits for no tick without a crowd, or where nothing runs.
func TestFewAreReadAtOnce(t *testing.T) {
	for what, b := range map[string]*coalescer{"few": crowd(minCrowd - 2), "idle": crowd(minCrowd)} {
		c, far := line(t, b)
		b.wait = func() { t.Errorf("%s: waited for a tick", what) }
		if what == "few" {
			c.work()
		}
		say(t, far, "hello")
		p := make([]byte, 100)
		if n, err := c.Read(p); err != nil || string(p[:n]) != "hello" {
			t.Errorf("%s: %q, %v", what, p[:n], err)
		}
	}
}

// TestMoreIsReadAtOnce: no tick comes between the parts of what is there already.
func TestMoreIsReadAtOnce(t *testing.T) {
	b, c, far := lineOfCrowd(t)
	beats := 0
	b.wait = func() {
		beats++
		say(t, far, "helloresult")
		waitFor(t, c, 11)
	}
	p := make([]byte, 5)
	for _, want := range []string{"hello", "resul"} {
		if n, err := c.Read(p); err != nil || string(p[:n]) != want || beats != 1 {
			t.Errorf("%q, %v after %d beats, want %q after the first", p[:n], err, beats, want)
		}
	}
}

// TestCrowdHearsWhyALineBroke: the kernel tells of an error once, and a read at a tick hears it.
func TestCrowdHearsWhyALineBroke(t *testing.T) {
	b, c, far := lineOfCrowd(t)
	b.wait = func() {
		far.(*net.TCPConn).SetLinger(0)
		far.Close()
		raw, err := c.Conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) { unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1) })
	}
	if n, err := c.Read(make([]byte, 100)); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%d bytes, %v; want the reset", n, err)
	}
}

// TestFullBufferMayBeAll: a line is waited for as it should where a read took all there was.
func TestFullBufferMayBeAll(t *testing.T) {
	b, c, far := lineOfCrowd(t)
	b.wait = func() { say(t, far, "hello") }
	p := make([]byte, 5)
	for range 2 {
		if n, err := c.Read(p); err != nil || string(p[:n]) != "hello" {
			t.Fatalf("%q, %v", p[:n], err)
		}
		time.AfterFunc(10*time.Millisecond, func() { io.WriteString(far, "x") })
		if n, err := c.Read(p); err != nil || string(p[:n]) != "x" {
			t.Fatalf("%q, %v after all was read", p[:n], err)
		}
	}
}

// TestSilentHostIsWaitedFor: a line that has nothing to say is not asked for ever.
func TestSilentHostIsWaitedFor(t *testing.T) {
	b, c, far := lineOfCrowd(t)
	beats := 0
	b.wait = func() { beats++ }
	time.AfterFunc(50*time.Millisecond, func() { io.WriteString(far, "at last") }) // the beats pass at once
	p := make([]byte, 100)
	if n, err := c.Read(p); err != nil || string(p[:n]) != "at last" || beats != maxLooks {
		t.Errorf("%q, %v after %d beats", p[:n], err, beats)
	}
	c.rest()
	c.Conn.Close()
	if _, err := c.Read(p); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v from a closed line", err)
	}
	if n := b.sessions.Load(); n != minCrowd {
		t.Errorf("%d sessions, want those of the other lines", n)
	}
}

// waitFor returns when n bytes wait to be read.
func waitFor(t *testing.T, c *countedConn, n int) {
	t.Helper()
	raw, err := c.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Read(func(fd uintptr) bool { return peek(fd) >= n }); err != nil {
		t.Fatal(err)
	}
}

func peek(fd uintptr) int {
	n, _, err := syscall.Recvfrom(int(fd), make([]byte, 100), syscall.MSG_PEEK)
	if err != nil {
		return -1
	}
	return n
}
