package forge

import (
	"context"
	"net/http"
	"net/url"
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
