package forge

import (
	"context"
	"fmt"
	"strconv"
)

// After a request is merged, the status of the commit says whether what was deployed is what the request's comment said. The two
// plans are compared by their digests.

// asPlanned is what the status of a commit says of the request that brought it; "" when nothing can be said: no request brought it,
// the request was not planned, or another process deployed the commit.
func (r *Reporter) asPlanned(ctx context.Context, commit string, p *progress) string {
	if r.Deployed == nil || p.compared[commit] {
		return ""
	}
	digest := r.Deployed(commit)
	if digest == "" {
		return ""
	}

	plans, err := plansOf(ctx, r.Client, r.Marks)
	if err != nil || len(plans) == 0 {
		return ""
	}
	numbers, err := r.Client.Merged(ctx, commit)
	if err != nil {
		r.Log.Debug("it is not known which request brought a commit", "commit", commit, "err", err)
		return ""
	}

	p.compared[commit] = true
	for _, number := range numbers {
		plan := plans[strconv.Itoa(number)]
		switch plan.Digest {
		case "":
		case digest:
			return fmt.Sprintf("; as planned in %s", r.Client.reference(number))
		default:
			return fmt.Sprintf("; not as planned in %s", r.Client.reference(number))
		}
	}
	return ""
}

// reference is how the forge writes the number of a request.
func (c *Client) reference(number int) string {
	if c.kind == GitLab {
		return fmt.Sprintf("!%d", number)
	}
	return fmt.Sprintf("#%d", number)
}
