package server

import (
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
	"testing/synctest"
	"time"

	"bellhop/internal/history"
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
	ds    []history.Delivery
	calls int
	err   error
	hold  chan struct{}
}

func (s *shelf) AddDeliveries(ctx context.Context, ds []history.Delivery) error {
	if s.hold != nil {
		<-s.hold
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.err != nil {
		return s.err
	}
	s.ds = append(s.ds, ds...)
	return nil
}

func newServer(t testing.TB, cfg Config) (*Server, *bell) {
	t.Helper()
	b := &bell{}
	cfg.Secret, cfg.Bell = secret, b
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
	return l.Addr().String(), stop
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
		s.decode = func([]byte, string) (payload, error) { decoded++; return payload{}, nil }
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

func TestSeenBeforeRingsToo(t *testing.T) {
	s, b := newServer(t, Config{Seen: []string{"from history"}})
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
	addr, _ := serve(t, s)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	sent := &zeros{left: 1 << 30}
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
	if read := 1<<30 - sent.left; read > 16<<20 {
		t.Errorf("%d MiB were taken before the end", read>>20)
	}
	// All that was ever allocated for it, the client's and the race detector's share included.
	if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > 16<<20 {
		t.Errorf("%d KiB were allocated for it, want less than 16 MiB", grown>>10)
	}
	if s.count.tooLarge.Load() != 1 || b.rung() != 0 {
		t.Errorf("tooLarge = %d, rang %d", s.count.tooLarge.Load(), b.rung())
	}
	w := ask(s.Public(), delivery(push, func(r *http.Request) { r.ContentLength = MaxBody + 1 }))
	if w.Code != 413 {
		t.Errorf("Content-Length over the cap: %d, want 413", w.Code)
	}
	exact := strings.Repeat(" ", MaxBody-len(push)) + push
	if w := ask(s.Public(), delivery(exact, nil)); w.Code != 202 {
		t.Errorf("exactly 1 MiB: %d, want 202", w.Code)
	}
}

type zeros struct{ left int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left <= 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), z.left)
	z.left -= n
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
	start := time.Now()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	b, _ := io.ReadAll(c)
	if time.Since(start) > 5*time.Second || !bytes.Contains(b, []byte(" 408 ")) {
		t.Errorf("a body that never comes: %q after %s, want 408 soon", b, time.Since(start))
	}
	if h := s.httpServer(nil, time.Second); h.ReadHeaderTimeout <= 0 || h.ReadTimeout <= 0 || h.WriteTimeout <= 0 || h.IdleTimeout <= 0 || h.MaxHeaderBytes > 64<<10 {
		t.Errorf("the listener lacks a deadline: %+v", h)
	}
}

