package forge_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"bellhop/internal/forge"
	"bellhop/internal/forge/rest"
)

// An answer is one that a forge gives in place of what was asked, and what a person is to hear of it.
type answer struct {
	what string
	kind forge.Kind
	code int
	head map[string]string
	body string

	text    string        // that the error has
	right   string        // that the token lacks
	atLeast time.Duration // that is waited
	alone   bool          // other commits and requests are gone on with
}

// answers are errors as the forges word them.
//
// GitHub: https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api and
// .../rate-limits-for-the-rest-api; the shapes are those that go-github decodes (ErrorResponse, RateLimitError, AbuseRateLimitError).
// Forgejo and Gitea: modules/context/api.go and routers/api/v1/api.go there (APIError, tokenRequiresScopes).
// GitLab: https://docs.gitlab.com/api/rest/troubleshooting, https://docs.gitlab.com/security/rate_limits and lib/api/helpers.rb there.
var answers = []answer{
	{what: "a wrong token", kind: forge.GitHub, code: 401, body: `{"message":"Bad credentials","documentation_url":"https://docs.github.com/rest"}`, text: "Bad credentials"},
	{what: "a wrong token", kind: forge.Forgejo, code: 401, body: `{"message":"user does not exist [uid: 0, name: ]","url":"https://git.lan/api/swagger"}`, text: "user does not exist"},
	{what: "a wrong token", kind: forge.GitLab, code: 401, body: `{"message":"401 Unauthorized"}`, text: "401 Unauthorized"},
	{what: "an expired token", kind: forge.GitLab, code: 401, body: `{"error":"invalid_token","error_description":"Token is expired. You can either do re-authorization or token refresh."}`, text: "invalid_token"},

	{what: "a token without the right", kind: forge.GitHub, code: 403, head: map[string]string{"X-Accepted-GitHub-Permissions": "statuses=write"},
		body: `{"message":"Resource not accessible by personal access token"}`, text: "not accessible", right: "statuses=write"},
	{what: "a classic token without the scope", kind: forge.GitHub, code: 404, head: map[string]string{"X-OAuth-Scopes": "read:user", "X-Accepted-OAuth-Scopes": "repo, repo:status"},
		body: `{"message":"Not Found"}`, text: "Not Found", right: "one of the scopes repo, repo:status", alone: true},
	{what: "a token without the scope", kind: forge.Forgejo, code: 403, body: `{"message":"token does not have at least one of required scope(s): [write:repository]","url":"https://git.lan/api/swagger"}`, text: "write:repository"},
	{what: "a token without the scope", kind: forge.GitLab, code: 403, body: `{"error":"insufficient_scope","error_description":"The request requires higher privileges than provided by the access token.","scope":"api"}`,
		text: "insufficient_scope", right: "the scope api"},
	{what: "a member who may not push", kind: forge.GitLab, code: 403, body: `{"message":"403 Forbidden"}`, text: "403 Forbidden"},

	{what: "a repo that the token can't see", kind: forge.GitHub, code: 404, body: `{"message":"Not Found","documentation_url":"https://docs.github.com/rest"}`, text: "Not Found", alone: true},
	{what: "a repo that the token can't see", kind: forge.Gitea, code: 404, body: `{"message":"The target couldn't be found.","url":"https://git.lan/api/swagger","errors":[]}`, text: "couldn't be found", alone: true},
	{what: "a repo that the token can't see", kind: forge.GitLab, code: 404, body: `{"message":"404 Project Not Found"}`, text: "404 Project Not Found", alone: true},

	{what: "a status too many", kind: forge.GitHub, code: 422, body: `{"message":"Validation Failed","errors":[{"resource":"Status","code":"custom","message":"This SHA and context has reached the maximum number of statuses."}]}`,
		text: "Validation Failed; This SHA and context has reached", alone: true},
	{what: "a field that is wrong", kind: forge.GitHub, code: 422, body: `{"message":"Validation Failed","errors":[{"resource":"IssueComment","field":"body","code":"missing_field"}]}`, text: "body is missing_field", alone: true},
	{what: "a field that is wrong", kind: forge.Forgejo, code: 422, body: `{"message":"[Body]: Required","url":"https://git.lan/api/swagger"}`, text: "[Body]: Required", alone: true},
	{what: "a field that is wrong", kind: forge.GitLab, code: 400, body: `{"message":{"target_url":["is too long (maximum is 255 characters)"]}}`, text: "too long (maximum is 255 characters)", alone: true},

	{what: "the rate limit", kind: forge.GitHub, code: 403, head: map[string]string{"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "in 1200"},
		body: `{"message":"API rate limit exceeded for user ID 1."}`, text: "rate limit", atLeast: 19 * time.Minute},
	{what: "the rate limit, by its other code", kind: forge.GitHub, code: 429, head: map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "in 1200"},
		body: `{"message":"API rate limit exceeded for user ID 1."}`, text: "rate limit", atLeast: 19 * time.Minute},
	{what: "the secondary rate limit", kind: forge.GitHub, code: 403, head: map[string]string{"Retry-After": "90"},
		body: `{"message":"You have exceeded a secondary rate limit.","documentation_url":"https://docs.github.com/rest/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits"}`, text: "secondary rate limit", atLeast: 90 * time.Second},
	{what: "the secondary rate limit that does not say for how long", kind: forge.GitHub, code: 403,
		body: `{"message":"You have exceeded a secondary rate limit.","documentation_url":"https://docs.github.com/rest/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits"}`, text: "secondary rate limit", atLeast: time.Minute},
	{what: "the secondary rate limit by its other code", kind: forge.GitHub, code: 429, body: `{"message":"You have exceeded a secondary rate limit."}`, text: "secondary rate limit", atLeast: time.Minute},
	{what: "a rate limit", kind: forge.Forgejo, code: 429, head: map[string]string{"Retry-After": "30"}, body: "Too Many Requests", text: "429", atLeast: 30 * time.Second},
	{what: "a rate limit", kind: forge.GitLab, code: 429, head: map[string]string{"Retry-After": "45", "RateLimit-Remaining": "0", "RateLimit-Reset": "in 600"}, body: "Retry later\n", text: "429", atLeast: 9 * time.Minute},

	{what: "a server error", kind: forge.GitHub, code: 500, body: `{"message":"Server Error"}`, text: "Server Error"},
	{what: "a proxy without its forge", kind: forge.GitHub, code: 502, body: "<html><h1>502 Bad Gateway</h1></html>", text: "502 Bad Gateway"},
	{what: "a proxy without its forge", kind: forge.Gitea, code: 502, body: "<html><h1>502 Bad Gateway</h1></html>", text: "502 Bad Gateway"},
	{what: "a forge that is being upgraded", kind: forge.GitLab, code: 503, head: map[string]string{"Retry-After": "60"}, body: "<html>GitLab is not responding</html>", text: "503", atLeast: time.Minute},
}

