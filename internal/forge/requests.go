package forge

import (
	"context"
	"errors"
	"net/http"

	"bellhop/internal/forge/rest"
)

// A Request is one that somebody opened to merge a head into a branch: a pull request, or a merge request of GitLab.
type Request struct {
	Number int
	Head   string // commit
	Branch string // of the repo itself that the head is on; "" of a fork
	IsFork bool   // the head is no branch of the repo itself: whoever can read the repo may have pushed it
}

// Bounds of what is looked at: requests, those that changed last first, and pages of the forge's list. Anybody can open requests
// from forks, so those are counted by themselves, and what the repo's own people ask comes first.
const (
	maxRequests  = 50
	maxForks     = 20
	requestPages = 10
)

// Requests are the open requests to merge into a branch: at most maxRequests of the repo's own branches and, where they are
// wanted, at most maxForks others behind them. isAll says that there are no others.
func (c *Client) Requests(ctx context.Context, branch string, withForks bool) (all []Request, isAll bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*rest.RequestTime)
	defer cancel()

	var ours, forks []Request
	isLast := false
	for page := 1; page <= requestPages && !isLast && len(ours) <= maxRequests; page++ {
		var some []Request
		if some, isLast, err = c.api.requests(ctx, branch, page); err != nil {
			return nil, false, err
		}
		for _, r := range some {
			isUsable := r.Number > 0 && commitID.MatchString(r.Head)
			switch {
			case isUsable && !r.IsFork:
				ours = append(ours, r)
			case isUsable && withForks && len(forks) <= maxForks:
				r.Branch = ""
				forks = append(forks, r)
			}
		}
	}

	isAll = isLast && len(ours) <= maxRequests && len(forks) <= maxForks
	ours, forks = ours[:min(len(ours), maxRequests)], forks[:min(len(forks), maxForks)]
	return append(ours, forks...), isAll, nil
}

// Merged are the numbers of the requests that brought a commit.
func (c *Client) Merged(ctx context.Context, commit string) ([]int, error) {
	ctx, cancel := context.WithTimeout(ctx, rest.RequestTime)
	defer cancel()
	return c.api.merged(ctx, commit)
}

// IsPublic says whether everybody can read the repo.
func (c *Client) IsPublic(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, rest.RequestTime)
	defer cancel()
	return c.api.isPublic(ctx)
}

// maxComments is how many comments of a request are searched for ours.
const maxComments = 300

// Comment has one comment of a request say text. id is that of the comment as an earlier call returned it; 0: it is looked for by
// marker, with which our comments begin, and made when there is none.
func (c *Client) Comment(ctx context.Context, number int, id int64, marker, text string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*rest.RequestTime)
	defer cancel()

	var err error
	if id == 0 {
		if id, err = c.findOwn(ctx, number, marker); err != nil {
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

// findOwn looks for a comment of ours. Anybody can write one that begins with the marker, and the forge may let us edit it: its
// author would own it then. Without the right to ask who we are none is looked for.
func (c *Client) findOwn(ctx context.Context, number int, marker string) (int64, error) {
	me, err := c.api.me(ctx)
	isUnknown := isNotOurs(err) || err == nil && me == author{}
	if isUnknown {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}

	return c.api.findComment(ctx, number, marker, me)
}

// An author is who wrote a comment.
type author struct {
	ID    int64  `json:"id"`    // stays when the login changes
	Login string `json:"login"` // alone for a GitHub App, which does not know its id as an author
}

// is says that both are the same, which nobody is who has neither id nor login.
func (a author) is(other author) bool {
	if a.ID != 0 {
		return a.ID == other.ID
	}
	return a.Login != "" && a.Login == other.Login
}

// isNotOurs says that what was asked for, as the edit of a comment, is not for us, and will not be by itself.
func isNotOurs(err error) bool {
	var said *rest.Error
	isLater := errors.As(err, &said) && said.After > 0 // a rate limit is a 403 too
	if said == nil || isLater {
		return false
	}
	return said.Code == http.StatusNotFound || said.Code == http.StatusForbidden || said.Code == http.StatusGone
}
