package fakeforge

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A Request is an open pull request, or merge request, into main.
type Request struct {
	Head, Branch string
	IsFork       bool
	IsAGit       bool   // it was pushed to refs/for of Gitea or Forgejo, which asks for no right to push
	Into         string // "": main. GitHub and GitLab list those into main alone
	Body         string // what its author wrote
	Merged       string // commit that it brought, when it is not open any more
}

// A Comment is one of a request.
type Comment struct {
	ID     int64
	Number int
	Body   string
	Theirs bool // somebody else wrote it: who may write to the repo can edit it all the same
	Edits  int
}

// Open opens a request, or moves its head.
func (f *Forge) Open(number int, r Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open[number] = r
}

// CloseRequest closes a request.
func (f *Forge) CloseRequest(number int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, number)
}

// Private makes the repo one that not everybody can read.
func (f *Forge) Private() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.private = true
}

// Say adds a comment of somebody else.
func (f *Forge) Say(number int, body string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.comments = append(f.comments, &Comment{ID: int64(len(f.comments) + 1), Number: number, Body: body, Theirs: true})
}

// Comments are those of a request.
func (f *Forge) Comments(number int) []Comment {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []Comment
	for _, c := range f.comments {
		if c.Number == number {
			all = append(all, *c)
		}
	}
	return all
}

// paths of requests and comments, by kind of forge.
var (
	listPath = map[string]string{"github": "/pulls", "forgejo": "/pulls", "gitea": "/pulls", "gitlab": "/merge_requests"}
	ofPath   = map[string]*regexp.Regexp{
		"github": regexp.MustCompile(`^/issues/([0-9]+)/comments$`), "forgejo": regexp.MustCompile(`^/issues/([0-9]+)/comments$`),
		"gitea": regexp.MustCompile(`^/issues/([0-9]+)/comments$`), "gitlab": regexp.MustCompile(`^/merge_requests/([0-9]+)/notes$`),
	}
	onePath = map[string]*regexp.Regexp{
		"github": regexp.MustCompile(`^/issues/comments/([0-9]+)$`), "forgejo": regexp.MustCompile(`^/issues/comments/([0-9]+)$`),
		"gitea": regexp.MustCompile(`^/issues/comments/([0-9]+)$`), "gitlab": regexp.MustCompile(`^/merge_requests/[0-9]+/notes/([0-9]+)$`),
	}
	editMethod = map[string]string{"github": "PATCH", "forgejo": "PATCH", "gitea": "PATCH", "gitlab": "PUT"}
)

func (f *Forge) answerRequests(r *http.Request, path string) (code int, answer any, err error, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()

	isGet := r.Method == http.MethodGet
	if commit, of, ok := f.mergedPath(path); ok && isGet {
		code, answer := f.mergedBy(commit, of)
		return code, answer, nil, true
	}

	of, one := ofPath[f.kind].FindStringSubmatch(path), onePath[f.kind].FindStringSubmatch(path)
	switch {
	case path == "" && isGet:
		visibility := "public"
		if f.private {
			visibility = "private"
		}
		return 200, map[string]any{"id": 7, "private": f.private, "visibility": visibility}, nil, true
	case path == listPath[f.kind] && isGet:
		answer, err = f.list(r)
		return 200, answer, err, true
	case of != nil && isGet:
		n, _ := strconv.Atoi(of[1])
		return 200, f.notes(n), nil, true
	case of != nil && r.Method == http.MethodPost:
		n, _ := strconv.Atoi(of[1])
		code, answer, err = f.add(r, n)
		return code, answer, err, true
	case one != nil && r.Method == editMethod[f.kind]:
		id, _ := strconv.ParseInt(one[1], 10, 64)
		code, answer, err = f.edit(r, id)
		return code, answer, err, true
	}

	return 0, nil, nil, false
}

// list are the open requests, each as the forge words it.
func (f *Forge) list(r *http.Request) (any, error) {
	want := map[string][2]string{"github": {"open", "main"}, "forgejo": {"open", ""}, "gitea": {"open", ""}, "gitlab": {"opened", "main"}}[f.kind]
	q := r.URL.Query()
	if q.Get("state") != want[0] || q.Get("base")+q.Get("target_branch") != want[1] {
		return nil, fmt.Errorf("the query %q asks for other requests", r.URL.RawQuery)
	}

	all := []any{}
	for _, number := range slices.Backward(slices.Sorted(maps.Keys(f.open))) { // that of the highest number changed last
		one := f.open[number]
		isListed := one.Merged == "" && (one.Into == "" || want[1] == "")
		if isListed {
			all = append(all, one.answer(number))
		}
	}
	return page(all, q, f.kind)
}

