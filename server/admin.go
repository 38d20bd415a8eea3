package server

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"bellhop/server/admission"
)

// CheckAdmin refuses an admin listener that would let in others than those who know the token.
func CheckAdmin(addr net.Addr, token string, open bool) error {
	tcp, ok := addr.(*net.TCPAddr)
	onLoopback := !ok || tcp.IP.IsLoopback()
	switch {
	case open && !onLoopback:
		return fmt.Errorf("the admin listener %s can be reached from elsewhere: --admin-open is for 127.0.0.1 alone", addr)
	case !open && token == "":
		return fmt.Errorf("the admin listener %s has no token: set --admin-token FILE", addr)
	}
	return nil
}

// Admin is what shows state. It takes GET alone: what acts comes over the socket, where the
// kernel says who asks, and a web page that the admin happens to visit cannot.
func (s *Server) Admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.summary)
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("GET /v1/status", s.showStatus)
	mux.HandleFunc("GET /v1/history", s.showHistory)
	if s.cfg.Page != nil {
		for _, path := range []string{"/hosts/", "/runs/", "/services", "/deliveries", "/assets/", "/v1/events"} {
			mux.Handle("GET "+path, s.cfg.Page)
		}
	}
	return s.guard(mux)
}

// guard is in front of every admin route, known or not.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")

		switch {
		case !s.ourHost(r.Host):
			refuse(w, http.StatusMisdirectedRequest)
		case r.URL.Path == "/readyz" && r.Method == http.MethodGet:
			next.ServeHTTP(w, r)
		case s.exchangeToken(w, r):
		case !s.mayAdmin(r):
			h.Set("WWW-Authenticate", `Basic realm="bellhop", charset="UTF-8"`)
			refuse(w, http.StatusUnauthorized)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			refuse(w, http.StatusMethodNotAllowed)
		default:
			admission.InPhase(r, admission.PhaseTrusted)
			next.ServeHTTP(w, r)
		}
	})
}

// ourHost holds off names that were rebound to this address.
func (s *Server) ourHost(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}

	if ip := net.ParseIP(name); ip != nil && ip.IsLoopback() {
		return true
	}

	for _, ok := range append([]string{"localhost"}, s.cfg.AdminHosts...) {
		if strings.EqualFold(name, ok) {
			return true
		}
	}
	return false
}

// summary is the page of the fleet for a browser, and a few lines for curl and scripts.
func (s *Server) summary(w http.ResponseWriter, r *http.Request) {
	isBrowser := strings.Contains(r.Header.Get("Accept"), "text/html")
	if isBrowser && s.cfg.Page != nil {
		s.cfg.Page.ServeHTTP(w, r)
		return
	}

	n, last := s.Strangers()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")

	fmt.Fprintf(w, "bellhop, up %s\n\n", time.Since(s.started).Round(time.Second))
	fmt.Fprintf(w, "webhooks that rang  %d\nothers answered     %d\nstrangers           %d\n", s.count.rang.Load(), s.count.ignored.Load(), n)
	if !last.IsZero() {
		fmt.Fprintf(w, "the last one        %s\n", last.UTC().Format(time.RFC3339))
	}
	io.WriteString(w, "\n/v1/status  /v1/history  /metrics  /readyz\n")
}

func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	if s.cfg.Metrics == nil {
		refuse(w, http.StatusNotFound)
		return
	}
	s.cfg.Metrics.ServeHTTP(w, r)
}

// Deliveries counts what came to the webhook since the start, by the verdict on it.
func (s *Server) Deliveries() map[string]int64 {
	return map[string]int64{
		"rang": s.count.rang.Load(), "ignored": s.count.ignored.Load(), "unauthorized": s.count.unauthorized.Load(),
		"too_large": s.count.tooLarge.Load(), "limited": s.count.limited.Load(), "broken": s.count.broken.Load(),
	}
}

// Polls counts the looks at the repo since the start that nobody asked for.
func (s *Server) Polls() int64 { return s.count.polls.Load() }

func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	if s.cfg.Ready != nil {
		if err := s.cfg.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
	io.WriteString(w, "ready\n")
}

func (s *Server) showStatus(w http.ResponseWriter, r *http.Request) {
	if s.cfg.Status == nil {
		refuse(w, http.StatusNotFound)
		return
	}

	v, err := s.cfg.Status(r.Context())
	s.show(w, v, err)
}

func (s *Server) showHistory(w http.ResponseWriter, r *http.Request) {
	if s.cfg.History == nil {
		refuse(w, http.StatusNotFound)
		return
	}

	limit := 0
	if q := r.URL.Query().Get("limit"); q != "" {
		n, err := strconv.Atoi(q)
		if err != nil || n < 1 || n > 10_000 {
			refuse(w, http.StatusBadRequest)
			return
		}
		limit = n
	}

	v, err := s.cfg.History(r.Context(), limit)
	s.show(w, v, err)
}

func (s *Server) show(w http.ResponseWriter, v any, err error) {
	if err != nil {
		s.cfg.Log.Error("admin", "err", err)
		refuse(w, http.StatusInternalServerError)
		return
	}
	reply(w, http.StatusOK, v)
}
