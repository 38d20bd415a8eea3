package requests_test

import (
	"context"
	"fmt"
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

var edited = map[string]string{"services/web/files/etc/web.conf": "world\n"}

// open makes a repo with a deployed commit and, on no branch, the head of a request.
func open(t *testing.T, files map[string]string) (p *requests.Plans, base, head string) {
	t.Helper()
	return openWith(t, func(*lab.Remote) {}, files)
}

// openWith lets edit change what the head holds beside files.
func openWith(t *testing.T, edit func(*lab.Remote), files map[string]string) (p *requests.Plans, base, head string) {
	t.Helper()
	remote := lab.NewRemote(t.TempDir())
	base = remote.Commit(config, "first day", lab.Author)
	edit(remote)
	head = remote.Commit(files, "a request", lab.Author)
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
	p, base, head := open(t, edited)
	plan, err := p.Plan(t.Context(), forge.Request{Number: 8, Head: head, IsFork: true}, base, true)
	if err != nil || !strings.Contains(plan.Text, "~ file /etc/web.conf") || plan.Digest == "" {
		t.Errorf("the plan is %+v, %v", plan, err)
	}
	wantNothingLeft(t, p)
}

// A head that moved after the forge told of it is not planned as what it was, and a branch that is not there is an error; neither
// leaves anything.
func TestHeadsThatMoved(t *testing.T) {
	p, base, head := open(t, edited)
	for _, r := range []forge.Request{{Number: 7, Head: head, Branch: "main"}, {Number: 7, Head: head, Branch: "gone"}, {Number: 8, Head: strings.Repeat("ab", 20), IsFork: true}} {
		if plan, err := p.Plan(t.Context(), r, base, true); err == nil {
			t.Errorf("%+v was planned: %s", r, plan.Text)
		}
	}
	wantNothingLeft(t, p)
}

// What people write into a head reaches no file of the deployer, no other repo, and leaves the block of code of the comment by no
// name: links, submodules, texts that are too long, names that are markup.
func TestHostileHeads(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("hunter2"), 0o644); err != nil {
		t.Fatal(err)
	}
	const etc = "services/web/files/etc/"
	for what, files := range map[string]map[string]string{
		"link to a file of the deployer":  {"@" + etc + "link": secret},
		"link out of the repo":            {"@" + etc + "link": strings.Repeat("../", 30) + secret[1:]},
		"link to a secret":                {"@" + etc + "link": "../../../../secrets/db.age", "secrets/db.age": "hunter2"},
		"link as the config":              {"@bellhop.yaml": secret},
		"folder that is a link":           {"@services/other": filepath.Dir(secret)},
		"template that includes":          {etc + "x.tmpl": "{{include \"" + secret + "\" .}}{{include \"../../secret\" .}}"},
		"names that are markup":           {etc + "````\n@everyone": "x", etc + "<img src=x>": "x", etc + "[x](http:x)": "x", etc + "\u202e\x1b[2J": "x"},
		"a text of 30 MB":                 {etc + "long": strings.Repeat("0123456789abcde\n", 2_000_000)},
		"ten thousand files":              many(10_000),
		"a name of five thousand letters": {etc + strings.Repeat("x", 5000): "x"},
	} {
		t.Run(what, func(t *testing.T) {
			p, base, head := open(t, files)
			plan, err := p.Plan(t.Context(), forge.Request{Number: 8, Head: head, IsFork: true}, base, true)
			if err != nil { // refused whole, which is as good
				if strings.Contains(err.Error(), "hunter2") {
					t.Errorf("the error has what the link leads to: %v", err)
				}
				return
			}

			if strings.Contains(plan.Text, "hunter2") || len(plan.Text) > 60_000 {
				t.Errorf("the comment has %d bytes:\n%.2000s", len(plan.Text), plan.Text)
			}
			before, rest, _ := strings.Cut(plan.Text, "\n````text\n")
			_, after, _ := strings.Cut(rest, "````\n")
			if outside := before + after; strings.ContainsAny(strings.TrimPrefix(outside, "<!--"), "@[\x1b\u202e") || strings.Count(plan.Text, "````") > 2 {
				t.Errorf("something left the block of code:\n%.2000s", plan.Text)
			}
			wantNothingLeft(t, p)
		})
	}

	t.Run("submodule", func(t *testing.T) {
		p, base, head := openWith(t, func(r *lab.Remote) { r.Submodule("services/web/files/etc/sub", strings.Repeat("ab", 20)) }, nil)
		plan, err := p.Plan(t.Context(), forge.Request{Number: 8, Head: head, IsFork: true}, base, true)
		if err != nil || strings.Contains(plan.Text, "/etc/sub/") {
			t.Errorf("the plan is %+v, %v", plan, err)
		}
		wantNothingLeft(t, p)
	})
}

func many(n int) map[string]string {
	files := map[string]string{}
	for i := range n {
		files[fmt.Sprintf("services/web/files/etc/many/%05d", i)] = "x"
	}
	return files
}
