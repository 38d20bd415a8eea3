package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bellhop/internal/history"
	"bellhop/internal/history/deliveries"
	"bellhop/server/admission"
)

var secret = []byte("a webhook secret of some length")

// bell counts who rang.
type bell struct {
	mu     sync.Mutex
	causes []string
}

func (b *bell) Ring(cause string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.causes = append(b.causes, cause)
	return "r" + strconv.Itoa(len(b.causes))
}

func (b *bell) Poll(cause string) string { return b.Ring(cause) }

func (b *bell) rung() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.causes)
}

// shelf records deliveries in memory.
type shelf struct {
	mu    sync.Mutex
	ds    []deliveries.Delivery
	calls int
	err   error
	hold  chan struct{}
	tried chan struct{} // gets one when err is given
}

func (s *shelf) AddDeliveries(ctx context.Context, ds []deliveries.Delivery) error {
	if s.hold != nil {
		<-s.hold
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.err != nil {
		select {
		case s.tried <- struct{}{}:
		default:
		}
		return s.err
	}
	s.ds = append(s.ds, ds...)
	return nil
}

func newServer(t testing.TB, cfg Config) (*Server, *bell) {
	t.Helper()
	b := &bell{}
	cfg.Secret, cfg.Bell = secret, b
	cfg.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "up 1\n") })
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s, b
}

// serve runs s with a public listener, and returns its address and what stops it.
func serve(t testing.TB, s *Server) (string, func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l.Addr().String(), serveOn(t, s, l)
}

// serveOn serves s on l until the test ends or the function that it returns is called.
func serveOn(t testing.TB, s *Server, l net.Listener) func() {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, Listeners{Public: l}) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// serveCounting serves s on a listener that counts the bytes that are read from its
// connections.
func serveCounting(t testing.TB, s *Server) (*atomic.Int64, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	counting := &countingListener{Listener: l}
	serveOn(t, s, counting)
	return &counting.read, l.Addr().String()
}

type countingListener struct {
	net.Listener
	read atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &countingConn{Conn: c, read: &l.read}, nil
}

type countingConn struct {
	net.Conn
	read *atomic.Int64
}

func (c *countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read.Add(int64(n))
	return n, err
}

func sign(key, body []byte) string {
	m := hmac.New(sha256.New, key)
	m.Write(body)
	return "sha256=" + hex.EncodeToString(m.Sum(nil))
}

const push = `{"ref":"refs/heads/main","after":"0123456789012345678901234567890123456789","repository":{"full_name":"within/hexagone","clone_url":"http://169.254.169.254/x"}}`

