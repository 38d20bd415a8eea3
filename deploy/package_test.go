package deploy_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"bellhop/internal/history"
)

// A server out in the world can't have the deployer look around in its own network.
func TestPackageRedirectedInside(t *testing.T) {
	body := "hello"
	sum := sha256.Sum256([]byte(body))
	digest := hex.EncodeToString(sum[:])
	to := ""
	asked := map[string]int{}
	srv := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked[r.Host]++
		if r.URL.Path == "/away" {
			http.Redirect(rw, r, to, http.StatusFound)
			return
		}
		io.WriteString(rw, body)
	}))
	defer srv.Close()
	client := srv.Client()
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, srv.Listener.Addr().String())
	}

	w := newWorld(t, "a")
	w.enable("a", "app")
	w.d.Client = client
	for _, inside := range []string{"127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "100.64.0.7", "[::1]", "[fd00::1]", "[fe80::1]", "[::ffff:10.1.2.3]", "0.0.0.0"} {
		to = "https://" + inside + "/app"
		packaged(w, "https://example.com/away?"+strings.Trim(inside, "[]"), digest)
		w.push("redirected to "+inside, history.OutcomeRefused)
		if e := w.state("a").Error; e == nil || !strings.Contains(*e, "network of the deployer's own") {
			t.Errorf("redirected to %s: error %v", inside, e)
		}
		if asked[inside] != 0 {
			t.Errorf("%s was asked", inside)
		}
	}
	to = "https://example.com/app" // elsewhere in the world is fine
	packaged(w, "https://example.com/away", digest)
	w.push("redirected in the world", history.OutcomeDone)
}

// http will do, since the sum is what is trusted; and a file that is an archive is not installed as a
// program because its name says nothing.
func TestPackageByHTTP(t *testing.T) {
	bodies := map[string]string{"/app": "#!/bin/sh\n", "/download": "\x1f\x8b\x08\x00compressed"}
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		io.WriteString(rw, bodies[r.URL.Path])
	}))
	defer srv.Close()
	sum := func(path string) string {
		d := sha256.Sum256([]byte(bodies[path]))
		return hex.EncodeToString(d[:])
	}

	w := newWorld(t, "a")
	w.enable("a", "app")
	w.d.Client = srv.Client()
	packaged(w, srv.URL+"/app", sum("/app"))
	w.push("a program", history.OutcomeDone)

	packaged(w, srv.URL+"/download", sum("/download"))
	w.push("an archive without a name", history.OutcomeRefused)
	if e := w.state("a").Error; e == nil || !strings.Contains(*e, "write kind: tar.gz for an archive, kind: gz for one program") {
		t.Errorf("error: %v", e)
	}
}
