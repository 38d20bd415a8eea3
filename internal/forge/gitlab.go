package forge

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// A gitlabAPI is GitLab's.
type gitlabAPI struct {
	web     *web
	project string // with all groups
}

func (g *gitlabAPI) path(rest string) string {
	return "projects/" + url.PathEscape(g.project) + rest
}

// gitlabStates are the states of a status as GitLab names them. One that is not tried is "canceled" there.
var gitlabStates = map[State]string{Pending: "running", Success: "success", Failure: "failed", Error: "canceled"}

// setStatus is https://docs.gitlab.com/api/commits/#set-commit-pipeline-status. GitLab refuses to set the state that a
// status has, and to open some that ended: there is nothing to be tried again then.
func (g *gitlabAPI) setStatus(ctx context.Context, commit string, s Status) error {
	body := map[string]string{"state": gitlabStates[s.State], "description": s.Description, "name": s.Context}
	if s.URL != "" {
		body["target_url"] = s.URL
	}

	err := g.web.ask(ctx, http.MethodPost, g.path("/statuses/"+url.PathEscape(commit)), body, nil)
	var said *APIError
	isStuck := errors.As(err, &said) && said.Code == http.StatusBadRequest && strings.Contains(said.Text, "Cannot transition status")
	if isStuck {
		return nil
	}
	return err
}
