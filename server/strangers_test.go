package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bellhop/server/admission"
)

func from(remote string, edits ...func(*http.Request)) func(*http.Request) {
	return func(r *http.Request) {
		r.RemoteAddr = remote
		for _, edit := range edits {
			edit(r)
		}
	}
}

func unsigned(r *http.Request) {
	r.Header.Set("X-Hub-Signature-256", "sha256="+strings.Repeat("0", 64))
}

// failing is a body that ends with an error.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// Whatever ends without a right signature counts, however it ends.
func TestEveryFailureCounts(t *testing.T) {
	for name, fail := range map[string]func(h http.Handler) int{
		"unsigned": func(h http.Handler) int { return ask(h, delivery(push, from("203.0.113.7:1", unsigned))).Code },
		"broken body": func(h http.Handler) int {
			r := delivery(push, from("203.0.113.7:1"))
			r.Body = io.NopCloser(failing{errors.New("reset")})
			return ask(h, r).Code
		},
		"slow body": func(h http.Handler) int {
			r := delivery(push, from("203.0.113.7:1"))
			r.Body = io.NopCloser(failing{context.DeadlineExceeded})
			return ask(h, r).Code
		},
		"too large": func(h http.Handler) int {
			return ask(h, delivery(push, from("203.0.113.7:1", func(r *http.Request) { r.ContentLength = MaxLargeBody + 1 }))).Code
		},
	} {
		s, _ := newServer(t, Config{})
		h := s.Public()
		for range admission.FailuresPerMinute {
			fail(h)
		}
		if !s.limit.Over(admission.Sender{Addr: netip.MustParseAddr("203.0.113.7")}) {
			t.Errorf("%s: %d of them are not over the limit", name, admission.FailuresPerMinute)
		}
		// Over the limit a large body is not read, a small one is checked.
		large := strings.Repeat(" ", smallBody) + push
		if got := ask(h, delivery(large, from("203.0.113.7:1"))).Code; got != 429 {
			t.Errorf("%s: a large body over the limit: %d, want 429", name, got)
		}
		if got := ask(h, delivery(push, from("203.0.113.7:1", unsigned))).Code; got != 429 {
			t.Errorf("%s: a bad signature over the limit: %d, want 429", name, got)
		}
		if got := ask(h, delivery(push, from("203.0.113.7:1"))).Code; got != 202 {
			t.Errorf("%s: a right signature over the limit: %d, want 202", name, got)
		}
	}
}

// What strangers do from the same address, or from everywhere, refuses nobody who knows the secret.
func TestRightSignatureIsNeverRefused(t *testing.T) {
	for name, c := range map[string]struct {
		trust  admission.Proxies
		remote string
		header string
	}{
		"the same address":            {nil, "203.0.113.7:1", ""},
		"a proxy on this machine":     {nil, "127.0.0.1:1", ""},
		"a proxy of a container":      {nil, "172.18.0.2:1", ""},
		"a proxy that is trusted":     {admission.Proxies{netip.MustParsePrefix("172.18.0.0/16")}, "172.18.0.2:1", "203.0.113.7"},
		"a trusted one, no header":    {admission.Proxies{netip.MustParsePrefix("172.18.0.0/16")}, "172.18.0.2:1", ""},
		"a private one, not trusted":  {admission.Proxies{netip.MustParsePrefix("172.18.0.0/16")}, "10.0.0.2:1", "203.0.113.7"},
		"the same network of IPv6":    {nil, "[2001:db8::7]:1", ""},
		"no address that can be read": {nil, "@", ""},
	} {
		s, _ := newServer(t, Config{TrustProxy: c.trust})
		h := s.Public()
		edit := from(c.remote)
		if c.header != "" {
			edit = from(c.remote, set("X-Forwarded-For", c.header))
		}
		good := func(when string) {
			if got := ask(h, delivery(push, edit)).Code; got != 202 {
				t.Errorf("%s: a right signature %s: %d, want 202", name, when, got)
			}
		}
		for range 3 * admission.FailuresPerMinute {
			ask(h, delivery(push, func(r *http.Request) { edit(r); unsigned(r) }))
		}
		good("after many failures of others")
		for i := range admission.AllFailuresPerMinute + 10 {
			ask(h, delivery(push, from(fmt.Sprintf("198.51.%d.%d:1", i/250, i%250), unsigned)))
		}
		good("after failures from everywhere")
	}
}

// A trickle is a body that comes until it is stopped.
type trickle struct {
	begun *sync.WaitGroup
	stop  <-chan struct{}
	size  int
	once  sync.Once
}