func delivery(body string, edit func(*http.Request)) *http.Request {
	r := httptest.NewRequest("POST", "/v1/webhook", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-GitHub-Event", "push")
	r.Header.Set("X-GitHub-Delivery", "d-1")
	r.Header.Set("X-Hub-Signature-256", sign(secret, []byte(body)))
	if edit != nil {
		edit(r)
	}
	return r
}

func ask(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func set(k, v string) func(*http.Request) { return func(r *http.Request) { r.Header.Set(k, v) } }

func TestSecretFailsClosed(t *testing.T) {
	for _, s := range []string{"", "short", "fifteen bytes!!"} {
		if _, err := New(Config{Secret: []byte(s), Bell: &bell{}}); err == nil {
			t.Errorf("New(secret of %d bytes) was accepted", len(s))
		}
	}
}

func TestSignature(t *testing.T) {
	good := sign(secret, []byte(push))
	for name, edit := range map[string]func(*http.Request){
		"missing":   func(r *http.Request) { r.Header.Del("X-Hub-Signature-256") },
		"empty":     set("X-Hub-Signature-256", ""),
		"no prefix": set("X-Hub-Signature-256", good[7:]),
		"sha1":      set("X-Hub-Signature-256", "sha1="+good[7:47]),
		"sha512":    set("X-Hub-Signature-256", "sha512="+good[7:]+good[7:]),
		"upper":     set("X-Hub-Signature-256", "sha256="+strings.ToUpper(good[7:])),
		"truncated": set("X-Hub-Signature-256", good[:40]),
		"longer":    set("X-Hub-Signature-256", good+"00"),
		"newline":   set("X-Hub-Signature-256", good+"\n"),
		"two":       func(r *http.Request) { r.Header.Add("X-Hub-Signature-256", good) },
		"bad+good": func(r *http.Request) {
			r.Header["X-Hub-Signature-256"] = []string{"sha256=" + strings.Repeat("0", 64), good}
		},
		"wrong key":  set("X-Hub-Signature-256", sign([]byte("another secret, long enough"), []byte(push))),
		"empty key":  set("X-Hub-Signature-256", sign(nil, []byte(push))),
		"other body": set("X-Hub-Signature-256", sign(secret, []byte(push+" "))),
		"old header": func(r *http.Request) { r.Header.Del("X-Hub-Signature-256"); r.Header.Set("X-Hub-Signature", good) },
		"gitea only": func(r *http.Request) {
			r.Header.Del("X-Hub-Signature-256")
			r.Header.Set("X-Gitea-Signature", good[7:])
		},
		"in a form": set("Content-Type", "application/x-www-form-urlencoded; x=sha256"),
	} {
		rec := &shelf{}
		s, b := newServer(t, Config{Record: rec})
		decoded := 0
		s.forge.push = func([]byte) (pushed, error) { decoded++; return pushed{}, nil }
		r := delivery(push, edit)
		if name == "in a form" {
			r = delivery("payload="+url.QueryEscape(push), func(r *http.Request) {
				edit(r)
				r.Header.Set("X-Hub-Signature-256", good) // of the JSON, not of the raw bytes
			})
		}
		w := ask(s.Public(), r)
		if w.Code != 401 || strings.TrimSpace(w.Body.String()) != "Unauthorized" {
			t.Errorf("%s: %d %q, want 401 and the status alone", name, w.Code, w.Body)
		}
		if decoded != 0 || b.rung() != 0 || len(s.record.queue) != 0 {
			t.Errorf("%s: decoded %d, rang %d, recorded %d for a stranger", name, decoded, b.rung(), len(s.record.queue))
		}
		if n, last := s.Strangers(); n != 1 || last.IsZero() {
			t.Errorf("%s: Strangers() = %d, %v", name, n, last)
		}
	}
}

func TestAnswers(t *testing.T) {
	form := "payload=" + url.QueryEscape(push)
	gitea := func(r *http.Request) {
		r.Header.Set("X-Gitea-Event", "push")
		r.Header.Set("X-Gitea-Delivery", "d-1")
		r.Header.Set("X-Gitea-Signature", strings.TrimPrefix(r.Header.Get("X-Hub-Signature-256"), "sha256="))
		r.Header.Set("X-Gogs-Event", "push")
		r.Header.Set("X-Hub-Signature", "sha1=0000000000000000000000000000000000000000")
	}
	for _, c := range []struct {
		name, body string
		edit       func(*http.Request)
		status     int
		says       string
	}{
		{"push", push, nil, 202, "looking at main"},
		{"form", form, set("Content-Type", "application/x-www-form-urlencoded"), 202, "looking at main"},
		{"gitea", push, gitea, 202, "looking at main"},
		{"forgejo", push, func(r *http.Request) {
			gitea(r)
			r.Header.Set("X-Forgejo-Event", "push")
			r.Header.Set("X-Forgejo-Signature", r.Header.Get("X-Gitea-Signature"))
			r.Header.Set("X-Forgejo-Delivery", "d-1")
		}, 202, "looking at main"},
		{"ping", `{"zen":"x"}`, set("X-GitHub-Event", "ping"), 200, "the bell works"},
		{"branch", strings.Replace(push, "heads/main", "heads/dev", 1), nil, 200, "not the branch"},
		{"no ref", strings.Replace(push, "refs/heads/main", "", 1), nil, 200, "the push names no branch"},
		{"tag", strings.Replace(push, "heads/main", "tags/main", 1), nil, 200, "not the branch"},
		{"repo", strings.Replace(push, "within/hexagone", "evil/hexagone", 1), nil, 200, "not the repo"},
		{"case", strings.Replace(push, "within/hexagone", "Within/Hexagone", 1), nil, 202, "looking"},
		{"event", push, set("X-GitHub-Event", "issues"), 200, `"issues" is no push`},
		{"no event", push, func(r *http.Request) { r.Header.Del("X-GitHub-Event") }, 200, "is no push"},
		{"type", push, set("Content-Type", "text/plain"), 400, "application/json"},
		{"json", "{", nil, 400, "not the JSON"},
		{"control", strings.Replace(push, "heads/main", `heads/\u001b[31m`, 1), nil, 200, "not the branch"},
	} {
		s, b := newServer(t, Config{Repo: "within/hexagone", Record: &shelf{}})
		w := ask(s.Public(), delivery(c.body, c.edit))
		var a answer
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
			t.Errorf("%s: answer %q: %v", c.name, w.Body, err)
		}
		if w.Code != c.status || a.V != 1 || !strings.Contains(a.Message, c.says) || strings.Contains(a.Message, "\x1b") {
			t.Errorf("%s: %d %+v, want %d with %q", c.name, w.Code, a, c.status, c.says)
		}
		if rang := b.rung() == 1; rang != (c.status == 202) || rang != (a.Run != "") {
			t.Errorf("%s: rang %d, run %q, status %d", c.name, b.rung(), a.Run, w.Code)
		}
		if q := s.record.queue; len(q) != 1 || q[0].Answer != a.Message {
			t.Errorf("%s: recorded %+v, want the answer", c.name, q)
		}
	}
}

// With Testing a push to a branch testing-HOST rings too. It is not awaited: the head never holds it.
func TestTestingBranchRings(t *testing.T) {
	body := strings.Replace(push, "heads/main", "heads/testing-lufta", 1)
	for _, testing := range []bool{false, true} {
		s, b := newServer(t, Config{Testing: testing})
		w := ask(s.Public(), delivery(body, nil))
		if rang := b.rung() == 1; rang != testing || strings.Contains(w.Body.String(), "looking at testing-lufta") != testing {
			t.Errorf("Testing %v: %d %s, rang %v", testing, w.Code, w.Body, rang)
		}
		if _, waits := s.awaited.due(); waits || len(s.awaited.open) > 0 {
			t.Errorf("Testing %v: the push is awaited in the branch that is deployed", testing)
		}
	}
}

func TestSeenBeforeRingsToo(t *testing.T) {
	s, b := newServer(t, Config{Known: []deliveries.Delivery{{ID: "from history"}}})
	for i, id := range []string{"d-1", "d-1", "from history"} {
		w := ask(s.Public(), delivery(push, set("X-GitHub-Delivery", id)))
		if again := strings.Contains(w.Body.String(), "seen before; looked again"); again != (i > 0) || w.Code != 202 {
			t.Errorf("delivery %s (%d): %d %s", id, i, w.Code, w.Body)
		}
	}
	if b.rung() != 3 {
		t.Errorf("rang %d times, want 3", b.rung())
	}
	set := newSeen(nil)
	for i := range mostSeen * 2 {
		set.add(strconv.Itoa(i))
	}
	if len(set.ids) != mostSeen || set.order.Len() != mostSeen {
		t.Errorf("%d ids remembered, want %d", len(set.ids), mostSeen)
	}
}

func TestTooLarge(t *testing.T) {
	s, b := newServer(t, Config{})
	taken, addr := serveCounting(t, s)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	sent := new(zeros)
	sent.left.Store(1 << 30)
	req, _ := http.NewRequest("POST", "http://"+addr+"/v1/webhook", sent) // chunked
	req.Header.Set("X-Hub-Signature-256", sign(secret, []byte(push)))
	res, err := http.DefaultClient.Do(req)
	if err == nil {
		res.Body.Close()
		if res.StatusCode != 413 {
			t.Errorf("1 GiB chunked: %s, want 413", res.Status)
		}
	}
	runtime.ReadMemStats(&after)
	// What the kernel buffers of what was sent is not the server's to bound.
	if read := taken.Load(); read < MaxLargeBody || read > MaxLargeBody+2<<20 {
		t.Errorf("%d bytes were read before the end, want %d and at most 2 MiB more", read, MaxLargeBody)
	}
	// All that was ever allocated for it: a buffer that doubled up to the cap.
	if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > 3*MaxLargeBody {
		t.Errorf("%d MiB were allocated for it", grown>>20)
	}
	if s.count.tooLarge.Load() != 1 || b.rung() != 0 {
		t.Errorf("tooLarge = %d, rang %d", s.count.tooLarge.Load(), b.rung())
	}
	w := ask(s.Public(), delivery(push, func(r *http.Request) { r.ContentLength = MaxLargeBody + 1 }))
	if w.Code != 413 {
		t.Errorf("Content-Length over the cap: %d, want 413", w.Code)
	}
	for _, size := range []int{smallBody - 1, smallBody, smallBody + 1, MaxBody, MaxBody + 1, 3 << 20, MaxLargeBody} {
		for _, claimed := range []bool{true, false} {
			body := strings.Repeat(" ", size-len(push)) + push
			w := ask(s.Public(), delivery(body, func(r *http.Request) {
				if !claimed {
					r.ContentLength = -1
				}
			}))
			if w.Code != 202 {
				t.Errorf("%d bytes, length told %v: %d, want 202", size, claimed, w.Code)
			}
		}
	}
}

// zeros is a body, which net/http may go on reading after it has the answer.
type zeros struct{ left atomic.Int64 }

func (z *zeros) Read(p []byte) (int, error) {
	left := z.left.Load()
	if left <= 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), left)
	z.left.Add(-n)
	return int(n), nil
}

