// Package fakeforge is a forge in memory: the part of the APIs of GitHub, Forgejo and GitLab that bellhop uses.
//
// It is as strict as the forges document: a request that is not in schemas/ (the forges' own documents, as JSON Schema), a field
// that they do not know, a value that they do not take, or a text that is too long is answered with an error and kept as a
// fault. Nothing is sent anywhere.
package fakeforge

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// Token is what requests must log in with.
const Token = "token-of-the-fake-forge"

// A Status is one that was set.
type Status struct {
	Commit, State, Description, URL, Context string
}

// A Forge is one forge with one repo, cadey/hexagone. Make it with New.
type Forge struct {
	// Answer is asked before a request is looked at: an HTTP status above 0 is answered in place of it. Nil: none is.
	Answer func(r *http.Request) int

	*httptest.Server
	kind       string
	operations []operation // that it documents

	mu       sync.Mutex
	statuses []Status
	faults   []string
	requests int
	open     map[int]Request
	comments []*Comment
	private  bool
	deploys  []*Deployment
	app      *app // nil: none is installed
	making   appMaking
}

// New starts a forge: github, forgejo, gitea or gitlab.
func New(kind string) *Forge {
	operations, err := documented(kind)
	if err != nil {
		panic(err) // a schema of this package is wrong
	}
	f := &Forge{kind: kind, operations: operations, open: map[int]Request{}}
	f.Server = httptest.NewServer(f)
	return f
}

// Repo is the repo that the forge has.
const Repo = "cadey/hexagone"

// API is the base of the API.
func (f *Forge) API() string {
	switch f.kind {
	case "github":
		return f.URL
	case "gitlab":
		return f.URL + "/api/v4"
	}
	return f.URL + "/api/v1"
}

// Statuses are all that were set, in their order.
func (f *Forge) Statuses() []Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.statuses)
}

// Last is the newest state of a commit; "" when none was set.
func (f *Forge) Last(commit string) Status {
	for _, s := range slices.Backward(f.Statuses()) {
		if s.Commit == commit {
			return s
		}
	}
	return Status{}
}

// Faults are requests that a forge would not have taken.
func (f *Forge) Faults() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.faults)
}

// Requests counts all that came.
func (f *Forge) Requests() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

