package forge

import (
	"context"
	"errors"
	"net/http"
)

// A Request is one that somebody opened to merge a branch of the repo itself into another: a pull request, or a merge request of
// GitLab.
type Request struct {
	Number int
	Head   string // commit
	Branch string // that the head is on
}

// Bounds of what is looked at: requests, those that changed last first, and pages of the forge's list. Anybody can open requests
// from forks, so those are passed over before any is counted.
const (
	maxRequests  = 50
	requestPages = 10
)

// Requests are the open requests to merge a branch of the repo itself into a branch, at most maxRequests. isAll says that there
// are no others.
func (c *Client) Requests(ctx context.Context, branch string) (ours []Request, isAll bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*requestTime)
	defer cancel()

	for page := 1; page <= requestPages; page++ {
		some, isLast, err := c.api.requests(ctx, branch, page)
		if err != nil {
			return nil, false, err
		}
		for _, r := range some {
			if r.Number > 0 && commitID.MatchString(r.Head) {
				ours = append(ours, r)
			}
		}

		if len(ours) > maxRequests {
			return ours[:maxRequests], false, nil
		}
		if isLast {
			return ours, true, nil
		}
	}
	return ours, false, nil
}

// Merged are the numbers of the requests that brought a commit.
func (c *Client) Merged(ctx context.Context, commit string) ([]int, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	return c.api.merged(ctx, commit)
}

// IsPublic says whether everybody can read the repo.
func (c *Client) IsPublic(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	return c.api.isPublic(ctx)
}

// maxComments is how many comments of a request are searched for ours.
const maxComments = 300

// Comment has one comment of a request say text. id is that of the comment as an earlier call returned it; 0: it is looked for by
// marker, with which our comments begin, and made when there is none.
func (c *Client) Comment(ctx context.Context, number int, id int64, marker, text string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*requestTime)
	defer cancel()

	var err error
	if id == 0 {
		if id, err = c.api.findComment(ctx, number, marker); err != nil {
			return 0, err
		}
	}
	if id != 0 {
		err = c.api.editComment(ctx, number, id, text)
		if !isNotOurs(err) {
			return id, err
		}
	}
	return c.api.addComment(ctx, number, text) // it is gone, or somebody else wrote it
}

// isNotOurs says that a comment can't be edited.
func isNotOurs(err error) bool {
	var said *APIError
	if !errors.As(err, &said) {
		return false
	}
	return said.Code == http.StatusNotFound || said.Code == http.StatusForbidden || said.Code == http.StatusGone
}