func (b *trickle) Read(p []byte) (int, error) {
	if b.size > 0 {
		n := min(len(p), b.size)
		b.size -= n
		return n, nil
	}
	b.once.Do(b.begun.Done)
	<-b.stop
	return 0, io.ErrUnexpectedEOF
}

// hold has n bodies of that size be read from an address at once, until the test ends.
func hold(t *testing.T, h http.Handler, remote string, n, size int, claimed int64) (done func()) {
	t.Helper()
	var begun, ended sync.WaitGroup
	stop := make(chan struct{})
	begun.Add(n)
	for range n {
		ended.Go(func() {
			r := delivery("", from(remote, unsigned))
			r.Body, r.ContentLength = io.NopCloser(&trickle{begun: &begun, stop: stop, size: size}), claimed
			ask(h, r)
		})
	}
	begun.Wait()
	return func() { close(stop); ended.Wait() }
}

func TestSlowBodiesOfStrangers(t *testing.T) {
	s, _ := newServer(t, Config{})
	h := s.Public()
	const medium = smallBody + 1
	wait := func(remote string) int {
		body := strings.Repeat(" ", medium) + push
		return ask(h, delivery(body, from(remote))).Code
	}

	// One address has its eight slots, and no more.
	defer hold(t, h, "203.0.113.7:1", slotsEach, medium, -1)()
	// Many have all that are not reserved.
	for i := range (mostSlots - slotsReserved - slotsEach) / slotsEach {
		defer hold(t, h, fmt.Sprintf("203.0.113.%d:1", 100+i), slotsEach, medium, -1)()
	}
	// Of those that hold 64 KiB at most there may be any number.
	defer hold(t, h, "203.0.113.8:1", 200, smallBody/2, -1)()

	if got := ask(h, delivery(push, from("140.82.112.1:1"))).Code; got != 202 {
		t.Errorf("a usual push while strangers hold every slot: %d, want 202", got)
	}
	if got := wait("140.82.112.1:1"); got != 202 {
		t.Errorf("a larger one of an address that authenticated: %d, want 202", got)
	}
}

// Large bodies: four places, two of them for those that authenticated, one for each address.
func TestPlacesForLargeBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b := newServer(t, Config{})
		h := s.Public()
		large := strings.Repeat(" ", MaxBody) + push
		send := func(remote string) int { return ask(h, delivery(large, from(remote))).Code }

		first := hold(t, h, "203.0.113.1:1", 1, MaxBody+1, 2*MaxBody)
		if got := send("203.0.113.1:1"); got != 503 {
			t.Errorf("a second large body of an address: %d, want 503", got)
		}
		second := hold(t, h, "203.0.113.2:1", 1, MaxBody+1, -1)
		rung := b.rung()
		if got := send("203.0.113.3:1"); got != 503 {
			t.Errorf("a third stranger's: %d, want 503", got)
		}
		if b.rung() != rung {
			t.Error("looked twice within a minute for what was refused for room")
		}
		time.Sleep(time.Minute)
		if send("203.0.113.3:1"); b.rung() != rung+1 {
			t.Error("a push that was refused for room is not looked for")
		}

		if got := ask(h, delivery(push, from("140.82.112.1:1"))).Code; got != 202 {
			t.Fatalf("a usual push: %d", got)
		}
		if got := send("140.82.112.1:1"); got != 202 {
			t.Errorf("a large push of an address that authenticated: %d, want 202", got)
		}
		first()
		second()
		if got := send("203.0.113.3:1"); got != 202 {
			t.Errorf("a large push of a new address, when there is room: %d, want 202", got)
		}
	})
}

// A stranger's large body comes at 64 KiB a second, and within 20 s.
func TestLargeBodyDeadlines(t *testing.T) {
	b := &bodyReader{s: &Server{cfg: Config{BodyTimeout: 10 * time.Second}}, began: time.Now()}
	after := func() time.Duration { return b.deadline().Sub(b.began) }
	if after() != 10*time.Second {
		t.Errorf("a small body has %v, want 10 s", after())
	}
	b.give = make([]func(), 2)
	b.buf = make([]byte, 0)
	if after() != largeGrace+time.Second {
		t.Errorf("the first 64 KiB have %v", after())
	}
	b.buf = make([]byte, 5*largeRate)
	if after() != largeGrace+6*time.Second {
		t.Errorf("the sixth 64 KiB have %v", after())
	}
	b.buf = make([]byte, 20<<20)
	if after() != largeTime {
		t.Errorf("a stranger's body has %v in all, want %v", after(), largeTime)
	}
	b.who.Trusted = true
	if after() != largeTimeKnown {
		t.Errorf("a known sender's body has %v, want %v", after(), largeTimeKnown)
	}
}

// pipeConn is a connection of an address that a test chooses.
type pipeConn struct {
	net.Conn
	remote net.Addr
	closed bool
}

