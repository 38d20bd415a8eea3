package forge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"bellhop/internal/forge/rest"
)

// A giteaAPI is that of Forgejo and Gitea: see /api/swagger of each.
type giteaAPI struct {
	web         *rest.Client
	owner, name string
}

func (g *giteaAPI) path(below string) string {
	return "repos/" + url.PathEscape(g.owner) + "/" + url.PathEscape(g.name) + below
}

// setStatus is POST /repos/{owner}/{repo}/statuses/{sha}, of CreateStatusOption.
func (g *giteaAPI) setStatus(ctx context.Context, commit string, s Status) error {
	body := map[string]string{"state": string(s.State), "description": s.Description, "context": s.Context}
	if s.URL != "" {
		body["target_url"] = s.URL
	}
	return g.web.Ask(ctx, http.MethodPost, g.path("/statuses/"+url.PathEscape(commit)), body, nil)
}

// A giteaEnd is one side of a pull request.
type giteaEnd struct {
	Label  string `json:"label"` // the branch's name; "": it is none
	Ref    string `json:"ref"`
	SHA    string `json:"sha"`
	RepoID int64  `json:"repo_id"`
}

// isOurs says that the head is a branch of the repo itself. Everybody who can read a repo can push a head to refs/for, without a
// fork (AGit): the forge then names the repo itself as the head's, with a ref in place of a branch.
func (head giteaEnd) isOurs(base giteaEnd) bool {
	isBranch := head.Label != "" && !strings.HasPrefix(head.Ref, "refs/")
	return isBranch && head.RepoID > 0 && head.RepoID == base.RepoID
}

func (g *giteaAPI) requests(ctx context.Context, branch string, page int) (some []Request, isLast bool, err error) {
	var prs []struct {
		Number int      `json:"number"`
		Head   giteaEnd `json:"head"`
		Base   giteaEnd `json:"base"`
	}

	path := fmt.Sprintf("/pulls?state=open&sort=recentupdate&limit=%d&page=%d", maxRequests, page)
	if err := g.web.Ask(ctx, http.MethodGet, g.path(path), nil, &prs); err != nil {
		return nil, false, err
	}

	for _, pr := range prs {
		if pr.Base.Ref == branch {
			some = append(some, Request{Number: pr.Number, Head: pr.Head.SHA, Branch: pr.Head.Ref, IsFork: !pr.Head.isOurs(pr.Base)})
		}
	}

	return some, len(prs) == 0, nil // a page may be shorter than was asked for: the forge has a limit of its own
}

func (g *giteaAPI) merged(ctx context.Context, commit string) ([]int, error) {
	var pr struct {
		Number int  `json:"number"`
		Merged bool `json:"merged"`
	}
	err := g.web.Ask(ctx, http.MethodGet, g.path("/commits/"+url.PathEscape(commit)+"/pull"), nil, &pr)
	var said *rest.Error
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
	err := g.web.Ask(ctx, http.MethodGet, g.path(""), nil, &repo)
	return !repo.Private && !repo.Internal, err
}

// A note is a comment, here and on GitLab.
type note struct {
	ID     int64  `json:"id"`
	Body   string `json:"body"`
	User   author `json:"user"`   // on Gitea and Forgejo
	Author author `json:"author"` // on GitLab
}

func findNote(notes []note, marker string, of author) int64 {
	for _, n := range notes {
		isTheirs := of.is(n.User) || of.is(n.Author)
		if isTheirs && strings.HasPrefix(n.Body, marker) {
			return n.ID
		}
	}
	return 0
}

func (g *giteaAPI) me(ctx context.Context) (a author, err error) {
	err = g.web.Ask(ctx, http.MethodGet, "user", nil, &a)
	return a, err
}

func (g *giteaAPI) findComment(ctx context.Context, number int, marker string, of author) (int64, error) {
	var notes []note // all of them: the list has no pages
	err := g.web.Ask(ctx, http.MethodGet, g.path(fmt.Sprintf("/issues/%d/comments", number)), nil, &notes)
	return findNote(notes, marker, of), err
}

func (g *giteaAPI) addComment(ctx context.Context, number int, text string) (int64, error) {
	var n note
	err := g.web.Ask(ctx, http.MethodPost, g.path(fmt.Sprintf("/issues/%d/comments", number)), map[string]string{"body": text}, &n)
	return n.ID, err
}

func (g *giteaAPI) editComment(ctx context.Context, _ int, id int64, text string) error {
	return g.web.Ask(ctx, http.MethodPatch, g.path(fmt.Sprintf("/issues/comments/%d", id)), map[string]string{"body": text}, nil)
}
