package forge_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"bellhop/internal/forge"
	"bellhop/internal/forge/fakeforge"
	"bellhop/internal/forge/rest"
)

const commit = "0123456789abcdef0123456789abcdef01234567"

// client is one of a fake forge, or of any other address.
func client(t *testing.T, kind forge.Kind, url string) *forge.Client {
	t.Helper()
	c, err := forge.New(forge.Config{Kind: kind, URL: url, Repo: fakeforge.Repo, Token: func() (string, error) { return fakeforge.Token, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestStatusOnEachForge(t *testing.T) {
	gitlab := map[forge.State]string{forge.Pending: "running", forge.Success: "success", forge.Failure: "failed", forge.Error: "canceled"}
	for _, kind := range []forge.Kind{forge.GitHub, forge.Forgejo, forge.Gitea, forge.GitLab} {
		f := fakeforge.New(string(kind))
		defer f.Close()
		c := client(t, kind, f.API())

		for _, state := range []forge.State{forge.Pending, forge.Success, forge.Failure, forge.Error} {
			s := forge.Status{State: state, Description: "2 of 3 hosts changed", Context: "bellhop/hexagone", URL: "https://b.example.org/runs/r1"}
			if err := c.SetStatus(t.Context(), commit, s); err != nil {
				t.Errorf("%s: %s: %v", kind, state, err)
			}

			want := fakeforge.Status{Commit: commit, State: string(state), Description: s.Description, Context: s.Context, URL: s.URL}
			if kind == forge.GitLab {
				want.State = gitlab[state]
			}
			if got := f.Last(commit); got != want {
				t.Errorf("%s was told %+v, want %+v", kind, got, want)
			}
		}
		for what, url := range map[string]string{"without a page": "", "with a long address": "https://b.example.org/" + strings.Repeat("x", 300)} {
			if err := c.SetStatus(t.Context(), commit, forge.Status{State: forge.Success, Context: "bellhop/hexagone", URL: url}); err != nil {
				t.Errorf("%s: %s: %v", kind, what, err)
			}
		}
		if faults := f.Faults(); len(faults) > 0 {
			t.Errorf("%s: requests that it does not take: %q", kind, faults)
		}
	}
}

// GitLab refuses to set the state that a status has: that is no error, since nothing is to be tried again.
func TestGitLabKnowsTheState(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"message":"Cannot transition status via :run from :running (Reason(s): Status cannot transition via \"run\")"}`)
	}))
	defer s.Close()
	if err := client(t, forge.GitLab, s.URL).SetStatus(t.Context(), commit, forge.Status{State: forge.Pending}); err != nil {
		t.Errorf("SetStatus: %v, want none", err)
	}
}

// A request that is sent on to another host takes neither the token nor the status there.
func TestNoRedirectToAnotherHost(t *testing.T) {
	asked := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer other.Close()
	for _, kind := range []forge.Kind{forge.GitHub, forge.Gitea, forge.GitLab} {
		for _, code := range []int{301, 302, 307, 308} {
			s := httptest.NewServer(http.RedirectHandler(other.URL+"/elsewhere", code))
			err := client(t, kind, s.URL).SetStatus(t.Context(), commit, forge.Status{State: forge.Pending})
			if err == nil {
				t.Errorf("%s: SetStatus answered by %d: no error", kind, code)
			}
			s.Close()
		}
	}
	if asked > 0 {
		t.Errorf("the other host was asked %d times, want never", asked)
	}
}

// A repo that was renamed is at another path of the same host, where the status is set.
func TestRedirectOnTheSameHost(t *testing.T) {
	got := ""
	mux := http.NewServeMux()
	mux.HandleFunc("POST /moved", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = r.Header.Get("Authorization") + " " + string(b)
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, "{}")
	})
	mux.Handle("/", http.RedirectHandler("/moved", http.StatusTemporaryRedirect))
	s := httptest.NewServer(mux)
	defer s.Close()

	if err := client(t, forge.GitHub, s.URL).SetStatus(t.Context(), commit, forge.Status{State: forge.Success}); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(got, "Bearer "+fakeforge.Token) || !strings.Contains(got, `"success"`) {
		t.Errorf("the new path got %q, want the token and the status", got)
	}
}

// What a forge answers is foreign: an error is one line, holds no token, and is bounded.
func TestErrorsOfAForge(t *testing.T) {
	body, header := "", http.Header{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for name, values := range header {
			w.Header()[name] = values
		}
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, body)
	}))
	defer s.Close()

	for _, kind := range []forge.Kind{forge.GitHub, forge.Forgejo, forge.GitLab} {
		c := client(t, kind, s.URL)
		for _, body = range []string{
			`{"message":"no: ` + fakeforge.Token + `\n\u001b[2J second line"}`,
			`{"message":"` + strings.Repeat("x", 10<<20) + `"}`,
			"<html>" + fakeforge.Token, "", "null", `{"message":{"a":["` + fakeforge.Token + `"]}}`,
		} {
			err := c.SetStatus(t.Context(), commit, forge.Status{State: forge.Success})
			var said *rest.Error
			if !errors.As(err, &said) || said.Code != http.StatusForbidden {
				t.Errorf("%s: %.60s: %v, want a 403", kind, body, err)
				continue
			}
			text := err.Error()
			if strings.Contains(text, fakeforge.Token) || strings.ContainsAny(text, "\n\x1b") || len(text) > 1000 {
				t.Errorf("%s: %.60s: error %q", kind, body, text)
			}
		}
	}

	body, header = `{"message":"Resource not accessible by personal access token"}`, http.Header{"X-Accepted-Github-Permissions": {"statuses=write"}}
	err := client(t, forge.GitHub, s.URL).SetStatus(t.Context(), commit, forge.Status{State: forge.Success})
	if err == nil || !strings.Contains(err.Error(), "the token needs statuses=write") {
		t.Errorf("a token without a right: %v, want the right's name", err)
	}
	body, header = `{"error":"insufficient_scope","scope":"api"}`, http.Header{}
	err = client(t, forge.GitLab, s.URL).SetStatus(t.Context(), commit, forge.Status{State: forge.Success})
	if err == nil || !strings.Contains(err.Error(), "the token needs the scope api") {
		t.Errorf("a token without a scope: %v, want its name", err)
	}
}

// An address that can't be reached is in no error with a token, and a token is never part of an address.
func TestUnreachable(t *testing.T) {
	s := httptest.NewServer(nil)
	s.Close()
	for _, kind := range []forge.Kind{forge.GitHub, forge.Gitea, forge.GitLab} {
		err := client(t, kind, s.URL).SetStatus(t.Context(), commit, forge.Status{State: forge.Success})
		if err == nil || strings.Contains(err.Error(), fakeforge.Token) {
			t.Errorf("%s: %v, want an error without the token", kind, err)
		}
	}
}

func TestRateLimit(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "90")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	defer s.Close()
	for _, kind := range []forge.Kind{forge.GitHub, forge.Forgejo, forge.GitLab} {
		err := client(t, kind, s.URL).SetStatus(t.Context(), commit, forge.Status{State: forge.Success})
		var said *rest.Error
		if !errors.As(err, &said) || said.After != 90*time.Second {
			t.Errorf("%s: %v, want an error that says to wait 90 s", kind, err)
		}
	}
}

// An edit that comes too early is tried again later: no second comment is made.
func TestRateLimitOfAComment(t *testing.T) {
	made := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			made++
		}
		w.Header().Set("Retry-After", "90")
		w.WriteHeader(http.StatusForbidden)
	}))
	defer s.Close()
	for _, kind := range []forge.Kind{forge.GitHub, forge.Forgejo, forge.GitLab} {
		for _, id := range []int64{0, 5} {
			_, err := client(t, kind, s.URL).Comment(t.Context(), 3, id, "<!-- mark -->", "text")
			var said *rest.Error
			if !errors.As(err, &said) || said.After != 90*time.Second || made > 0 {
				t.Errorf("%s: comment %d: %v, and %d made, want an error that says to wait 90 s", kind, id, err, made)
			}
		}
	}
}

func TestWhereTheForgeIs(t *testing.T) {
	for repo, want := range map[string]string{
		"git@github.com:cadey/hexagone.git":             "github https://api.github.com",
		"https://github.com/cadey/hexagone":             "github https://api.github.com",
		"ssh://git@codeberg.org/cadey/hexagone.git":     "forgejo https://codeberg.org/api/v1",
		"ssh://git@gitea.lan:2222/cadey/hexagone":       "gitea https://gitea.lan/api/v1",
		"https://forgejo.lan:3000/cadey/hexagone":       "forgejo https://forgejo.lan:3000/api/v1",
		"git@gitlab.example.org:group/sub/hexagone.git": "gitlab https://gitlab.example.org/api/v4",
		"git@git.example.org:cadey/hexagone.git":        " https://git.example.org",
		"/srv/hexagone.git":                             " ",
		"file:///srv/hexagone.git":                      " ",
		"./a:b":                                         " ",
	} {
		site, host := forge.Site(repo)
		kind := forge.Guess(host)
		got := string(kind) + " " + forge.DefaultURL(kind, site)
		if got != want {
			t.Errorf("%s: %q, want %q", repo, got, want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	token := func() (string, error) { return "", nil }
	for what, cfg := range map[string]forge.Config{
		"no scheme":   {Kind: forge.GitHub, URL: "api.github.com", Repo: "a/b", Token: token},
		"a login":     {Kind: forge.GitHub, URL: "https://x:hunter22@api.github.com", Repo: "a/b", Token: token},
		"no name":     {Kind: forge.GitHub, URL: "https://api.github.com", Repo: "a", Token: token},
		"three parts": {Kind: forge.Gitea, URL: "https://git.example.org", Repo: "a/b/c", Token: token},
		"no kind":     {Kind: "svn", URL: "https://git.example.org", Repo: "a/b", Token: token},
	} {
		_, err := forge.New(cfg)
		if err == nil || strings.Contains(err.Error(), "hunter22") {
			t.Errorf("%s: %v, want an error without the login", what, err)
		}
	}
}
