package forge_test

import (
	"context"
	"errors"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"bellhop/internal/forge"
	"bellhop/internal/forge/fakeforge"
)

// serveForm serves the form that makes an App, and returns it with the list of what was stored.
func serveForm(t *testing.T, f *fakeforge.Forge, org, webhook string, fails error) (*forge.AppForm, *[]*forge.MadeApp) {
	t.Helper()
	site, err := forge.NewGitHubSite(f.URL, f.API(), org)
	if err != nil {
		t.Fatal(err)
	}
	var stored []*forge.MadeApp
	web := httptest.NewUnstartedServer(nil)
	form := forge.NewAppForm(site, forge.AppManifest{Name: "bellhop-lab", Home: "https://bellhop.example.org", Webhook: webhook},
		web.Listener.Addr().String(), func(_ context.Context, m *forge.MadeApp) error {
			stored = append(stored, m)
			return fails
		})
	web.Config.Handler = form
	web.Start()
	t.Cleanup(web.Close)
	return form, &stored
}

func get(t *testing.T, address string) (code int, body string) {
	t.Helper()
	answer, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text)
}

var formFields = regexp.MustCompile(`action="([^"]*)".*name="manifest" value="([^"]*)"`)

// agree does what a browser does: it opens the page, posts its form to the forge, and follows to where that sends it.
func agree(t *testing.T, form *forge.AppForm) (code int, body, back string) {
	t.Helper()
	_, page := get(t, form.Page())
	fields := formFields.FindStringSubmatch(page)
	if fields == nil {
		t.Fatalf("the page has no form:\n%s", page)
	}
	answer, err := http.PostForm(html.UnescapeString(fields[1]), url.Values{"manifest": {html.UnescapeString(fields[2])}})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), answer.Request.URL.String()
}

// A person opens the page, agrees, and the App's key is there and works.
func TestMakeAnApp(t *testing.T) {
	f := fakeforge.New("github")
	defer f.Close()
	form, stored := serveForm(t, f, "cadey-org", "https://bellhop.example.org/v1/webhook", nil)

	code, body, back := agree(t, form)
	if code != http.StatusOK || !strings.Contains(body, "/apps/bellhop-of-cadey/installations/new") {
		t.Fatalf("the browser came back to %s: %d\n%s\nfaults: %q", back, code, body, f.Faults())
	}
	<-form.Made()
	made := form.Result().App
	if len(*stored) != 1 || made != (*stored)[0] || made.ID != 4711 || made.WebhookSecret != fakeforge.HookSecret {
		t.Errorf("made %+v, stored %d Apps", made, len(*stored))
	}
	if strings.Contains(body, "PRIVATE") || strings.Contains(body, made.WebhookSecret) {
		t.Errorf("the browser was shown a secret:\n%s", body)
	}

	m, _ := f.Manifest()
	if m.Permissions["statuses"] != "write" || m.Permissions["contents"] != "read" || m.Public || len(m.Events) != 2 {
		t.Errorf("the manifest is %+v", m)
	}

	c, err := forge.New(forge.Config{Kind: forge.GitHub, URL: f.API(), Repo: fakeforge.Repo, App: made.App()})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetStatus(t.Context(), commit, forge.Status{State: forge.Success, Context: "bellhop/lab"}); err != nil {
		t.Errorf("the App that was made can't set a status: %v", err)
	}

	site, _ := forge.NewGitHubSite(f.URL, f.API(), "")
	if err := site.SetWebhook(t.Context(), made, "https://bellhop.example.org/v1/webhook", "deployers-own"); err != nil {
		t.Error(err)
	}
	if _, hook := f.Manifest(); hook["secret"] != "deployers-own" || hook["content_type"] != "json" {
		t.Errorf("the webhook is %v", hook)
	}

	if code, again := get(t, back); code != http.StatusOK || again != body || len(*stored) != 1 {
		t.Errorf("the page is reloaded: %d, %d Apps stored; want the same page and one\n%s", code, len(*stored), again)
	}
}

