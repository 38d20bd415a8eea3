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

// A gitlabAPI is GitLab's.
type gitlabAPI struct {
	web     *rest.Client
	project string // with all groups
}

func (g *gitlabAPI) path(below string) string {
	return "projects/" + url.PathEscape(g.project) + below
}

// gitlabStates are the states of a status as GitLab names them. One that is not tried is "canceled" there.
var gitlabStates = map[State]string{Pending: "running", Success: "success", Failure: "failed", Error: "canceled"}

// longestLink is how long a link may be that GitLab keeps with a status. A status without its link is better than none.
const longestLink = 255

// setStatus is https://docs.gitlab.com/api/commits/#set-commit-pipeline-status. GitLab refuses to set the state that a
// status has, and to open some that ended: there is nothing to be tried again then.
func (g *gitlabAPI) setStatus(ctx context.Context, commit string, s Status) error {
	body := map[string]string{"state": gitlabStates[s.State], "description": s.Description, "name": s.Context}
	if s.URL != "" && len(s.URL) <= longestLink {
		body["target_url"] = s.URL
	}

	err := g.web.Ask(ctx, http.MethodPost, g.path("/statuses/"+url.PathEscape(commit)), body, nil)
	var said *rest.Error
	isStuck := errors.As(err, &said) && said.Code == http.StatusBadRequest && strings.Contains(said.Text, "Cannot transition status")
	if isStuck {
		return nil
	}

	return err
}

func (g *gitlabAPI) requests(ctx context.Context, branch string, page int) (some []Request, isLast bool, err error) {
	var mrs []struct {
		IID    int    `json:"iid"`
		SHA    string `json:"sha"`
		Branch string `json:"source_branch"`
		Source int64  `json:"source_project_id"`
		Target int64  `json:"target_project_id"`
	}

	path := fmt.Sprintf("/merge_requests?state=opened&target_branch=%s&order_by=updated_at&per_page=%d&page=%d", url.QueryEscape(branch), maxRequests, page)
	if err := g.web.Ask(ctx, http.MethodGet, g.path(path), nil, &mrs); err != nil {
		return nil, false, err
	}

	for _, mr := range mrs {
		isOurs := mr.Source != 0 && mr.Source == mr.Target
		some = append(some, Request{Number: mr.IID, Head: mr.SHA, Branch: mr.Branch, IsFork: !isOurs})
	}

	return some, len(mrs) < maxRequests, nil
}

func (g *gitlabAPI) merged(ctx context.Context, commit string) ([]int, error) {
	var mrs []struct {
		IID   int    `json:"iid"`
		State string `json:"state"`
	}
	if err := g.web.Ask(ctx, http.MethodGet, g.path("/repository/commits/"+url.PathEscape(commit)+"/merge_requests"), nil, &mrs); err != nil {
		return nil, err
	}

	var numbers []int
	for _, mr := range mrs {
		if mr.State == "merged" {
			numbers = append(numbers, mr.IID)
		}
	}

	return numbers, nil
}

func (g *gitlabAPI) isPublic(ctx context.Context) (bool, error) {
	var project struct {
		Visibility string `json:"visibility"`
	}
	err := g.web.Ask(ctx, http.MethodGet, g.path(""), nil, &project)
	return project.Visibility == "public", err
}

func (g *gitlabAPI) me(ctx context.Context) (a author, err error) {
	err = g.web.Ask(ctx, http.MethodGet, "user", nil, &a)
	return a, err
}

func (g *gitlabAPI) findComment(ctx context.Context, number int, marker string, of author) (int64, error) {
	for page := 1; page <= maxComments/100; page++ {
		var notes []note
		path := fmt.Sprintf("/merge_requests/%d/notes?sort=asc&per_page=100&page=%d", number, page)
		if err := g.web.Ask(ctx, http.MethodGet, g.path(path), nil, &notes); err != nil {
			return 0, err
		}
		if id := findNote(notes, marker, of); id != 0 || len(notes) < 100 {
			return id, nil
		}
	}
	return 0, nil
}

func (g *gitlabAPI) addComment(ctx context.Context, number int, text string) (int64, error) {
	var n note
	err := g.web.Ask(ctx, http.MethodPost, g.path(fmt.Sprintf("/merge_requests/%d/notes", number)), map[string]string{"body": text}, &n)
	return n.ID, err
}

func (g *gitlabAPI) editComment(ctx context.Context, number int, id int64, text string) error {
	return g.web.Ask(ctx, http.MethodPut, g.path(fmt.Sprintf("/merge_requests/%d/notes/%d", number, id)), map[string]string{"body": text}, nil)
}