func TestUploadsAtOnceAreBounded(t *testing.T) {
	s, _ := newServer(t, Config{MaxAtOnce: 4})
	h := s.Public()
	var reading, most atomic.Int32
	gate := make(chan struct{})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			first := true
			body := readerFunc(func(p []byte) (int, error) {
				if !first {
					return 0, io.EOF
				}
				first = false
				n := reading.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				<-gate
				reading.Add(-1)
				return 0, io.EOF
			})
			r := delivery("", nil)
			r.Body = io.NopCloser(body)
			r.ContentLength = -1
			ask(h, r)
		})
	}
	time.Sleep(100 * time.Millisecond)
	close(gate)
	wg.Wait()
	if most.Load() != 4 {
		t.Errorf("%d bodies were read at once, want 4", most.Load())
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

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
	if n, err := db.CountDeliveries(context.Background()); err != nil || n != 500 {
		t.Errorf("%d of 500 are recorded after the end (%v)", n, err)
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

func (s *slowDB) AddDeliveries(ctx context.Context, ds []history.Delivery) error {
	<-s.hold
	s.calls++
	return s.db.AddDeliveries(context.Background(), ds)
}

func TestRecorderRetries(t *testing.T) {
	rec := &shelf{err: errors.New("disk full")}
	s, _ := newServer(t, Config{Record: rec})
	_, stop := serve(t, s)
	ask(s.Public(), delivery(push, nil))
	time.Sleep(300 * time.Millisecond)
	rec.mu.Lock()
	rec.err = nil
	rec.mu.Unlock()
	stop()
	if len(rec.ds) != 1 || rec.calls < 2 {
		t.Errorf("recorded %d in %d calls, want 1 after a retry", len(rec.ds), rec.calls)
	}
}

func TestLimiter(t *testing.T) {
	l := newLimiter()
	now := time.Unix(60_000, 0)
	l.now = func() time.Time { return now }
	attacker, github := "203.0.113.7:1234", "140.82.112.1:443"
	for range failuresPerMinute {
		if !l.allow(attacker) {
			t.Fatal("held off too early")
		}
		l.fail(attacker)
	}
	if l.allow(attacker) {
		t.Error("not held off after its failures")
	}
	if !l.allow("203.0.113.8:1") {
		t.Error("its neighbour is held off")
	}
	// From ever so many other addresses it cannot wash its counter out.
	l.total = 1 << 30
	for i := range 100_000 {
		l.fail(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255))
	}
	if l.allow(attacker) {
		t.Error("the attacker's counter was evicted")
	}
	l.good(github)
	l.total = 10
	if !l.allow(github) || l.allow("198.51.100.1:1") {
		t.Error("past the global limit, only who proved himself lately gets in")
	}
	now = now.Add(time.Minute)
	if !l.allow(attacker) {
		t.Error("held off for longer than a minute")
	}
	for i := range 3 * mostKnown {
		l.good(fmt.Sprintf("10.0.%d.%d:1", i>>8, i&255))
	}
	if len(l.known) > mostKnown {
		t.Errorf("%d addresses are known, want at most %d", len(l.known), mostKnown)
	}
	if address("[2001:db8::1]:1") != address("[2001:db8::ffff]:9") || address("[2001:db8:0:1::1]:1") == address("[2001:db8::1]:1") {
		t.Error("IPv6 is not counted by /64")
	}
	s, _ := newServer(t, Config{})
	codes := map[int]int{}
	for range failuresPerMinute + 5 {
		codes[ask(s.Public(), delivery(push, set("X-Hub-Signature-256", "x"))).Code]++
	}
	if codes[401] != failuresPerMinute || codes[429] != 5 {
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
			if w := ask(s.Admin(), r); w.Code != 401 {
				t.Errorf("admin %s %s without a token = %d, want 401", m, p, w.Code)
			}
			r.SetBasicAuth("any", s.cfg.AdminToken)
			w := ask(s.Admin(), r)
			want := 405
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
	for addr, ok := range map[string]bool{"127.0.0.1": true, "::1": true, "0.0.0.0": false, "::": false, "10.0.0.1": false} {
		a := &net.TCPAddr{IP: net.ParseIP(addr)}
		if err := CheckAdmin(a, ""); (err == nil) != ok {
			t.Errorf("CheckAdmin(%s, no token) = %v", addr, err)
		}
		if err := CheckAdmin(a, "x"); err != nil {
			t.Errorf("CheckAdmin(%s, token) = %v", addr, err)
		}
	}
}

func TestMetricsCarryNothingOfStrangers(t *testing.T) {
	s, _ := newServer(t, Config{})
	ask(s.Public(), delivery(`{"ref":"canary-canary"}`, func(r *http.Request) {
		r.Header.Set("X-Hub-Signature-256", "canary-canary")
		r.Header.Set("X-GitHub-Event", "canary-canary")
	}))
	r := httptest.NewRequest("GET", "http://localhost/metrics", nil)
	w := ask(s.Admin(), r)
	if !strings.Contains(w.Body.String(), `bellhop_webhooks_total{verdict="unauthorized"} 1`) || strings.Contains(w.Body.String(), "canary") {
		t.Errorf("metrics:\n%s", w.Body)
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

func TestPoll(t *testing.T) {
	count := func(byHand, hear bool) int {
		n := 0
		synctest.Test(t, func(t *testing.T) {
			b := &bell{}
			s, err := New(Config{Secret: secret, Bell: b})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
			defer cancel()
			if hear {
				close(s.heard)
			}
			s.Poll(ctx, 30*time.Second, byHand)
			n = b.rung()
		})
		return n
	}
	if n := count(false, false); n < 100 || n > 120 {
		t.Errorf("%d polls in an hour without webhooks, want about 115", n)
	}
	if n := count(false, true); n < 5 || n > 6 {
		t.Errorf("%d polls in an hour with webhooks, want 5", n)
	}
	if n := count(true, true); n < 100 {
		t.Errorf("%d polls in an hour when set by hand, want about 115", n)
	}
}

func TestRepoName(t *testing.T) {
	for url, want := range map[string]string{
		"https://github.com/within/hexagone.git":    "within/hexagone",
		"https://github.com/within/hexagone/":       "within/hexagone",
		"git@github.com:within/hexagone.git":        "within/hexagone",
		"ssh://git@forge.example:2222/within/h.git": "within/h",
		"/srv/git/x.git":                            "",
		"./x":                                       "",
		"file:///x":                                 "",
	} {
		if got := RepoName(url); got != want {
			t.Errorf("RepoName(%q) = %q, want %q", url, got, want)
		}
	}
}

func TestPayload(t *testing.T) {
	for _, c := range []struct {
		body string
		want payload
		ok   bool
	}{
		{push, payload{"refs/heads/main", "0123456789012345678901234567890123456789", "within/hexagone"}, true},
		{` { "x" : [ 1 , {"ref":"no"}, "a\\\"]}" ] , "ref" : "a\u0062" } `, payload{Ref: "ab"}, true},
		{`{"repository":{"owner":{"full_name":"no"},"full_name":"a/b","x":1},"n":-1.5e3,"after":null}`, payload{Repo: "a/b"}, true},
		{`{"ref":"one","ref":"two"}`, payload{Ref: "one"}, true},
		{`{}`, payload{}, true},
		{`{"ref":1}`, payload{}, false},
		{`{"repository":"x"}`, payload{}, false},
		{`{"ref"`, payload{}, false},
		{`{"ref":}`, payload{}, false},
		{`{"ref":"a`, payload{}, false},
		{`{"ref":"a\"}`, payload{}, false},
		{`[]`, payload{}, false},
		{``, payload{}, false},
		{`null`, payload{}, false},
	} {
		got, err := readPayload([]byte(c.body))
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("readPayload(%s) = %+v, %v, want %+v, ok %v", c.body, got, err, c.want, c.ok)
		}
	}
}

// Whatever is JSON is read as encoding/json reads it, names that come twice or in other
// letters aside.
func FuzzPayload(f *testing.F) {
	f.Add("refs/heads/main", "a/b", []byte(`[1,{"ref":"x"},"\\\""]`))
	f.Fuzz(func(t *testing.T, ref, repo string, other []byte) {
		if !json.Valid(other) {
			readPayload(other)
			return
		}
		body, err := json.Marshal(map[string]any{"before": json.RawMessage(other), "ref": ref, "repository": map[string]any{"a": json.RawMessage(other), "full_name": repo}})
		if err != nil {
			return
		}
		var want struct {
			Ref        string
			Repository struct {
				FullName string `json:"full_name"`
			}
		}
		if err := json.Unmarshal(body, &want); err != nil {
			return
		}
		got, err := readPayload(body)
		if err != nil || got.Ref != want.Ref || got.Repo != want.Repository.FullName {
			t.Errorf("readPayload(%s) = %+v, %v, want %+v", body, got, err, want)
		}
	})
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

// BenchmarkRatioWebhook holds the handler against a bare one that caps, reads and does the
// same HMAC: at most three times as long. The two alternate; medians of 2,001.
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
	if ratio > 3 {
		b.Errorf("a signed push took %.2f × the bare handler, want at most 3 ×", ratio)
	}
}

// A proxy on this machine speaks for strangers and for GitHub alike: the first may not make
// the second lose a delivery.
func TestLimiterBehindProxy(t *testing.T) {
	l := newLimiter()
	for range 3 * failuresPerMinute {
		l.fail("127.0.0.1:4711")
	}
	if !l.allow("127.0.0.1:4712") {
		t.Error("a stranger behind the proxy held off everybody")
	}
	l.total = 3 * failuresPerMinute
	if l.allow("127.0.0.1:4713") {
		t.Error("the limit of all failures does not hold for a proxy")
	}
}
