package forge

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-github/v60/github"

	"bellhop/internal/forge/rest"
	"bellhop/internal/plain"
)

// A githubAPI is GitHub's, and that of GitHub Enterprise Server.
type githubAPI struct {
	client      *github.Client
	app         *installation // nil: it logs in by a token
	owner, name string
}

func newGitHub(base *url.URL, owner, name string, cfg Config) *githubAPI {
	var app *installation
	l := rest.Header("Authorization", "Bearer ", cfg.Token)
	if cfg.App != nil {
		app = newInstallation(base, cfg.App, owner, name)
		l = app.login
	}

	c := github.NewClient(rest.HTTPClient(base, l))
	c.BaseURL, c.UserAgent = base, "bellhop"
	return &githubAPI{client: c, app: app, owner: owner, name: name}
}

// setStatus is https://docs.github.com/en/rest/commits/statuses#create-a-commit-status.
func (g *githubAPI) setStatus(ctx context.Context, commit string, s Status) error {
	status := &github.RepoStatus{State: github.String(string(s.State)), Description: &s.Description, Context: &s.Context}
	if s.URL != "" {
		status.TargetURL = &s.URL
	}
	_, _, err := g.client.Repositories.CreateStatus(ctx, g.owner, g.name, commit, status)
	return githubError(err)
}

// addDeployment is https://docs.github.com/en/rest/deployments/deployments. The run is its payload, by which it is found again
// when bellhop ended before it could remember the id.
func (g *githubAPI) addDeployment(ctx context.Context, d deployment) (int64, error) {
	opts := &github.DeploymentsListOptions{SHA: d.commit, Environment: d.environment, ListOptions: github.ListOptions{PerPage: 100}}
	known, _, err := g.client.Repositories.ListDeployments(ctx, g.owner, g.name, opts)
	if err != nil {
		return 0, githubError(err)
	}

	for _, one := range known {
		var payload struct {
			Run string `json:"run"`
		}
		if json.Unmarshal(one.Payload, &payload) == nil && payload.Run == d.run {
			return one.GetID(), nil
		}
	}

	made, _, err := g.client.Repositories.CreateDeployment(ctx, g.owner, g.name, &github.DeploymentRequest{
		Ref: &d.commit, Task: github.String("deploy"), AutoMerge: github.Bool(false), RequiredContexts: &[]string{},
		Environment: &d.environment, Description: &d.text, Payload: map[string]string{"run": d.run},
	})
	if err != nil {
		return 0, githubError(err)
	}

	return made.GetID(), nil
}

func (g *githubAPI) setDeployment(ctx context.Context, id int64, d deployment) error {
	status := &github.DeploymentStatusRequest{State: &d.state, Description: &d.text, Environment: &d.environment}
	if d.url != "" {
		status.LogURL = &d.url
	}
	_, _, err := g.client.Repositories.CreateDeploymentStatus(ctx, g.owner, g.name, id, status)
	return githubError(err)
}

func (g *githubAPI) requests(ctx context.Context, branch string, page int) (some []Request, isLast bool, err error) {
	of := github.ListOptions{Page: page, PerPage: maxRequests}
	opts := &github.PullRequestListOptions{State: "open", Base: branch, Sort: "updated", Direction: "desc", ListOptions: of}
	prs, _, err := g.client.PullRequests.List(ctx, g.owner, g.name, opts)
	if err != nil {
		return nil, false, githubError(err)
	}

	for _, pr := range prs {
		head, base := pr.GetHead(), pr.GetBase()
		isOurs := head.GetRepo().GetID() != 0 && head.GetRepo().GetID() == base.GetRepo().GetID()
		some = append(some, Request{Number: pr.GetNumber(), Head: head.GetSHA(), Branch: head.GetRef(), IsFork: !isOurs})
	}

	return some, len(prs) < maxRequests, nil
}