func TestSlowLoris(t *testing.T) {
	s, _ := newServer(t, Config{BodyTimeout: 300 * time.Millisecond})
	addr, _ := serve(t, s)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST /v1/webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nX-Hub-Signature-256: %s\r\n\r\n{", sign(secret, []byte(push)))
	c.SetReadDeadline(time.Now().Add(time.Minute))
	if b, err := io.ReadAll(c); err != nil || !bytes.Contains(b, []byte(" 408 ")) {
		t.Errorf("a body that never comes: %q, %v, want 408 soon", b, err)
	}
	if h := s.httpServer(nil, time.Second); h.ReadHeaderTimeout <= 0 || h.ReadTimeout <= 0 || h.WriteTimeout <= 0 || h.IdleTimeout <= 0 || h.MaxHeaderBytes > 64<<10 {
		t.Errorf("the listener lacks a deadline: %+v", h)
	}
}

// 500 at once: all answered, all recorded, though the disk is stuck while they come.
func TestFiveHundredAtOnce(t *testing.T) {
	db, err := history.Open(filepath.Join(t.TempDir(), "bellhop.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rec := &slowDB{db: db, hold: make(chan struct{})}
	s, b := newServer(t, Config{Record: rec})
	addr, stop := serve(t, s)
	var wg sync.WaitGroup
	var answered atomic.Int32
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 500}}
	for i := range 500 {
		wg.Go(func() {
			req, _ := http.NewRequest("POST", "http://"+addr+"/v1/webhook", strings.NewReader(push))
			r := delivery(push, set("X-GitHub-Delivery", fmt.Sprint("d-", i)))
			req.Header = r.Header
			res, err := hc.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			res.Body.Close()
			if res.StatusCode == 202 {
				answered.Add(1)
			}
		})
	}
	wg.Wait()
	if answered.Load() != 500 || b.rung() != 500 {
		t.Errorf("%d of 500 were answered 202, %d rang", answered.Load(), b.rung())
	}
	close(rec.hold)
	stop()
	if ds, err := db.Deliveries(context.Background(), 1000); err != nil || len(ds) != 500 {
		t.Errorf("%d of 500 are recorded after the end (%v)", len(ds), err)
	}
	if rec.calls > 20 {
		t.Errorf("%d transactions for 500 deliveries", rec.calls)
	}
}

type slowDB struct {
	db    *history.DB
	hold  chan struct{}
	calls int
}

func (s *slowDB) AddDeliveries(ctx context.Context, ds []deliveries.Delivery) error {
	<-s.hold
	s.calls++
	return s.db.AddDeliveries(context.Background(), ds)
}

func TestRecorderRetries(t *testing.T) {
	rec := &shelf{err: errors.New("disk full"), tried: make(chan struct{}, 1)}
	s, _ := newServer(t, Config{Record: rec})
	_, stop := serve(t, s)
	ask(s.Public(), delivery(push, nil))
	<-rec.tried
	rec.mu.Lock()
	rec.err = nil
	rec.mu.Unlock()
	stop()
	if len(rec.ds) != 1 || rec.calls < 2 {
		t.Errorf("recorded %d in %d calls, want 1 after a retry", len(rec.ds), rec.calls)
	}
}

func TestGuesserIsRefused(t *testing.T) {
	s, _ := newServer(t, Config{})
	codes := map[int]int{}
	for range admission.FailuresPerMinute + 5 {
		codes[ask(s.Public(), delivery(push, set("X-Hub-Signature-256", "x"))).Code]++
	}
	if codes[401] != admission.FailuresPerMinute || codes[429] != 5 {
		t.Errorf("answers to a guesser: %v", codes)
	}
}

// What the payload names is never dialled.
func TestPayloadIsNotObeyed(t *testing.T) {
	old := http.DefaultTransport
	defer func() { http.DefaultTransport = old }()
	var dials atomic.Int32
	http.DefaultTransport = &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		dials.Add(1)
		return nil, errors.New("no")
	}}
	s, b := newServer(t, Config{})
	for _, u := range []string{"http://169.254.169.254/", "file:///etc/shadow", "-oProxyCommand=touch /tmp/x", "https://exämple/"} {
		body, _ := json.Marshal(map[string]any{"ref": "refs/heads/main", "repository": map[string]string{"full_name": u, "clone_url": u, "url": u, "ssh_url": u}})
		ask(s.Public(), delivery(string(body), nil))
	}
	for i, cause := range b.causes {
		if cause != "push" {
			t.Errorf("cause %d is %q, want push alone", i, cause)
		}
	}
	if dials.Load() != 0 {
		t.Errorf("%d connections were made", dials.Load())
	}
}

