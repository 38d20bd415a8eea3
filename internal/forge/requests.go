package forge

import (
	"context"
	"errors"
	"net/http"
)

// A Request is one that somebody opened to merge into the branch: a pull request, or a merge request of GitLab.
type Request struct {
	Number int
	Head   string // commit
	Branch string // that the head is on; of a fork a branch of the fork
	IsFork bool   // the head is in another repo
}

// maxRequests is how many open requests are looked at, the newest first.
const maxRequests = 50

// Requests are the open requests to merge into a branch, at most maxRequests.
func (c *Client) Requests(ctx context.Context, branch string) ([]Request, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()

	all, err := c.api.requests(ctx, branch)
	var good []Request
	for _, r := range all {
		if r.Number > 0 && commitID.MatchString(r.Head) {
			good = append(good, r)
		}
	}
	return good[:min(len(good), maxRequests)], err
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
