package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"bellhop/internal/notify"
)

// A sink takes the messages of a script.
type sink struct {
	mu     sync.Mutex
	bodies [][]byte
	signs  []string
	more   chan struct{} // gets one for each message
}

type sinkKey struct{}

// sink VAR: listen for messages; the variable is set to the address.
func cmdSink(ts *testscript.TestScript, _ bool, args []string) {
	s := ts.Value(sinkKey{}).(*sink)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.bodies, s.signs = append(s.bodies, body), append(s.signs, r.Header.Get(notify.SignatureHeader))
		s.mu.Unlock()
		s.more <- struct{}{}
	}))
	ts.Defer(srv.Close)
	ts.Setenv(args[0], srv.URL)
}

// heard N PATH WANT: wait for message N, and want what it holds there; signed wants its signature.
func cmdHeard(ts *testscript.TestScript, _ bool, args []string) {
	s := ts.Value(sinkKey{}).(*sink)
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	for late := time.After(2 * time.Minute); s.count() < n; {
		select {
		case <-s.more:
		case <-late:
			ts.Fatalf("%d messages came, want %d", s.count(), n)
		}
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	body := s.bodies[n-1]
	ts.Logf("%s", body)
	if args[1] == "signed" {
		mac := hmac.New(sha256.New, []byte(args[2]))
		mac.Write(body)
		if want := "sha256=" + hex.EncodeToString(mac.Sum(nil)); s.signs[n-1] != want {
			ts.Fatalf("signature %s, want %s", s.signs[n-1], want)
		}
		return
	}

	var v any
	ts.Check(json.Unmarshal(body, &v))
	for _, part := range strings.Split(args[1], ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[part]
		case []any:
			i, err := strconv.Atoi(part)
			ts.Check(err)
			if i >= len(x) {
				ts.Fatalf("%s: only %d", args[1], len(x))
			}
			v = x[i]
		}
	}
	if got := fmt.Sprint(v); got != args[2] {
		ts.Fatalf("message %d: %s is %s, want %s", n, args[1], got, args[2])
	}
}

func (s *sink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.bodies)
}