// ServeHTTP answers as the forge does.
func (f *Forge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.requests++
	f.mu.Unlock()

	if f.Answer != nil {
		if code := f.Answer(r); code > 0 {
			fail(w, code, "as the test wants")
			return
		}
	}
	if err := f.checkRequest(r); err != nil {
		f.fault(r, err.Error())
		fail(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	if f.answerManifest(w, r) || f.answerApp(w, r) {
		return
	}
	if !f.isLoggedIn(r) {
		f.fault(r, "not logged in")
		fail(w, http.StatusUnauthorized, "Bad credentials")
		return
	}

	code, answer, err := f.answer(r)
	if err != nil {
		f.fault(r, err.Error())
		fail(w, code, err.Error())
		return
	}

	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(answer)
}

// checkRequest leaves out the form by which a browser makes an App: it is a page, and no part of the API.
func (f *Forge) checkRequest(r *http.Request) error {
	if newAppPath.MatchString(r.URL.Path) && f.kind == "github" {
		return nil
	}
	return f.checkDocumented(r)
}

func (f *Forge) isLoggedIn(r *http.Request) bool {
	switch f.kind {
	case "github":
		return r.Header.Get("Authorization") == "Bearer "+Token
	case "gitlab":
		return r.Header.Get("PRIVATE-TOKEN") == Token
	}
	return r.Header.Get("Authorization") == "token "+Token
}

func fail(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": text})
}

func (f *Forge) fault(r *http.Request, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, r.Method+" "+r.URL.Path+": "+text)
}

// repoPath is what follows the repo in a path; false when it is another repo.
func (f *Forge) repoPath(r *http.Request) (string, bool) {
	switch f.kind {
	case "github":
		return strings.CutPrefix(r.URL.EscapedPath(), "/repos/"+Repo)
	case "gitlab":
		return strings.CutPrefix(r.URL.EscapedPath(), "/api/v4/projects/"+strings.ReplaceAll(Repo, "/", "%2F"))
	}
	return strings.CutPrefix(r.URL.EscapedPath(), "/api/v1/repos/"+Repo)
}

func (f *Forge) answer(r *http.Request) (code int, answer any, err error) {
	if r.Method == http.MethodGet && f.URL+r.URL.Path == f.API()+"/user" {
		return f.answerUser()
	}

	path, ok := f.repoPath(r)
	if !ok {
		return http.StatusNotFound, nil, fmt.Errorf("no such repo")
	}

	if commit, ok := strings.CutPrefix(path, "/statuses/"); ok && r.Method == http.MethodPost {
		return f.setStatus(r, commit)
	}
	if code, answer, err, ok := f.answerDeployments(r, path); ok {
		return code, answer, err
	}
	if code, answer, err, ok := f.answerRequests(r, path); ok {
		return code, answer, err
	}

	return http.StatusNotFound, nil, fmt.Errorf("no such path")
}

// answerUser is who the token is, which that of an App can't ask.
func (f *Forge) answerUser() (int, any, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.app != nil {
		return http.StatusForbidden, nil, fmt.Errorf("resource not accessible by integration")
	}
	return http.StatusOK, f.me(), nil
}

var sha = regexp.MustCompile(`^[0-9a-f]{40}$`)

// statusStates are the states that each kind of forge takes. GitHub: https://docs.github.com/en/rest/commits/statuses, and
// go-github's RepoStatus. Forgejo and Gitea: CommitStatusState of modules/structs. GitLab: values of state in
// lib/api/commit_statuses.rb, and https://docs.gitlab.com/api/commits/#set-commit-pipeline-status.
var statusStates = map[string][]string{
	"github":  {"error", "failure", "pending", "success"},
	"forgejo": {"error", "failure", "pending", "success", "warning"},
	"gitea":   {"error", "failure", "pending", "success", "warning"},
	"gitlab":  {"pending", "running", "success", "failed", "canceled", "skipped"},
}

// longestURL is how long an address may be that GitLab keeps with a status: a column of 255 characters.
const longestURL = 255

// setStatus takes the fields that all three document: state, target_url and description; and context on GitHub, Forgejo and
// Gitea (CreateStatusOption), name on GitLab. What they document beside these (ref, coverage, pipeline_id on GitLab) bellhop does not send,
// so it is a fault.
func (f *Forge) setStatus(r *http.Request, commit string) (int, any, error) {
	var body struct {
		State       *string `json:"state"`
		TargetURL   *string `json:"target_url"`
		Description *string `json:"description"`
		Context     *string `json:"context"`
		Name        *string `json:"name"`
	}
	if err := decode(r, &body); err != nil {
		return http.StatusUnprocessableEntity, nil, err
	}

	context, other := body.Context, body.Name
	if f.kind == "gitlab" {
		context, other = other, context
	}

	switch {
	case !sha.MatchString(commit):
		return http.StatusUnprocessableEntity, nil, fmt.Errorf("no commit found for SHA: %s", commit)
	case body.State == nil || !slices.Contains(statusStates[f.kind], *body.State):
		return http.StatusUnprocessableEntity, nil, fmt.Errorf("state %v is none", body.State)
	case context == nil || *context == "" || len(*context) > 255:
		return http.StatusUnprocessableEntity, nil, fmt.Errorf("the context is missing or too long")
	case other != nil:
		return http.StatusUnprocessableEntity, nil, fmt.Errorf("both name and context")
	case body.Description == nil || utf8.RuneCountInString(*body.Description) > 140:
		return http.StatusUnprocessableEntity, nil, fmt.Errorf("the description is missing or too long (maximum is 140 characters)")
	case f.kind == "gitlab" && body.TargetURL != nil && utf8.RuneCountInString(*body.TargetURL) > longestURL:
		return http.StatusBadRequest, nil, fmt.Errorf("target_url is too long (maximum is 255 characters)")
	case body.TargetURL != nil && !strings.HasPrefix(*body.TargetURL, "http"):
		return http.StatusUnprocessableEntity, nil, fmt.Errorf("target_url must use http(s) scheme")
	}

	s := Status{Commit: commit, State: *body.State, Description: *body.Description, Context: *context}
	if body.TargetURL != nil {
		s.URL = *body.TargetURL
	}

	f.mu.Lock()
	defer f.mu.Unlock()
	f.statuses = append(f.statuses, s)
	return http.StatusCreated, map[string]any{"id": len(f.statuses), "state": s.State}, nil
}

// decode reads the JSON of a request: no field that is not documented, nothing behind it.
func decode(r *http.Request, into any) error {
	if kind := r.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/json") {
		return fmt.Errorf("content type %q", kind)
	}

	d := json.NewDecoder(io.LimitReader(r.Body, 1<<20))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("more than one JSON value")
	}

	return nil
}