func TestRoutes(t *testing.T) {
	s, _ := newServer(t, Config{
		AdminToken: "a token that is long",
		Status:     func(context.Context) (any, error) { return map[string]int{"v": 1}, nil },
		History:    func(_ context.Context, n int) (any, error) { return n, nil },
	})
	paths := []string{"/", "/healthz", "/v1/webhook", "/metrics", "/readyz", "/v1/status", "/v1/history", "/v1/deploy", "/v1/ring", "/debug/pprof/", "/../etc/passwd", "/v1/webhook/x", "/index.html"}
	methods := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"}
	public := map[string]int{"GET /healthz": 200, "HEAD /healthz": 200, "POST /v1/webhook": 401}
	for _, p := range paths {
		for _, m := range methods {
			w := ask(s.Public(), httptest.NewRequest(m, "http://x"+p, nil))
			want := public[m+" "+p]
			if want == 0 {
				want = 404
			}
			if w.Code != want || w.Header().Get("Set-Cookie") != "" {
				t.Errorf("public %s %s = %d, want %d", m, p, w.Code, want)
			}
		}
	}
	known := map[string]bool{"/": true, "/metrics": true, "/readyz": true, "/v1/status": true, "/v1/history": true}
	for _, p := range paths {
		for _, m := range methods {
			r := httptest.NewRequest(m, "http://localhost:8081"+p, nil)
			want := 401
			if p == "/readyz" && m == "GET" {
				want = 200
			}
			if w := ask(s.Admin(), r); w.Code != want {
				t.Errorf("admin %s %s without a token = %d, want %d", m, p, w.Code, want)
			}
			r.SetBasicAuth("any", s.cfg.AdminToken)
			w := ask(s.Admin(), r)
			want = 405
			if m == "GET" || m == "HEAD" {
				want = 404
				if known[p] {
					want = 200
				} else if w.Code/100 == 3 {
					want = w.Code // a path that is not clean
				}
			}
			if w.Code != want {
				t.Errorf("admin %s %s = %d, want %d", m, p, w.Code, want)
			}
			if !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'none'") || w.Header().Get("Set-Cookie") != "" {
				t.Errorf("admin %s %s: headers %v", m, p, w.Header())
			}
		}
	}
	for host, want := range map[string]int{"localhost": 200, "127.0.0.1:8081": 200, "[::1]:8081": 200, "evil.example": 421, "localhost.evil.example": 421, "10.0.0.1:8081": 421, "": 421} {
		r := httptest.NewRequest("GET", "/v1/status", nil)
		r.Host = host
		r.Header.Set("Authorization", "Bearer "+s.cfg.AdminToken)
		if w := ask(s.Admin(), r); w.Code != want {
			t.Errorf("Host %q = %d, want %d", host, w.Code, want)
		}
	}
	for addr, loopback := range map[string]bool{"127.0.0.1": true, "::1": true, "0.0.0.0": false, "::": false, "10.0.0.1": false} {
		a := &net.TCPAddr{IP: net.ParseIP(addr)}
		if err := CheckAdmin(a, "", false); err == nil {
			t.Errorf("CheckAdmin(%s, no token) = nil", addr)
		}
		if err := CheckAdmin(a, "x", false); err != nil {
			t.Errorf("CheckAdmin(%s, token) = %v", addr, err)
		}
		if err := CheckAdmin(a, "", true); (err == nil) != loopback {
			t.Errorf("CheckAdmin(%s, open) = %v", addr, err)
		}
	}
}