func (c *pipeConn) RemoteAddr() net.Addr { return c.remote }
func (c *pipeConn) Close() error         { c.closed = true; return nil }

func TestConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newServer(t, Config{})
		table := s.publicConns()
		table.Listen(nil)
		open := func(ip string) *admission.Tracked {
			time.Sleep(time.Millisecond)
			return table.Enter(&pipeConn{remote: &net.TCPAddr{IP: net.ParseIP(ip), Port: 1}})
		}
		closed := func(c *admission.Tracked) bool { return c.Conn.(*pipeConn).closed }

		// One address has 32, and its own oldest idle one goes for the next.
		var mine []*admission.Tracked
		for range publicEach {
			mine = append(mine, open("203.0.113.7"))
		}
		mine[0].EnterPhase(admission.PhaseReading)
		if c := open("203.0.113.7"); c == nil || closed(mine[0]) || !closed(mine[1]) {
			t.Error("the oldest idle connection of a full address is not the one that went")
		}
		// Those that authenticated or are being answered are not closed.
		for _, c := range mine[2:] {
			c.EnterPhase(admission.PhaseTrusted)
		}

		// When all is taken, the fullest address gives.
		for i := range 30 {
			for range 30 {
				open(fmt.Sprintf("198.51.100.%d", i))
			}
		}
		all, strangers := table.Count()
		if strangers > publicConns-publicReserved || all > publicConns {
			t.Errorf("%d connections, %d of strangers", all, strangers)
		}
		if c := open("192.0.2.9"); c == nil {
			t.Error("a newcomer is refused while others idle")
		}

		// The reserve is for those that authenticated.
		s.limit.Good(admission.Sender{Addr: netip.MustParseAddr("140.82.112.1")})
		for i := range publicReserved {
			if c := open("140.82.112.1"); c == nil {
				t.Fatalf("connection %d of an address that authenticated is refused", i)
			}
		}
		if all, _ := table.Count(); all > publicConns {
			t.Errorf("%d connections are open, want at most %d", all, publicConns)
		}
		if c := open("140.82.112.1"); c == nil {
			t.Error("one who authenticated is refused while strangers idle")
		}
	})
}

// Each connection that ends before its first request counts as a failure.
func TestEmptyConnectionsCount(t *testing.T) {
	s, _ := newServer(t, Config{})
	table := s.publicConns()
	table.Listen(nil)
	who := admission.Sender{Addr: netip.MustParseAddr("203.0.113.7")}
	for range admission.FailuresPerMinute {
		c := table.Enter(&pipeConn{remote: &net.TCPAddr{IP: net.ParseIP("203.0.113.7"), Port: 1}})
		c.EnterPhase(admission.PhaseReading) // one that asks for something does not count by itself
		c.Close()
	}
	if s.limit.Over(who) {
		t.Error("connections with a request count as empty")
	}
	for range admission.FailuresPerMinute {
		table.Enter(&pipeConn{remote: &net.TCPAddr{IP: net.ParseIP("203.0.113.7"), Port: 1}}).Close()
	}
	if !s.limit.Over(who) {
		t.Error("empty connections do not count")
	}
	if table.Holders() != 0 {
		t.Errorf("%d addresses are left in the table", table.Holders())
	}
}

func TestKeepAlive(t *testing.T) {
	s, _ := newServer(t, Config{})
	h := s.Public()
	get := func(remote string) string {
		r := httptest.NewRequest("GET", "/healthz", nil)
		r.RemoteAddr = remote
		return ask(h, r).Header().Get("Connection")
	}
	if get("203.0.113.7:1") != "close" {
		t.Error("a stranger's connection is kept alive")
	}
	if get("127.0.0.1:1") == "close" {
		t.Error("a proxy's connection is closed")
	}
	if ask(h, delivery(push, from("203.0.113.7:1"))); get("203.0.113.7:1") == "close" {
		t.Error("the connection of an address that authenticated is closed")
	}
}

// Over real connections: idle ones do not keep a webhook out.
func TestIdleConnectionsKeepNobodyOut(t *testing.T) {
	s, _ := newServer(t, Config{})
	addr, _ := serve(t, s)
	var idle []net.Conn
	defer func() {
		for _, c := range idle {
			c.Close()
		}
	}()
	for range publicConns + 50 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Skip(err) // not enough file descriptors
		}
		idle = append(idle, c)
	}
	req, _ := http.NewRequest("POST", "http://"+addr+"/v1/webhook", strings.NewReader(push))
	req.Header = delivery(push, nil).Header
	res, err := (&http.Client{Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 202 {
		t.Errorf("a push beside %d idle connections: %s", len(idle), res.Status)
	}
}
