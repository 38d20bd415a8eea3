package fakeforge_test

import (
	"net/http"
	"strings"
	"testing"

	"bellhop/internal/forge/fakeforge"
)

// What a forge does not document is refused and kept as a fault; what it documents is neither.
func TestOnlyDocumentedRequests(t *testing.T) {
	const commit = "0123456789012345678901234567890123456789"
	github, gitea, gitlab := "/repos/cadey/hexagone", "/api/v1/repos/cadey/hexagone", "/api/v4/projects/cadey%2Fhexagone"
	for _, c := range []struct {
		name, kind, method, path, body string
		fault                          string // "": none
	}{
		{"status", "github", "POST", github + "/statuses/" + commit, `{"state":"success","context":"c","description":"d"}`, ""},
		{"state of another forge", "github", "POST", github + "/statuses/" + commit, `{"state":"failed","context":"c","description":"d"}`, "state"},
		{"unknown field", "github", "POST", github + "/statuses/" + commit, `{"state":"success","context":"c","description":"d","name":"n"}`, "name"},
		{"long description", "github", "POST", github + "/statuses/" + commit, `{"state":"success","context":"c","description":"` + strings.Repeat("x", 141) + `"}`, "description"},
		{"number for a text", "github", "POST", github + "/statuses/" + commit, `{"state":"success","context":7,"description":"d"}`, "context"},
		{"no body", "github", "POST", github + "/statuses/" + commit, ``, "no JSON"},
		{"deployment without a ref", "github", "POST", github + "/deployments", `{"auto_merge":false,"required_contexts":[]}`, "ref"},
		{"unknown query", "github", "GET", github + "/pulls?state=open&base=main&limit=5", ``, "limit"},
		{"page too large", "github", "GET", github + "/pulls?state=open&base=main&per_page=101", ``, "per_page"},
		{"twice in the query", "github", "GET", github + "/pulls?state=open&state=open&base=main", ``, "state"},
		{"body where none is documented", "github", "GET", github, `{}`, "none is documented"},
		{"unknown request", "github", "DELETE", github + "/issues/comments/1", ``, "no such request"},
		{"other way", "gitlab", "PATCH", gitlab + "/merge_requests/1/notes/1", `{"body":"b"}`, "no such request"},
		{"status", "gitlab", "POST", gitlab + "/statuses/" + commit, `{"state":"failed","name":"n","description":"d"}`, ""},
		{"state of another forge", "gitlab", "POST", gitlab + "/statuses/" + commit, `{"state":"failure","name":"n","description":"d"}`, "state"},
		{"long address", "gitlab", "POST", gitlab + "/statuses/" + commit, `{"state":"failed","name":"n","description":"d","target_url":"http://` + strings.Repeat("x", 255) + `"}`, "target_url"},
		{"comment", "forgejo", "POST", gitea + "/issues/1/comments", `{"body":"b"}`, ""},
		{"comment without a body", "forgejo", "POST", gitea + "/issues/1/comments", `{}`, "body"},
		{"state that Forgejo has not", "forgejo", "POST", gitea + "/statuses/" + commit, `{"state":"skipped","context":"c","description":"d"}`, "state"},
		{"sort of GitHub", "gitea", "GET", gitea + "/pulls?state=open&sort=updated", ``, "sort"},
	} {
		t.Run(c.kind+" "+c.name, func(t *testing.T) {
			f := fakeforge.New(c.kind)
			defer f.Close()

			r, err := http.NewRequestWithContext(t.Context(), c.method, f.URL+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			switch c.kind {
			case "github":
				r.Header.Set("Authorization", "Bearer "+fakeforge.Token)
			case "gitlab":
				r.Header.Set("PRIVATE-TOKEN", fakeforge.Token)
			default:
				r.Header.Set("Authorization", "token "+fakeforge.Token)
			}

			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()

			faults := strings.Join(f.Faults(), "\n")
			isTaken := answer.StatusCode/100 == 2
			switch {
			case c.fault == "" && (!isTaken || faults != ""):
				t.Errorf("answered %d, faults %q; want it taken", answer.StatusCode, faults)
			case c.fault != "" && isTaken:
				t.Errorf("answered %d; want it refused", answer.StatusCode)
			case !strings.Contains(faults, c.fault):
				t.Errorf("faults %q; want one of %q", faults, c.fault)
			}
		})
	}
}
