//go:build e2e

package pages_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"bellhop/internal/forge/fakeforge"
)

// A person makes the GitHub App in a browser: the page of hook github-app has one button, which leads to GitHub with the manifest,
// and GitHub leads back to a page that says that it is done. The policy of both pages lets the browser go there.
func TestGitHubAppInABrowser(t *testing.T) {
	f := fakeforge.New("github")
	defer f.Close()

	state := t.TempDir()
	cmd := exec.Command(bin, "hook", "github-app", "--forge-url", f.API(), "--state-dir", state, "--webhook", "https://bellhop.example.org/v1/webhook", "--repo", f.URL+"/"+fakeforge.Repo+".git")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })

	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n')
	_, address, isPage := strings.Cut(strings.TrimSpace(first), "http://")
	if err != nil || !isPage {
		t.Fatalf("hook github-app prints %q, %v", first, err)
	}

	b := openBrowser(t)
	b.look(t, "light", "", 360) // axe-core takes the dark page, which has no colours of its own, for a white one
	b.run(t, chromedp.Navigate("http://"+address))
	b.checkBarriers(t, "the page of the App")
	b.checkWidth(t, "the page of the App")
	b.picture(t, "githubapp-before")
	if action := eval[string](t, b, `document.forms[0].action`); !strings.HasPrefix(action, f.URL+"/") {
		t.Fatalf("the form leads to %s", action)
	}

	b.run(t, chromedp.Click("button, input[type=submit]"))
	rest, _ := io.ReadAll(lines) // it ends once GitHub's answer was taken
	b.arrives(t, `location.search.includes("code=") && document.querySelector("main h1") !== null`)
	b.checkBarriers(t, "the page after it")
	b.picture(t, "githubapp-after")
	t.Log(eval[string](t, b, `document.body.innerText`))

	t.Logf("%s%s", first, rest)
	if err := cmd.Wait(); err != nil {
		t.Errorf("hook github-app ends as %v", err)
	}
	if keys, _ := filepath.Glob(filepath.Join(state, "github-app*")); len(keys) == 0 {
		t.Error("no App is stored in the state directory")
	}
	if m, _ := f.Manifest(); m.Hooks == nil || m.Hooks.URL != "https://bellhop.example.org/v1/webhook" {
		t.Errorf("the manifest is %+v", m)
	}
	for _, fault := range f.Faults() {
		t.Errorf("GitHub would not take %s", fault)
	}
	for _, c := range b.complaints {
		t.Errorf("the console says: %s", c)
	}
}

// arrives waits until js is true, while pages come and go.
func (b *browser) arrives(t *testing.T, js string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if is, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](js)); err == nil && is {
			return
		}
	}
	t.Fatalf("the browser does not come to a page where %s, but to\n%s", js, eval[string](t, b, "location.href + document.body.innerText"))
}
