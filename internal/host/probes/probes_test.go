package probes_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/probes"
	"bellhop/internal/lab"
	"bellhop/internal/lab/port"
)

func ask(t *testing.T, p bundle.Probe) machine.Answer {
	t.Helper()
	return new(probes.Prober).Ask(t.Context(), p)
}

func TestHTTP(t *testing.T) {
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.UserAgent()) })
	mux.HandleFunc("/bad", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(503)
		fmt.Fprint(w, strings.Repeat("no database\n", 1000))
	})
	mux.HandleFunc("/near", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusFound) })
	mux.HandleFunc("/far", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	s := httptest.NewServer(mux)
	defer s.Close()
	// A proxy of the environment would hear of every probe.
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("http_proxy", "http://127.0.0.1:1")

	for _, tt := range []struct {
		path   string
		expect int
		wrong  string
	}{
		{"/ok", 0, ""}, {"/ok", 204, "status 200, want 204"}, {"/bad", 0, "status 503, want 200"}, {"/bad", 503, ""},
		{"/near", 0, ""}, {"/near", 302, ""}, {"/far", 302, ""},
		{"/far", 0, "status 302, want 200: it leads to another host, where a probe does not follow"},
		{"/loop", 0, "status 302, want 200"},
	} {
		a := ask(t, bundle.Probe{HTTP: s.URL + tt.path, Status: tt.expect})
		if a.Wrong != tt.wrong {
			t.Errorf("%s, expect %d: wrong = %q, want %q", tt.path, tt.expect, a.Wrong, tt.wrong)
		}
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("another host was asked %d times", n)
	}
	if a := ask(t, bundle.Probe{HTTP: s.URL + "/bad"}); a.Status != 503 || len(a.Body) != machine.MaxBody || !strings.HasPrefix(a.Body, "no database\nno") {
		t.Errorf("status %d and %d bytes of body, want 503 and the first %d", a.Status, len(a.Body), machine.MaxBody)
	}
}

func TestNobodyListens(t *testing.T) {
	addr, release, err := port.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if a := ask(t, bundle.Probe{TCP: addr}); a.Wrong != "" {
		t.Errorf("tcp: wrong = %q while it listens", a.Wrong)
	}
	l.Close()
	for _, p := range []bundle.Probe{{TCP: addr}, {HTTP: "http://" + addr}} {
		if a := ask(t, p); !strings.Contains(a.Wrong, "connection refused") || strings.Contains(a.Wrong, "Get ") {
			t.Errorf("%s: wrong = %q, want that it was refused", p.Name(), a.Wrong)
		}
	}
}

// One that takes a connection and says nothing is given up at its timeout.
func TestSilence(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	a := new(probes.Prober).Ask(ctx, bundle.Probe{HTTP: "http://" + l.Addr().String()})
	if !strings.HasPrefix(a.Wrong, "no answer within ") {
		t.Errorf("wrong = %q, want that there was no answer", a.Wrong)
	}
}

func TestCommand(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	p := &probes.Prober{Commands: m.Host().Commands}
	m.Script("bad", lab.Script{Exit: 2})
	m.Script("slow", lab.Script{Takes: time.Hour})

	for _, tt := range []struct {
		probe  bundle.Probe
		wrong  string
		status int
	}{
		{bundle.Probe{Command: "good", User: "daemon"}, "", 0},
		{bundle.Probe{Command: "bad"}, "exit status 2", 2},
		{bundle.Probe{Command: "bad", User: "nobody-here"}, "the host has no user nobody-here", 217},
		{bundle.Probe{Command: "slow", Timeout: 20}, "it was not done within 20ms, and was killed", 15},
	} {
		a := p.Ask(t.Context(), tt.probe)
		if a.Wrong != tt.wrong || a.Status != tt.status || a.Invocation == "" {
			t.Errorf("%s: %+v, want %q and %d", tt.probe.Name(), a, tt.wrong, tt.status)
		}
	}
	if ran := m.Ran(); ran[0] != "daemon: good" {
		t.Errorf("commands %q, want the first as daemon", ran)
	}

	// A watch that ends leaves nothing behind.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if a := p.Ask(ctx, bundle.Probe{Command: "slow"}); a.Wrong == "" {
		t.Error("a command that did not end is good")
	}
	if units := m.CommandUnits(); len(units) > 0 {
		t.Errorf("units %q were left behind", units)
	}
}
