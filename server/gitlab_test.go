package server

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const gitlabBody = `{"object_kind":"push","ref":"refs/heads/main","before":"x","after":"` + someCommit + `","project":{"path_with_namespace":"group/within/hexagone"},"commits":[{"id":"x"}]}`

// gitlabDelivery sends a delivery as GitLab does, with any tokens.
func gitlabDelivery(s *Server, event, body string, tokens ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/v1/webhook", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Gitlab-Event", event)
	r.Header["X-Gitlab-Token"] = tokens
	w := httptest.NewRecorder()
	s.Public().ServeHTTP(w, r)
	return w
}

func TestGitLab(t *testing.T) {
	asked := 0
	s, b := newServer(t, Config{Forge: "gitlab", Repo: "within/hexagone", Requests: func() { asked++ }})
	for _, c := range []struct {
		event, body, want string
		code              int
	}{
		{"Push Hook", gitlabBody, "looking at main", 202},
		{"Push Hook", strings.Replace(gitlabBody, "main", "other", 1), "is not the branch", 200},
		{"Push Hook", strings.Replace(gitlabBody, "within", "elsewhere", 1), "this is not the repo", 200},
		{"Tag Push Hook", gitlabBody, "is no push", 200},
		{"Merge Request Hook", `{"object_kind":"merge_request","project":{"path_with_namespace":"within/hexagone"}}`, "looking at the requests", 200},
		{"Merge Request Hook", `{"object_kind":"merge_request","project":{"path_with_namespace":"elsewhere/hexagone"}}`, "is no push", 200},
		{"Push Hook", `null`, "is not the JSON", 400},
		{"Push Hook", `{"project":"x"}`, "is not the JSON", 400},
	} {
		w := gitlabDelivery(s, c.event, c.body, string(secret))
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s %.60s: %d %s, want %d with %q", c.event, c.body, w.Code, w.Body, c.code, c.want)
		}
	}
	if b.rung() != 1 || asked != 1 {
		t.Errorf("rung %d times and asked %d times, want once each", b.rung(), asked)
	}
}

// A token that is not right is counted like a signature that is not, and nothing of the body is read.
func TestGitLabToken(t *testing.T) {
	s, b := newServer(t, Config{Forge: "gitlab"})
	right := string(secret)
	for _, tokens := range [][]string{nil, {""}, {right[1:]}, {right + "x"}, {strings.ToUpper(right)}, {right, right}, {"x", right}} {
		if w := gitlabDelivery(s, "Push Hook", gitlabBody, tokens...); w.Code != 401 {
			t.Errorf("tokens %q: %d, want 401", tokens, w.Code)
		}
	}
	if n, _ := s.Strangers(); n != 7 || b.rung() != 0 {
		t.Errorf("%d strangers, rung %d times, want 7 and never", n, b.rung())
	}
}

// GitLab's token opens nothing where another forge is set, and a signature of GitHub's nothing at GitLab.
func TestForgesAreNotMixed(t *testing.T) {
	s, b := newServer(t, Config{})
	if w := gitlabDelivery(s, "Push Hook", gitlabBody, string(secret)); w.Code != 401 {
		t.Errorf("GitLab's token at GitHub's webhook: %d, want 401", w.Code)
	}

	s, _ = newServer(t, Config{Forge: "gitlab"})
	r := httptest.NewRequest(http.MethodPost, "/v1/webhook", strings.NewReader(push))
	r.Header.Set("X-Hub-Signature-256", sign(secret, []byte(push)))
	w := httptest.NewRecorder()
	s.Public().ServeHTTP(w, r)
	if w.Code != 401 || b.rung() != 0 {
		t.Errorf("GitHub's signature at GitLab's webhook: %d, want 401", w.Code)
	}
}

func TestPullRequestEvent(t *testing.T) {
	asked := 0
	s, b := newServer(t, Config{Repo: "within/hexagone", Requests: func() { asked++ }})
	body := `{"action":"opened","number":1,"repository":{"full_name":"within/hexagone"}}`
	r := httptest.NewRequest(http.MethodPost, "/v1/webhook", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-GitHub-Event", "pull_request")
	r.Header.Set("X-Hub-Signature-256", sign(secret, []byte(body)))
	w := httptest.NewRecorder()
	s.Public().ServeHTTP(w, r)
	if w.Code != 200 || asked != 1 || b.rung() != 0 || !strings.Contains(w.Body.String(), "looking at the requests") {
		t.Errorf("a pull request: %d %s, asked %d, rung %d", w.Code, w.Body, asked, b.rung())
	}
}