// What a forge answers in place of taking something is told in its words, with the right that the token lacks, and decides
// what is waited for: a refused commit or request alone, or the forge.
func TestAnswersOfForges(t *testing.T) {
	var is answer
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for name, value := range is.head {
			if in, ok := strings.CutPrefix(value, "in "); ok { // seconds from now
				n, _ := strconv.Atoi(in)
				value = strconv.FormatInt(time.Now().Add(time.Duration(n)*time.Second).Unix(), 10)
			}
			w.Header().Set(name, value)
		}
		if strings.HasPrefix(is.body, "{") {
			w.Header().Set("Content-Type", "application/json")
		}
		w.WriteHeader(is.code)
		_, _ = io.WriteString(w, is.body)
	}))
	defer s.Close()

	for _, is = range answers {
		for what, ask := range map[string]func(c *forge.Client) error{
			"a status": func(c *forge.Client) error {
				return c.SetStatus(t.Context(), commit, forge.Status{State: forge.Success, Context: "bellhop/hexagone"})
			},
			"an edit of a comment": func(c *forge.Client) error {
				_, err := c.Comment(t.Context(), 3, 5, "<!-- mark -->", "text")
				return err
			},
			"the list of requests": func(c *forge.Client) error {
				_, _, err := c.Requests(t.Context(), "main", false)
				return err
			},
		} {
			err := ask(client(t, is.kind, s.URL))
			var said *rest.Error
			if !errors.As(err, &said) {
				t.Errorf("%s: %s: %s: %v, want the forge's answer", is.kind, is.what, what, err)
				continue
			}
			if said.Code != is.code || !strings.Contains(err.Error(), is.text) || said.Right != is.right {
				t.Errorf("%s: %s: %s: %q with the right %q, want %d with %q and %q", is.kind, is.what, what, err, said.Right, is.code, is.text, is.right)
			}
			if said.After < is.atLeast || said.IsOfOneCommit() != is.alone {
				t.Errorf("%s: %s: %s: waits %v, alone is %v, want %v and %v", is.kind, is.what, what, said.After, said.IsOfOneCommit(), is.atLeast, is.alone)
			}
		}
	}
}
