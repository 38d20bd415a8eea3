package forge

import (
	"context"
	"errors"
	"net/url"
	"time"

	"github.com/google/go-github/v60/github"

	"bellhop/internal/plain"
)

// A githubAPI is GitHub's, and that of GitHub Enterprise Server.
type githubAPI struct {
	client      *github.Client
	owner, name string
}

func newGitHub(base *url.URL, owner, name string, token func() (string, error)) *githubAPI {
	return newGitHubAs(base, owner, name, header("Authorization", "Bearer ", token))
}

func newGitHubAs(base *url.URL, owner, name string, l login) *githubAPI {
	c := github.NewClient(httpClient(base, l))
	c.BaseURL, c.UserAgent = base, "bellhop"
	return &githubAPI{client: c, owner: owner, name: name}
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

// githubError is an error of go-github without the address that was asked.
func githubError(err error) error {
	var limit *github.RateLimitError
	var abuse *github.AbuseRateLimitError
	var said *github.ErrorResponse
	switch {
	case err == nil:
		return nil
	case errors.As(err, &limit):
		return &APIError{Code: limit.Response.StatusCode, Text: "the rate limit is used up", After: min(max(time.Until(limit.Rate.Reset.Time), 0), time.Hour)}
	case errors.As(err, &abuse):
		e := &APIError{Code: abuse.Response.StatusCode, Text: "the secondary rate limit is used up", After: time.Minute}
		if abuse.RetryAfter != nil {
			e.After = min(*abuse.RetryAfter, time.Hour)
		}
		return e
	case errors.As(err, &said):
		e := &APIError{Code: said.Response.StatusCode, Text: plain.Line(said.Message, maxErrorText), After: waitOf(said.Response.Header)}
		if e.Code == 403 || e.Code == 404 {
			e.Right = plain.Line(said.Response.Header.Get(rightHeader), 100)
		}
		return e
	}
	return bare(err)
}
