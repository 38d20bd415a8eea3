package page_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bellhop/internal/page"
)

// A screen is a browser that waits for changes, over a pipe so that time is the test's.
type screen struct {
	w      *io.PipeWriter
	events *bufio.Scanner
	header http.Header
	code   int
	leave  context.CancelFunc
	gone   chan struct{} // closed when the server answered to its end
}

func (s *screen) Header() http.Header              { return s.header }
func (s *screen) WriteHeader(code int)             { s.code = code }
func (s *screen) Write(b []byte) (int, error)      { return s.w.Write(b) }
func (s *screen) Flush()                           {}
func (s *screen) SetReadDeadline(time.Time) error  { return nil }
func (s *screen) SetWriteDeadline(time.Time) error { return nil }
func (s *screen) until(t *testing.T, want string)  { t.Helper(); s.find(t, want) }
func (s *screen) find(t *testing.T, want string) string {
	t.Helper()
	for s.events.Scan() {
		if strings.HasPrefix(s.events.Text(), want) {
			return s.events.Text()
		}
	}
	t.Fatalf("no line %q came", want)
	return ""
}

func watch(t *testing.T, p *page.Page, seen, last string) *screen {
	t.Helper()
	r, w := io.Pipe()
	ctx, leave := context.WithCancel(t.Context())
	s := &screen{w: w, events: bufio.NewScanner(r), header: http.Header{}, code: 200, leave: leave, gone: make(chan struct{})}
	req := httptest.NewRequestWithContext(ctx, "GET", "/v1/events?seen="+seen, nil)
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	go func() {
		defer close(s.gone)
		defer w.Close()
		p.ServeHTTP(s, req)
	}()
	return s
}

var seenIn = regexp.MustCompile(`/v1/events\?seen=([^"]+)"`)

// A viewer is told of each change once, of changes that come together once, and of what changed while it was away.
func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := page.New(sample())
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		seen := seenIn.FindStringSubmatch(w.Body.String())[1]

		s := watch(t, p, seen, "")
		s.until(t, "retry: 2000")
		began := time.Now()
		s.until(t, ": here") // nothing changed since the page was made
		if waited := time.Since(began); waited != 15*time.Second {
			t.Errorf("the first sign of life came after %v", waited)
		}

		p.Changed()
		id := s.find(t, "id: ")
		for range 5 {
			p.Changed()
		}
		if id2 := s.find(t, "id: "); !strings.HasSuffix(id, "-1") || !strings.HasSuffix(id2, "-6") {
			t.Errorf("events %q and %q, want the changes of a second to be one", id, id2)
		}
		s.until(t, ": here")
		s.leave()
		<-s.gone

		p.Changed()
		back := watch(t, p, seen, strings.TrimPrefix(id, "id: "))
		if id := back.find(t, "id: "); !strings.HasSuffix(id, "-7") {
			t.Errorf("a viewer that comes back is told %q", id)
		}
		back.leave()
		<-back.gone

		other := watch(t, p, "aaaaaaaa-7", "") // a page of the process before
		other.until(t, "id: ")
		other.leave()
		<-other.gone
	})
}

// Viewers are bounded, and leave when the server stops: none holds it up.
func TestEventsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := page.New(sample())
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan struct{})
		changed := make(chan struct{}, 1)
		go func() { defer close(served); _ = p.Serve(ctx, changed) }()

		var all []*screen
		for range 32 {
			s := watch(t, p, "x", "")
			s.until(t, "event: changed")
			all = append(all, s)
		}
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest("GET", "/v1/events", nil))
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("the 33rd viewer: %d", w.Code)
		}
		all[0].leave()
		<-all[0].gone
		again := watch(t, p, "x", "")
		changed <- struct{}{}
		again.until(t, "event: changed")

		for _, s := range append(all[1:], again) {
			go func() { _, _ = io.Copy(io.Discard, pipeOf(s)) }()
		}
		stop()
		<-served
		for _, s := range append(all[1:], again) {
			<-s.gone
		}
		w = httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest("GET", "/v1/events", nil))
		if w.Code != http.StatusServiceUnavailable {
			t.Errorf("after the end: %d", w.Code)
		}
	})
}

// pipeOf reads on where the scanner is.
func pipeOf(s *screen) io.Reader { return scannerReader{s.events} }

type scannerReader struct{ *bufio.Scanner }

func (r scannerReader) Read(b []byte) (int, error) {
	if !r.Scan() {
		return 0, io.EOF
	}
	return copy(b, r.Bytes()), nil
}

// A viewer that takes nothing is dropped: its connection has a deadline for each event.
func TestSlowViewerIsDropped(t *testing.T) {
	p := page.New(sample())
	ended := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		p.ServeHTTP(refusing{w}, r)
	}))
	defer server.Close()

	c, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET /v1/events?seen=x HTTP/1.1\r\nHost: localhost\r\n\r\n")
	<-ended // it still listens
}

// refusing is a connection on which each deadline is over at once, as that of one whose buffers are full.
type refusing struct{ http.ResponseWriter }

func (r refusing) SetWriteDeadline(at time.Time) error {
	if until := time.Until(at); until <= 0 || until > time.Minute {
		return nil // no deadline that would ever come
	}
	return http.NewResponseController(r.ResponseWriter).SetWriteDeadline(time.Now().Add(-time.Second))
}
func (r refusing) Unwrap() http.ResponseWriter { return r.ResponseWriter }
func (r refusing) Flush()                      { _ = r.FlushError() }
func (r refusing) FlushError() error {
	return http.NewResponseController(r.ResponseWriter).Flush()
}

// What a browser loads for the page of a thousand hosts, compressed as browsers take it, is at most 150 KB.
func TestBytesOfAThousandHosts(t *testing.T) {
	p := page.New(many())
	load := func(path string) (sent int, body string) {
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("Accept-Encoding", "gzip, deflate, br")
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if w.Code != 200 || w.Header().Get("Content-Encoding") != "gzip" {
			t.Fatalf("%s: %d, encoding %q", path, w.Code, w.Header().Get("Content-Encoding"))
		}
		sent = w.Body.Len()
		z, err := gzip.NewReader(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		return sent, string(b)
	}

	total, body := load("/")
	html := total
	assets := regexp.MustCompile(`(?:src|href)="(/assets/[^"]+)"`).FindAllStringSubmatch(body, -1)
	for _, a := range assets {
		n, _ := load(a[1])
		total += n
	}
	t.Logf("%d bytes, of which %d are HTML (%d before compression)", total, html, len(body))
	if total > 150_000 || len(assets) != 5 {
		t.Errorf("%d bytes with %d assets", total, len(assets))
	}
}

// An asset may be kept by its digest alone.
func TestAssets(t *testing.T) {
	_, body := get(t, sample(), "/")
	with := regexp.MustCompile(`/assets/style\.css\?v=[^"]+`).FindString(body)
	for path, want := range map[string]string{with: "private, max-age=31536000, immutable", "/assets/style.css": "", "/assets/style.css?v=other": ""} {
		w := httptest.NewRecorder()
		page.New(sample()).ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != 200 || w.Header().Get("Cache-Control") != want || w.Header().Get("Content-Encoding") != "" {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
	}
	if code, _ := get(t, sample(), "/assets/..%2Ffleet.html"); code != 404 {
		t.Errorf("a file that is no asset: %d", code)
	}
}