// What a stranger sent is counted, and becomes no name of a verdict.
func TestDeliveriesCarryNothingOfStrangers(t *testing.T) {
	s, _ := newServer(t, Config{AdminOpen: true})
	ask(s.Public(), delivery(`{"ref":"canary-canary"}`, func(r *http.Request) {
		r.Header.Set("X-Hub-Signature-256", "canary-canary")
		r.Header.Set("X-GitHub-Event", "canary-canary")
	}))
	counts := s.Deliveries()
	if text := fmt.Sprint(counts); counts["unauthorized"] != 1 || strings.Contains(text, "canary") {
		t.Errorf("deliveries: %s", text)
	}
}

// A browser gets the page, and curl text; without a token neither gets anything.
func TestPageIsForBrowsers(t *testing.T) {
	shown := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "page "+r.URL.Path) })
	s, _ := newServer(t, Config{AdminOpen: true, Page: shown})
	for path, want := range map[string]string{"/": "page /", "/hosts/a": "page /hosts/a", "/runs/x": "page /runs/x", "/services": "page /services", "/deliveries": "page /deliveries", "/assets/style.css": "page /assets/style.css", "/v1/events": "page /v1/events"} {
		r := httptest.NewRequest("GET", "http://localhost"+path, nil)
		r.Header.Set("Accept", "text/html,application/xhtml+xml")
		if w := ask(s.Admin(), r); w.Body.String() != want {
			t.Errorf("%s: %s", path, w.Body)
		}
	}
	if w := ask(s.Admin(), httptest.NewRequest("GET", "http://localhost/", nil)); !strings.HasPrefix(w.Body.String(), "bellhop, up") {
		t.Errorf("curl gets %s", w.Body)
	}

	s, _ = newServer(t, Config{AdminToken: "0123456789abcdef", Page: shown})
	for _, path := range []string{"/", "/hosts/a", "/assets/style.css", "/v1/events"} {
		if w := ask(s.Admin(), httptest.NewRequest("GET", "http://localhost"+path, nil)); w.Code != 401 || strings.Contains(w.Body.String(), "page") {
			t.Errorf("without a token %s: %d %s", path, w.Code, w.Body)
		}
	}
}