// answer is a request in the words of each forge: go-github's PullRequest with its PullRequestBranch, PullRequest and
// PRBranchInfo of Forgejo's and Gitea's modules/structs, and https://docs.gitlab.com/api/merge_requests/#list-project-merge-requests.
func (one Request) answer(number int) any {
	head, label, ref := 7, one.Branch, one.Branch
	if one.IsFork {
		head = 8
	}
	if one.IsAGit {
		label, ref = "", fmt.Sprintf("refs/pull/%d/head", number)
	}

	end := func(label, ref, sha string, repo int) map[string]any {
		return map[string]any{"label": label, "ref": ref, "sha": sha, "repo_id": repo, "repo": map[string]any{"id": repo}}
	}
	into := cmp.Or(one.Into, "main")
	return map[string]any{
		"number": number, "iid": number, "sha": one.Head, "body": one.Body, "description": one.Body, "source_branch": one.Branch, "source_project_id": head, "target_project_id": 7,
		"head": end(label, ref, one.Head, head), "base": end(into, into, strings.Repeat("0", 40), 7),
	}
}

// page is the part of a list that a query asks for. Gitea and Forgejo give at most 30 to a page here, as their admins may set.
func page(all []any, q url.Values, kind string) ([]any, error) {
	size, err := strconv.Atoi(cmp.Or(q.Get("per_page"), q.Get("limit"), "30"))
	n, perr := strconv.Atoi(cmp.Or(q.Get("page"), "1"))
	isInRange := n >= 1 && size >= 1 && size <= 100
	if err != nil || perr != nil || !isInRange {
		return nil, fmt.Errorf("the query asks for page %s of %s", q.Get("page"), q.Get("per_page"))
	}
	if kind == "gitea" || kind == "forgejo" {
		size = min(size, 30)
	}

	from := min((n-1)*size, len(all))
	return all[from:min(from+size, len(all))], nil
}

func (f *Forge) notes(number int) any {
	all := []any{}
	for _, c := range f.comments {
		if c.Number == number {
			user := f.me()
			if c.Theirs {
				user = userOf(f.kind, 2, "stranger")
			}
			author := map[string]string{"gitlab": "author"}[f.kind]
			all = append(all, map[string]any{"id": c.ID, "body": c.Body, cmp.Or(author, "user"): user})
		}
	}
	return all
}

// me is as whom comments are written.
func (f *Forge) me() map[string]any {
	if f.app != nil {
		return userOf(f.kind, 3, appSlug+"[bot]")
	}
	return userOf(f.kind, 1, "bellhop")
}

func userOf(kind string, id int64, name string) map[string]any {
	login := map[string]string{"gitlab": "username"}[kind]
	return map[string]any{"id": id, cmp.Or(login, "login"): name}
}

// body reads the text of a comment: the one field that CreateIssueCommentOption and EditIssueCommentOption of Forgejo and
// Gitea have, and that bellhop sends of those which GitHub (https://docs.github.com/en/rest/issues/comments) and GitLab
// (https://docs.gitlab.com/api/notes/#create-new-merge-request-note) document. The limit is GitHub's; GitLab takes a million characters.
func body(r *http.Request) (string, error) {
	var in struct {
		Body *string `json:"body"`
	}
	if err := decode(r, &in); err != nil {
		return "", err
	}
	if in.Body == nil || *in.Body == "" || utf8.RuneCountInString(*in.Body) > 65_536 {
		return "", fmt.Errorf("the body is missing or too long (maximum is 65536 characters)")
	}
	return *in.Body, nil
}

func (f *Forge) add(r *http.Request, number int) (int, any, error) {
	text, err := body(r)
	if err != nil {
		return http.StatusUnprocessableEntity, nil, err
	}
	c := &Comment{ID: int64(len(f.comments) + 1), Number: number, Body: text}
	f.comments = append(f.comments, c)
	return http.StatusCreated, map[string]any{"id": c.ID, "body": c.Body}, nil
}

func (f *Forge) edit(r *http.Request, id int64) (int, any, error) {
	text, err := body(r)
	if err != nil {
		return http.StatusUnprocessableEntity, nil, err
	}
	i := slices.IndexFunc(f.comments, func(c *Comment) bool { return c.ID == id })
	if i < 0 {
		return http.StatusNotFound, nil, fmt.Errorf("no such comment")
	}
	f.comments[i].Body = text
	f.comments[i].Edits++
	return http.StatusOK, map[string]any{"id": id, "body": text}, nil
}

// mergedPath is the commit of a path that asks for the requests that brought it.
func (f *Forge) mergedPath(path string) (commit, kind string, ok bool) {
	before, after := "/commits/", "/pulls"
	switch f.kind {
	case "forgejo", "gitea":
		after = "/pull"
	case "gitlab":
		before, after = "/repository/commits/", "/merge_requests"
	}
	rest, isCommit := strings.CutPrefix(path, before)
	commit, isMerged := strings.CutSuffix(rest, after)
	return commit, f.kind, isCommit && isMerged
}

func (f *Forge) mergedBy(commit, kind string) (int, any) {
	all := []any{}
	for number, one := range f.open {
		if one.Merged == commit {
			all = append(all, map[string]any{"number": number, "iid": number, "merged": true, "state": "merged", "merged_at": "2026-01-02T03:04:05Z"})
		}
	}

	switch {
	case kind == "github" || kind == "gitlab":
		return http.StatusOK, all
	case len(all) == 0:
		return http.StatusNotFound, map[string]string{"message": "not found"}
	}

	return http.StatusOK, all[0]
}
