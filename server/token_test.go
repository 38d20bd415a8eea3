package server

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const adminToken = "a token of the admin listener"

func adminAsk(s *Server, path string, edit func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "http://localhost:8081"+path, nil)
	if edit != nil {
		edit(r)
	}
	return ask(s.Admin(), r)
}

// Nobody reads the admin page without the token, and it is kept nowhere on the way.
func TestAdminToken(t *testing.T) {
	var log bytes.Buffer
	s, _ := newServer(t, Config{AdminToken: adminToken, Log: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	cookie := func(value string) func(*http.Request) {
		return func(r *http.Request) { r.AddCookie(&http.Cookie{Name: adminCookie, Value: value}) }
	}
	basic := func(user, password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(user, password) }
	}
	for name, c := range map[string]struct {
		edit func(*http.Request)
		want int
	}{
		"nothing":                 {nil, 401},
		"bearer":                  {set("Authorization", "Bearer "+adminToken), 200},
		"another bearer":          {set("Authorization", "Bearer "+adminToken+"x"), 401},
		"empty bearer":            {set("Authorization", "Bearer "), 401},
		"password":                {basic("", adminToken), 200},
		"password of any name":    {basic("cadey", adminToken), 200},
		"as the name":             {basic(adminToken, ""), 401},
		"empty password":          {basic("cadey", ""), 401},
		"the token as a cookie":   {cookie(adminToken), 401},
		"an empty cookie":         {cookie(""), 401},
		"the cookie":              {cookie(s.cookieValue()), 200},
		"the cookie beside a bad": {func(r *http.Request) { basic("x", "y")(r); cookie(s.cookieValue())(r) }, 200},
	} {
		if w := adminAsk(s, "/metrics", c.edit); w.Code != c.want || (w.Code == 401) != (w.Header().Get("WWW-Authenticate") != "") {
			t.Errorf("%s: %d, %v, want %d", name, w.Code, w.Header(), c.want)
		}
	}

	w := adminAsk(s, "/v1/history?limit=5&token="+strings.ReplaceAll(adminToken, " ", "+"), nil)
	if w.Code != 303 || w.Header().Get("Location") != "/v1/history?limit=5" {
		t.Errorf("?token=: %d to %q, want 303 to the same path without it", w.Code, w.Header().Get("Location"))
	}
	set := w.Header().Get("Set-Cookie")
	for _, want := range []string{"HttpOnly", "SameSite=Strict", "Path=/"} {
		if !strings.Contains(set, want) {
			t.Errorf("the cookie %q has no %s", set, want)
		}
	}
	if strings.Contains(set, adminToken) || strings.Contains(set, "Max-Age") || strings.Contains(set, "Expires") {
		t.Errorf("the cookie %q holds the token, or outlives the browser", set)
	}
	res := http.Response{Header: w.Header()}
	if w := adminAsk(s, "/metrics", cookie(res.Cookies()[0].Value)); w.Code != 200 {
		t.Errorf("with the cookie that was set: %d", w.Code)
	}

	right := "token=" + strings.ReplaceAll(adminToken, " ", "+")
	for query, want := range map[string]int{
		"token=x": 401, "token=": 401, right + "&" + right: 401, right + "&token=x": 401, "TOKEN" + right[5:]: 401,
	} {
		if w := adminAsk(s, "/metrics?"+query, nil); w.Code != want || w.Header().Get("Set-Cookie") != "" {
			t.Errorf("?%s: %d, %v, want %d and no cookie", query, w.Code, w.Header(), want)
		}
	}
	if w := adminAsk(s, "/x?"+right, func(r *http.Request) { r.Method = "POST" }); w.Code != 401 {
		t.Errorf("POST with ?token=: %d, want 401", w.Code)
	}
	for _, path := range []string{"//evil.example/x", `/\evil.example/x`, "///evil.example"} {
		r := httptest.NewRequest("GET", "http://localhost:8081/", nil)
		r.URL.Path, r.URL.RawQuery = path, right
		w := ask(s.Admin(), r)
		if to := w.Header().Get("Location"); w.Code != 303 || strings.HasPrefix(to, "//") || strings.HasPrefix(to, `/\`) || !strings.HasPrefix(to, "/") {
			t.Errorf("%s: %d to %q, which leads elsewhere", path, w.Code, to)
		}
	}
	if w := adminAsk(s, "/?"+right, func(r *http.Request) { r.Host = "evil.example" }); w.Code != 421 || w.Header().Get("Set-Cookie") != "" {
		t.Errorf("?token= by another host's name: %d, %v", w.Code, w.Header())
	}
	if w := adminAsk(s, "/readyz", nil); w.Code != 200 {
		t.Errorf("/readyz without the token: %d", w.Code)
	}
	if strings.Contains(log.String(), "token of") {
		t.Errorf("the token is in the log:\n%s", &log)
	}
}

func TestAdminFailsClosed(t *testing.T) {
	s, _ := newServer(t, Config{})
	for _, edit := range []func(*http.Request){nil, set("Authorization", "Bearer "), func(r *http.Request) { r.SetBasicAuth("", "") },
		func(r *http.Request) { r.AddCookie(&http.Cookie{Name: adminCookie, Value: s.cookieValue()}) }} {
		if w := adminAsk(s, "/metrics", edit); edit == nil && w.Code != 401 || w.Code == 200 {
			t.Errorf("without a token: %d, want 401", w.Code)
		}
	}
	s, _ = newServer(t, Config{AdminOpen: true})
	if w := adminAsk(s, "/metrics", nil); w.Code != 200 {
		t.Errorf("open: %d", w.Code)
	}
}

func TestAdminPage(t *testing.T) {
	if got := AdminPage("127.0.0.1:8081", "a b"); got != "http://127.0.0.1:8081/?token=a+b" {
		t.Errorf("AdminPage = %q", got)
	}
	if got := AdminPage("[::1]:8081", ""); got != "http://[::1]:8081/" {
		t.Errorf("AdminPage without a token = %q", got)
	}
}