// A server that ends while it answers is told as that, with what to do, and not as the end of a file.
func TestServerEndsInAVerb(t *testing.T) {
	for name, answer := range map[string]string{
		"before it says anything": "",
		"before its events":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"within an event":         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n{\"event\":{\"step\":\"pl",
		"after an event":          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n18\r\n{\"event\":{\"step\":\"plan\"}}",
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "bh")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			socket, err := net.Listen("unix", filepath.Join(dir, SocketName))
			if err != nil {
				t.Fatal(err)
			}
			defer socket.Close()
			go func() {
				for {
					c, err := socket.Accept()
					if err != nil {
						return
					}
					if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
						io.WriteString(c, answer)
					}
					c.Close()
				}
			}()

			client, err := Dial(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			_, err = Call[struct{}](t.Context(), client, "deploy", nil, func(json.RawMessage) {})
			var far *Error
			if !errors.As(err, &far) || far.Message != "deploy: the server ended before it answered" || far.Hint == "" || far.Exit != 1 {
				t.Errorf("Call = %#v, want that the server ended, and what to do", err)
			}
		})
	}
}

type exitError struct{}

func (exitError) Error() string { return "paused" }
func (exitError) ExitCode() int { return 4 }

func TestSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "bh")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if _, err := Dial(dir); !errors.Is(err, ErrNoServer) {
		t.Errorf("Dial without a server = %v, want ErrNoServer", err)
	}
	path := filepath.Join(dir, SocketName)
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	if _, err := Dial(dir); !errors.Is(err, ErrNoServer) {
		t.Errorf("Dial to a stale socket = %v, want ErrNoServer", err)
	}
	main, err := ListenSocket(path, "")
	if err != nil {
		t.Fatal(err)
	}
	if i, _ := os.Stat(path); i.Mode().Perm() != 0o600 {
		t.Errorf("%s has mode %v, want 0600", path, i.Mode())
	}
	me, _ := user.Current()
	group, err := user.LookupGroupId(me.Gid)
	if err != nil {
		t.Skip(err)
	}
	ringPath := filepath.Join(dir, RingSocketName)
	ring, err := ListenSocket(ringPath, group.Name)
	if err != nil {
		t.Fatal(err)
	}
	if i, _ := os.Stat(ringPath); i.Mode().Perm() != 0o660 {
		t.Errorf("%s has mode %v, want 0660", ringPath, i.Mode())
	}
	s, b := newServer(t, Config{Follow: func(ctx context.Context, run string, emit func(any)) (any, error) {
		emit(map[string]string{"step": "plan", "run": run})
		emit(map[string]string{"step": "end"})
		return map[string]string{"outcome": "done"}, nil
	}})
	type in struct{ On string }
	Handle(s, "plan", func(_ context.Context, who Caller, in in, _ func(any)) (string, error) {
		return who.Name + " " + in.On, nil
	})
	Handle(s, "deploy", func(context.Context, Caller, in, func(any)) (struct{}, error) {
		return struct{}{}, fmt.Errorf("deploy: %w", exitError{})
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, Listeners{Socket: main, Ring: ring}) }()
	defer func() { cancel(); <-done }()

	c, err := Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Call[string](ctx, c, "plan", in{"@bots"}, nil); err != nil || got != me.Username+" @bots" {
		t.Errorf("Call(plan) = %q, %v", got, err)
	}
	var coded *Error
	if _, err := Call[struct{}](ctx, c, "deploy", in{}, nil); !errors.As(err, &coded) || coded.Exit != 4 || coded.Message != "deploy: paused" {
		t.Errorf("Call(deploy) = %v, want exit 4", err)
	}
	if _, err := Call[string](ctx, c, "nonsense", nil, nil); err == nil {
		t.Error("an unknown verb was taken")
	}
	var events []string
	r, err := DialSocket(ringPath)
	if err != nil {
		t.Fatal(err)
	}
	a, err := r.Ring(ctx, func(e json.RawMessage) { events = append(events, string(e)) })
	if err != nil || len(events) != 2 || string(a.Result) != `{"outcome":"done"}` {
		t.Errorf("Ring(follow) = %+v, %v, events %q", a, err, events)
	}
	if want := fmt.Sprintf("ring by %s (uid %s)", me.Username, me.Uid); b.causes[0] != want {
		t.Errorf("cause %q, want %q", b.causes[0], want)
	}
	if _, err := Call[string](ctx, r, "plan", in{}, nil); err == nil {
		t.Error("ring.sock took a plan")
	}
	if _, err := ListenSocket(path, ""); err == nil || !strings.Contains(err.Error(), "another bellhop") {
		t.Errorf("a second server: %v", err)
	}
	if _, err := ListenSocket(filepath.Join(dir, strings.Repeat("x", 100)), ""); err == nil || !strings.Contains(err.Error(), "shorter --state-dir") {
		t.Errorf("a long path: %v", err)
	}
	os.WriteFile(filepath.Join(dir, "file"), nil, 0o600)
	if _, err := ListenSocket(filepath.Join(dir, "file"), ""); err == nil {
		t.Error("a file was replaced by a socket")
	}
}

