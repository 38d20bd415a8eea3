package forge

import (
	"context"
	"fmt"
	"strconv"
	"sync"
)

// After a request is merged, the status of the commit says whether what was deployed is what the request's comment said. The two
// plans are compared by their digests.

// asPlanned is what the status of a commit says of the request that brought it; "" when nothing can be said: no request brought it,
// the request was not planned, or the digest of the plan that is deployed is not known.
func (r *Reporter) asPlanned(ctx context.Context, commit, digest string, p *progress) string {
	if digest == "" || p.compared[commit] {
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

// digestOf is the digest of the plan by which a commit is deployed. The mark has it from the first status on, so that a process
// that takes over knows it too.
func (r *Reporter) digestOf(commit string, before sentStatus) string {
	if before.Digest != "" || r.Deployed == nil {
		return before.Digest
	}
	return r.Deployed(commit)
}

// reference is how the forge writes the number of a request.
func (c *Client) reference(number int) string {
	if c.kind == GitLab {
		return fmt.Sprintf("!%d", number)
	}
	return fmt.Sprintf("#%d", number)
}

// Digests are those of the plans by which this process deployed commits. The zero value has none.
type Digests struct {
	mu sync.Mutex
	by map[string]string // commit to the digest of its first plan
}

// maxDigests is how many are kept.
const maxDigests = 100

// Add keeps the first plan of a commit: a later one is about what the first left.
func (d *Digests) Add(commit, digest string) {
	d.mu.Lock()
	defer d.mu.Unlock()

	if d.by == nil || len(d.by) >= maxDigests {
		d.by = map[string]string{}
	}
	if d.by[commit] == "" {
		d.by[commit] = digest
	}
}

// Of is the digest of a commit; "" when it is not known.
func (d *Digests) Of(commit string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.by[commit]
}
