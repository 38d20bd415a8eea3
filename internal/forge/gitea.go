package forge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// A giteaAPI is that of Forgejo and Gitea: see /api/swagger of each.
type giteaAPI struct {
	web         *web
	owner, name string
}

func (g *giteaAPI) path(rest string) string {
	return "repos/" + url.PathEscape(g.owner) + "/" + url.PathEscape(g.name) + rest
}

// setStatus is POST /repos/{owner}/{repo}/statuses/{sha}, of CreateStatusOption.
func (g *giteaAPI) setStatus(ctx context.Context, commit string, s Status) error {
	body := map[string]string{"state": string(s.State), "description": s.Description, "context": s.Context}
	if s.URL != "" {
		body["target_url"] = s.URL
	}
	return g.web.ask(ctx, http.MethodPost, g.path("/statuses/"+url.PathEscape(commit)), body, nil)
}

// A giteaEnd is one side of a pull request.
type giteaEnd struct {
	Ref    string `json:"ref"`
	SHA    string `json:"sha"`
	RepoID int64  `json:"repo_id"`
}

func (g *giteaAPI) requests(ctx context.Context, branch string) ([]Request, error) {
	var prs []struct {
		Number int      `json:"number"`
		Head   giteaEnd `json:"head"`
		Base   giteaEnd `json:"base"`
	}
	if err := g.web.ask(ctx, http.MethodGet, g.path(fmt.Sprintf("/pulls?state=open&sort=recentupdate&limit=%d", maxRequests)), nil, &prs); err != nil {
		return nil, err
	}

	var all []Request
	for _, pr := range prs {
		if pr.Base.Ref == branch {
			isOurs := pr.Head.RepoID != 0 && pr.Head.RepoID == pr.Base.RepoID
			all = append(all, Request{Number: pr.Number, Head: pr.Head.SHA, Branch: pr.Head.Ref, IsFork: !isOurs})
		}
	}
	return all, nil
}

func (g *giteaAPI) merged(ctx context.Context, commit string) ([]int, error) {
	var pr struct {
		Number int  `json:"number"`
		Merged bool `json:"merged"`
	}
	err := g.web.ask(ctx, http.MethodGet, g.path("/commits/"+url.PathEscape(commit)+"/pull"), nil, &pr)
	var said *APIError
	if errors.As(err, &said) && said.Code == http.StatusNotFound { // no request brought it
		return nil, nil
	}
	if err != nil || !pr.Merged {
		return nil, err
	}
	return []int{pr.Number}, nil
}

func (g *giteaAPI) isPublic(ctx context.Context) (bool, error) {
	var repo struct {
		Private  bool `json:"private"`
		Internal bool `json:"internal"`
	}
	err := g.web.ask(ctx, http.MethodGet, g.path(""), nil, &repo)
	return !repo.Private && !repo.Internal, err
}

// A note is a comment, here and on GitLab.
type note struct {
	ID   int64  `json:"id"`
	Body string `json:"body"`
}

func findNote(notes []note, marker string) int64 {
	for _, n := range notes {
		if strings.HasPrefix(n.Body, marker) {
			return n.ID
		}
	}
	return 0
}

func (g *giteaAPI) findComment(ctx context.Context, number int, marker string) (int64, error) {
	var notes []note // all of them: the list has no pages
	err := g.web.ask(ctx, http.MethodGet, g.path(fmt.Sprintf("/issues/%d/comments", number)), nil, &notes)
	return findNote(notes, marker), err
}

func (g *giteaAPI) addComment(ctx context.Context, number int, text string) (int64, error) {
	var n note
	err := g.web.ask(ctx, http.MethodPost, g.path(fmt.Sprintf("/issues/%d/comments", number)), map[string]string{"body": text}, &n)
	return n.ID, err
}

func (g *giteaAPI) editComment(ctx context.Context, _ int, id int64, text string) error {
	return g.web.ask(ctx, http.MethodPatch, g.path(fmt.Sprintf("/issues/comments/%d", id)), map[string]string{"body": text}, nil)
}