func FuzzWebhook(f *testing.F) {
	f.Add([]byte(push), "application/json", "push", "", true)
	f.Add([]byte("payload="+url.QueryEscape(push)), "application/x-www-form-urlencoded", "push", "sha256=00", true)
	f.Add([]byte("{"), "", "ping", "sha1=", false)
	f.Fuzz(func(t *testing.T, body []byte, contentType, event, sig string, signed bool) {
		s, b := newServer(t, Config{Repo: "within/hexagone"})
		r := httptest.NewRequest("POST", "/v1/webhook", bytes.NewReader(body))
		r.Header["Content-Type"] = []string{contentType}
		r.Header["X-Github-Event"] = []string{event}
		r.Header["X-Hub-Signature-256"] = []string{sig}
		if signed {
			r.Header["X-Hub-Signature-256"] = []string{sign(secret, body)}
		}
		w := ask(s.Public(), r)
		if !signed && (w.Code != 401 || b.rung() != 0) {
			t.Errorf("a stranger got %d and rang %d", w.Code, b.rung())
		}
		if signed && w.Code != 200 && w.Code != 202 && w.Code != 400 {
			t.Errorf("a sender got %d", w.Code)
		}
		if (w.Code == 202) != (b.rung() == 1) {
			t.Errorf("%d, rang %d", w.Code, b.rung())
		}
	})
}