// The browser goes away while its code is exchanged: GitHub knows a code once, so the App is stored all the same, and the browser
// that comes back is shown it.
func TestBrowserGoesAwayWhileTheAppIsMade(t *testing.T) {
	f := fakeforge.New("github")
	defer f.Close()
	form, stored := serveForm(t, f, "", "", nil)
	back := backOf(t, form)

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(gone, http.MethodGet, back, nil)
	form.ServeHTTP(httptest.NewRecorder(), r)
	if len(*stored) != 1 {
		t.Fatalf("the browser went away, and %d Apps are stored, want one", len(*stored))
	}
	if code, body := get(t, back); code != http.StatusOK || !strings.Contains(body, "is made") {
		t.Errorf("the browser comes back: %d\n%s", code, body)
	}
}

// backOf agrees to the form, and returns the address that GitHub sends the browser back to.
func backOf(t *testing.T, form *forge.AppForm) string {
	t.Helper()
	_, page := get(t, form.Page())
	fields := formFields.FindStringSubmatch(page)
	if fields == nil {
		t.Fatalf("the page has no form:\n%s", page)
	}
	stay := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := stay.PostForm(html.UnescapeString(fields[1]), url.Values{"manifest": {html.UnescapeString(fields[2])}})
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	return answer.Header.Get("Location")
}

// Without a webhook the App asks for no right to read the repo, and subscribes to nothing.
func TestAppWithoutWebhook(t *testing.T) {
	f := fakeforge.New("github")
	defer f.Close()
	form, _ := serveForm(t, f, "", "", nil)
	if code, body, _ := agree(t, form); code != http.StatusOK {
		t.Fatalf("%d %s; faults: %q", code, body, f.Faults())
	}
	if m, _ := f.Manifest(); m.Permissions["contents"] != "" || m.Hooks != nil || len(m.Events) > 0 {
		t.Errorf("the manifest is %+v", m)
	}
}

// Nobody but the browser that has the page can have an App taken.
func TestAppFormIsNotForOthers(t *testing.T) {
	f := fakeforge.New("github")
	defer f.Close()
	form, stored := serveForm(t, f, "", "", nil)
	home := form.Page()[:strings.LastIndex(form.Page(), "/")]

	for _, path := range []string{"/", "/made", "/made?code=abc", "/made?code=abc&state=guess", "/" + strings.Repeat("A", 26)} {
		if code, body := get(t, home+path); code < 400 || strings.Contains(body, "state=") {
			t.Errorf("GET %s: %d\n%s", path, code, body)
		}
	}

	r := httptest.NewRequest(http.MethodGet, form.Page(), nil)
	r.Host = "attacker.example:80" // DNS that leads elsewhere for a while
	w := httptest.NewRecorder()
	form.ServeHTTP(w, r)
	if w.Code != http.StatusMisdirectedRequest || len(*stored) > 0 {
		t.Errorf("another host: %d, %d Apps stored", w.Code, len(*stored))
	}
}

// An App that can't be stored is told to both: the browser and whoever waits.
func TestAppThatCannotBeStored(t *testing.T) {
	f := fakeforge.New("github")
	defer f.Close()
	form, _ := serveForm(t, f, "", "", errors.New("no space left on device"))
	code, body, _ := agree(t, form)
	if err := form.Result().Err; err == nil || code != http.StatusInternalServerError || !strings.Contains(body, "no space left") {
		t.Errorf("%d %s, %v", code, body, err)
	}
}

func TestGitHubSiteRefuses(t *testing.T) {
	for _, tt := range []struct{ web, api, org string }{{"github.com", "", ""}, {"https://github.com", "ftp://x", ""}, {"https://github.com", "", "../x"}} {
		if _, err := forge.NewGitHubSite(tt.web, tt.api, tt.org); err == nil {
			t.Errorf("%+v is taken", tt)
		}
	}
}