func (g *githubAPI) merged(ctx context.Context, commit string) ([]int, error) {
	prs, _, err := g.client.PullRequests.ListPullRequestsWithCommit(ctx, g.owner, g.name, commit, nil)
	if err != nil {
		return nil, githubError(err)
	}

	var numbers []int
	for _, pr := range prs {
		if pr.MergedAt != nil {
			numbers = append(numbers, pr.GetNumber())
		}
	}

	return numbers, nil
}

func (g *githubAPI) isPublic(ctx context.Context) (bool, error) {
	repo, _, err := g.client.Repositories.Get(ctx, g.owner, g.name)
	if err != nil {
		return false, githubError(err)
	}
	return !repo.GetPrivate(), nil
}

func (g *githubAPI) me(ctx context.Context) (author, error) {
	if g.app != nil {
		return g.app.author(ctx)
	}
	user, _, err := g.client.Users.Get(ctx, "")
	return author{ID: user.GetID(), Login: user.GetLogin()}, githubError(err)
}

func (g *githubAPI) findComment(ctx context.Context, number int, marker string, of author) (int64, error) {
	opts := &github.IssueListCommentsOptions{ListOptions: github.ListOptions{PerPage: 100}}
	for opts.Page = 1; opts.Page <= maxComments/opts.PerPage; opts.Page++ {
		comments, _, err := g.client.Issues.ListComments(ctx, g.owner, g.name, number, opts)
		if err != nil {
			return 0, githubError(err)
		}
		for _, c := range comments {
			who := author{ID: c.GetUser().GetID(), Login: c.GetUser().GetLogin()}
			if of.is(who) && strings.HasPrefix(c.GetBody(), marker) {
				return c.GetID(), nil
			}
		}
		if len(comments) < opts.PerPage {
			break
		}
	}

	return 0, nil
}

func (g *githubAPI) addComment(ctx context.Context, number int, text string) (int64, error) {
	c, _, err := g.client.Issues.CreateComment(ctx, g.owner, g.name, number, &github.IssueComment{Body: &text})
	return c.GetID(), githubError(err)
}

func (g *githubAPI) editComment(ctx context.Context, _ int, id int64, text string) error {
	_, _, err := g.client.Issues.EditComment(ctx, g.owner, g.name, id, &github.IssueComment{Body: &text})
	return githubError(err)
}

// githubText is what GitHub says, with what was not valid: "Validation Failed" alone says nothing.
func githubText(said *github.ErrorResponse) string {
	text := said.Message
	for _, one := range said.Errors {
		if one.Message != "" {
			text += "; " + one.Message
		} else if one.Field != "" {
			text += "; " + one.Field + " is " + one.Code
		}
	}
	return text
}

// githubError is an error of go-github without the address that was asked.
func githubError(err error) error {
	var limit *github.RateLimitError
	var abuse *github.AbuseRateLimitError
	var said *github.ErrorResponse
	switch {
	case err == nil:
		return nil
	case errors.As(err, &limit):
		return &rest.Error{Code: limit.Response.StatusCode, Text: "the rate limit is used up", After: min(max(time.Until(limit.Rate.Reset.Time), 0), time.Hour)}
	case errors.As(err, &abuse):
		e := &rest.Error{Code: abuse.Response.StatusCode, Text: "the secondary rate limit is used up", After: time.Minute}
		if abuse.RetryAfter != nil {
			e.After = min(*abuse.RetryAfter, time.Hour)
		}
		return e
	case errors.As(err, &said):
		e := &rest.Error{Code: said.Response.StatusCode, Text: plain.Line(githubText(said), rest.MaxErrorText), After: rest.WaitOf(said.Response.Header)}
		if e.Code == http.StatusForbidden || e.Code == http.StatusNotFound {
			e.Right = rest.RightOf(said.Response.Header)
		}
		if e.Code == http.StatusTooManyRequests && e.After == 0 { // as long as GitHub's documentation wants where the answer does not say
			e.After = time.Minute
		}
		return e
	}

	return rest.Bare(err)
}