// BenchmarkRatioWebhook holds the handler against a bare one that caps, reads, does the same HMAC
// and decodes the same JSON: at most twice as long. The two alternate; medians of 2,001.
func BenchmarkRatioWebhook(b *testing.B) {
	s, _ := newServer(b, Config{Record: &shelf{}})
	go s.record.run()
	defer s.record.close()
	subject := s.Public()
	bare := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
		if err != nil {
			w.WriteHeader(413)
			return
		}
		if !hmac.Equal([]byte(sign(secret, body)), []byte(r.Header.Get("X-Hub-Signature-256"))) {
			w.WriteHeader(401)
			return
		}
		var p struct{ Ref, After string }
		if json.Unmarshal(body, &p) != nil {
			w.WriteHeader(400)
			return
		}
		w.WriteHeader(202)
	})
	// As long as GitHub's payload of a push with a few commits.
	var full map[string]any
	json.Unmarshal([]byte(push), &full)
	full["commits"] = strings.Split(strings.Repeat("a commit with its message and its files,", 200), ",")
	body, _ := json.Marshal(full)
	header := delivery(string(body), nil).Header
	one := func(h http.Handler) time.Duration {
		r := httptest.NewRequest("POST", "/v1/webhook", bytes.NewReader(body))
		r.Header = header
		w := httptest.NewRecorder()
		start := time.Now()
		h.ServeHTTP(w, r)
		took := time.Since(start)
		if w.Code != 202 {
			b.Fatal(w.Code)
		}
		return took
	}
	var base, ours []time.Duration
	for range 2001 {
		base, ours = append(base, one(bare)), append(ours, one(subject))
	}
	slices.Sort(base)
	slices.Sort(ours)
	ratio := float64(ours[1000]) / float64(base[1000])
	b.ReportMetric(ratio, "ratio")
	b.Logf("the handler %v, a bare one %v", ours[1000], base[1000])
	if ratio > 2 {
		b.Errorf("a signed push took %.2f × the bare handler, want at most 2 ×", ratio)
	}
}
