package registry_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"bellhop/internal/registry"
	"bellhop/internal/registry/login"
)

const digest = "sha256:4355a46b19d348dc2f57c046f8ef63d4538ebb936000f3c9ee954a27460dd865"

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"nginx":                         "docker.io/library/nginx:latest",
		"nginx:1.27":                    "docker.io/library/nginx:1.27",
		"cadey/app":                     "docker.io/cadey/app:latest",
		"ghcr.io/cadey/app:2@" + digest: "ghcr.io/cadey/app:2",
		"registry.lan:5000/a/b/c:x":     "registry.lan:5000/a/b/c:x",
		"localhost/app":                 "localhost/app:latest",
		"docker.io/nginx":               "docker.io/library/nginx:latest",
	} {
		if got, err := registry.Parse(text); err != nil || got.String() != want {
			t.Errorf("Parse(%s) = %s, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "App", "a b", "ghcr.io/", "ghcr.io/../x", "a:b:c", "sha256:", "ghcr.io/a?x=1", "x/\x1b[1m"} {
		if got, err := registry.Parse(text); err == nil {
			t.Errorf("Parse(%q) = %+v", text, got)
		}
	}
}

// ask asks a registry of the test for the newest app:1.
func ask(t *testing.T, logins map[string]login.Login, serve http.HandlerFunc) (string, error) {
	t.Helper()
	s := httptest.NewServer(serve)
	defer s.Close()
	host := strings.TrimPrefix(s.URL, "http://")
	r, err := registry.Parse(host + "/cadey/app:1")
	if err != nil {
		t.Fatal(err)
	}
	c := &registry.Client{Here: true, Login: func(string) (login.Login, bool) { l, ok := logins["it"]; return l, ok }}
	return c.Newest(context.Background(), r)
}

func TestNewest(t *testing.T) {
	me := map[string]login.Login{"it": {User: "cadey", Password: "sesame"}}
	bearer := func(w http.ResponseWriter, req *http.Request) {
		user, password, _ := req.BasicAuth()
		switch {
		case req.URL.Path == "/token" && req.URL.Query().Get("scope") == "repository:cadey/app:pull" && req.URL.Query().Get("service") == "reg" && (user == "" || user+password == "cadeysesame"):
			fmt.Fprintf(w, `{"token": "token-of-%s"}`, user)
		case req.URL.Path == "/token":
			w.WriteHeader(401)
		case strings.HasPrefix(req.Header.Get("Authorization"), "Bearer token-of-"):
			w.Header().Set("Docker-Content-Digest", digest)
		default:
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+req.Host+`/token",service="reg",scope="x"`)
			w.WriteHeader(401)
		}
	}
	basic := func(w http.ResponseWriter, req *http.Request) {
		if user, password, _ := req.BasicAuth(); user+password != "cadeysesame" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(401)
			return
		}
		w.Header().Set("Docker-Content-Digest", digest)
	}
	says := func(status int, digest string) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) {
			if req.Method != http.MethodHead || !strings.Contains(req.Header.Get("Accept"), "image.index.v1") || req.URL.Path != "/v2/cadey/app/manifests/1" {
				t.Errorf("asked %s %s", req.Method, req.URL)
			}
			w.Header().Set("Docker-Content-Digest", digest)
			w.WriteHeader(status)
		}
	}

	for _, c := range []struct {
		name   string
		logins map[string]login.Login
		serve  http.HandlerFunc
		err    string
	}{
		{"without a login", nil, says(200, digest), ""},
		{"a token for everybody", nil, bearer, ""},
		{"a token for a login", me, bearer, ""},
		{"a token for a wrong login", map[string]login.Login{"it": {User: "x", Password: "sesame"}}, bearer, "gives no token"},
		{"by the login itself", me, basic, ""},
		{"a login that is missing", nil, basic, "wants a login"},
		{"none", nil, says(404, ""), "no such image"},
		{"quota", nil, says(429, ""), "no more for now"},
		{"broken", nil, says(500, ""), "answers 500"},
		{"no digest", nil, says(200, "sha256:x"), "gives no digest"},
		{"a token from anywhere", me, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://192.0.2.1/token",service="reg"`)
			w.WriteHeader(401)
		}, "can be trusted"},
	} {
		got, err := ask(t, c.logins, c.serve)
		switch {
		case c.err == "" && (err != nil || got != digest):
			t.Errorf("%s: %s, %v", c.name, got, err)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "sesame")):
			t.Errorf("%s: %s, %v; want %s", c.name, got, err, c.err)
		}
	}
}

// A registry of this machine is another one for a host, and no login goes to it or along to plain HTTP.
func TestLoginStaysOnTLS(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer s.Close()
	r, err := registry.Parse(strings.TrimPrefix(s.URL, "http://") + "/app:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (&registry.Client{}).Newest(t.Context(), r); err == nil || asked != 0 {
		t.Errorf("the host's own registry was asked %d times: %v", asked, err)
	}

	for to, follows := range map[string]bool{"https://ghcr.io/y": true, "http://ghcr.io/y": false} {
		next, _ := http.NewRequest(http.MethodHead, to, nil)
		first, _ := http.NewRequest(http.MethodHead, "https://ghcr.io/x", nil)
		if err := registry.ToTLS(next, []*http.Request{first}); (err == nil) != follows {
			t.Errorf("from %s to %s: %v", first.URL, to, err)
		}
	}
}
