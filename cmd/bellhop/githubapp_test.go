package main

import (
	"bufio"
	"context"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"bellhop/internal/forge"
	"bellhop/internal/forge/fakeforge"
)

var appForm = regexp.MustCompile(`action="([^"]*)".*name="manifest" value="([^"]*)"`)

// agree ARGS...: run bellhop hook github-app ARGS, open the page that it prints, and agree as a person in a browser does.
// $OUT is what it printed.
func cmdAgree(ts *testscript.TestScript, _ bool, args []string) {
	bellhop := filepath.Join(filepath.SplitList(ts.Getenv("PATH"))[0], "bellhop")
	c := exec.Command(bellhop, append([]string{"hook", "github-app"}, args...)...)
	c.Env = []string{"PATH=" + ts.Getenv("PATH"), "HOME=" + ts.Getenv("HOME"), "BELLHOP_STATE_DIR=" + ts.Getenv("BELLHOP_STATE_DIR"), "BELLHOP_LISTEN=:8080"} // where the server listens, as in a container
	out, err := c.StdoutPipe()
	ts.Check(err)
	ts.Check(c.Start())
	defer func() { _ = c.Process.Kill() }()

	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n')
	ts.Check(err)
	page := strings.TrimSpace(first[strings.Index(first, "http://"):])
	if answer, err := agreeTo(page); err != nil || answer.StatusCode != http.StatusOK {
		ts.Fatalf("the browser came back: %+v %v", answer, err)
	}
	rest, _ := io.ReadAll(lines)
	ts.Check(c.Wait())
	ts.Setenv("OUT", strings.ReplaceAll(string(rest), "\n", " "))
}

// agreeTo opens a page, posts its form, and returns the answer with which the browser came back.
func agreeTo(page string) (*http.Response, error) {
	answer, err := http.Get(page)
	if err != nil {
		return nil, err
	}
	text, _ := io.ReadAll(answer.Body)
	answer.Body.Close()
	form := appForm.FindStringSubmatch(string(text))
	if form == nil {
		return nil, fmt.Errorf("%s has no form:\n%s", page, text)
	}

	answer, err = http.PostForm(html.UnescapeString(form[1]), url.Values{"manifest": {html.UnescapeString(form[2])}})
	if err == nil {
		answer.Body.Close()
	}
	return answer, err
}

// hooked VAR ADDRESS FILE: the webhook of the App leads to that address, and has the secret that stands in a file.
func cmdHooked(ts *testscript.TestScript, _ bool, args []string) {
	f := ts.Value(forgeKey{}).(map[string]*fakeforge.Forge)[args[0]]
	_, hook := f.Manifest()
	if hook["url"] != args[1] || hook["secret"] != strings.TrimSpace(ts.ReadFile(args[2])) {
		ts.Fatalf("the webhook leads to %s, or its secret is not that of %s", hook["url"], args[2])
	}
}

// An App whose webhook secret can't be stored is not stored: GitHub would sign with a secret that nobody has, and the next call of the
// command would say that an App was made already.
func TestAppWhoseWebhookSecretCannotBeStored(t *testing.T) {
	st := newState(t.TempDir())
	st.webhookSecret = filepath.Join(st.dir, "missing", "webhook-secret")
	m := &forge.MadeApp{ID: 4711, Slug: "bellhop-of-cadey", Key: "key", WebhookSecret: "of GitHub"}
	err := storeGitHubApp(t.Context(), nil, st, m, "https://bellhop.example.org/v1/webhook")
	if err == nil || !strings.Contains(hintFor(err), "delete the App") {
		t.Errorf("the secret can't be stored: %v, hint %q", err, hintFor(err))
	}
	if _, err := stateForApp(st.dir); err != nil {
		t.Errorf("the command can't be called again: %v", err)
	}
}

// Ctrl-C while an App is stored waits for it: GitHub gives its key once.
func TestInterruptWhileTheAppIsMade(t *testing.T) {
	f := fakeforge.New("github")
	defer f.Close()
	site, err := forge.NewGitHubSite(f.URL, f.API(), "")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	ctx, interrupt := context.WithCancel(t.Context())
	ending, stored := make(chan struct{}), false
	manifest := forge.AppManifest{Name: "bellhop-lab", Home: "https://bellhop.example.org"}
	form := forge.NewAppForm(site, manifest, l.Addr().String(), func(context.Context, *forge.MadeApp) error {
		interrupt()
		select {
		case <-ending:
			stored = true
		case <-t.Context().Done():
		}
		return nil
	})
	web := &http.Server{Handler: form}
	web.RegisterOnShutdown(func() { close(ending) })
	go func() { _ = web.Serve(l) }()
	go func() { _, _ = agreeTo(form.Page()) }()

	if made, err := waitForApp(ctx, web, form); err != nil || made.ID != 4711 || !stored {
		t.Errorf("interrupted while an App is stored: %v, want the App", err)
	}
}
