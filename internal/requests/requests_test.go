package requests_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bellhop/gitsync"
	"bellhop/internal/fleet"
	"bellhop/internal/forge"
	"bellhop/internal/lab"
	"bellhop/internal/requests"
)

const pin = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJuQK7dKeV5mCF9Q8mFb1d3B3qSNIyZGbdHTwVRVK0dc"

var config = map[string]string{
	"bellhop.yaml":                    "network: lab\nhosts:\n  a: { address: 10.0.0.1, host_key: " + pin + ", services: { web: true } }\n",
	"services/web/web.service":        "[Service]\nExecStart=/bin/web\n\n[Install]\nWantedBy=multi-user.target\n",
	"services/web/files/etc/web.conf": "hello\n",
}

// open makes a repo with a deployed commit and, on no branch, the head of a request.
func open(t *testing.T) (p *requests.Plans, base, head string) {
	t.Helper()
	remote := lab.NewRemote(t.TempDir())
	base = remote.Commit(config, "first day", lab.Author)
	head = remote.Commit(map[string]string{"services/web/files/etc/web.conf": "world\n"}, "a request", lab.Author)
	remote.Reset(base)

	cfg := gitsync.Config{URL: remote.URL(), Branch: "main", Dir: filepath.Join(t.TempDir(), "repo.git")}
	repo, err := gitsync.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { repo.Close() })
	if _, err := repo.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	p = &requests.Plans{
		Dir: filepath.Join(t.TempDir(), "requests"), Repo: cfg, At: repo.At,
		Network: func(context.Context) (string, error) { return "lab", nil },
		Loader:  func() *fleet.Loader { return &fleet.Loader{} },
	}
	return p, base, head
}

// wantNothingLeft wants every clone removed.
func wantNothingLeft(t *testing.T, p *requests.Plans) {
	t.Helper()
	if left, _ := os.ReadDir(p.Dir); len(left) > 0 {
		t.Errorf("%d clones are left in %s", len(left), p.Dir)
	}
}

// A fork's head is on no branch of the repo: it is fetched by its id, planned, and thrown away.
func TestPlanOfAFork(t *testing.T) {
	p, base, head := open(t)
	plan, err := p.Plan(t.Context(), forge.Request{Number: 8, Head: head, IsFork: true}, base, true)
	if err != nil || !strings.Contains(plan.Text, "~ file /etc/web.conf") || plan.Digest == "" {
		t.Errorf("the plan is %+v, %v", plan, err)
	}
	wantNothingLeft(t, p)
}

// A head that moved after the forge told of it is not planned as what it was, and a branch that is not there is an error; neither
// leaves anything.
func TestHeadsThatMoved(t *testing.T) {
	p, base, head := open(t)
	for _, r := range []forge.Request{{Number: 7, Head: head, Branch: "main"}, {Number: 7, Head: head, Branch: "gone"}, {Number: 8, Head: strings.Repeat("ab", 20), IsFork: true}} {
		if plan, err := p.Plan(t.Context(), r, base, true); err == nil {
			t.Errorf("%+v was planned: %s", r, plan.Text)
		}
	}
	wantNothingLeft(t, p)
}
