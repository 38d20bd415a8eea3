package forge

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"sync"
)

// An AppForm is the page on this machine from which a person has GitHub make an App. It is served on loopback, until
// Made is closed.
//
// The address of its page is secret, as is the state that comes back with the code: else another user of the machine, or
// a web page that is open in the same browser, could have the deployer take an App of theirs.
type AppForm struct {
	site     *GitHubSite
	manifest AppManifest
	address  string // HOST:PORT where it is served
	path     string
	state    string
	store    func(context.Context, *MadeApp) error
	made     chan struct{} // closed when result is there

	mu     sync.Mutex // held while a code is exchanged and its App is stored
	result *AppResult // of the first code that GitHub knew
}

// An AppResult is what came of a form.
type AppResult struct {
	App *MadeApp
	Err error
}

// NewAppForm makes a form that is served on address, HOST:PORT. store keeps the App before the browser is told.
func NewAppForm(site *GitHubSite, m AppManifest, address string, store func(context.Context, *MadeApp) error) *AppForm {
	return &AppForm{site: site, manifest: m, address: address, path: "/" + rand.Text(), state: rand.Text(), store: store, made: make(chan struct{})}
}

// Page is the address to open in a browser.
func (f *AppForm) Page() string { return "http://" + f.address + f.path }

// Made is closed when Result is there.
func (f *AppForm) Made() <-chan struct{} { return f.made }

// Result is what came of it; nil when nobody made an App. It waits while a code is exchanged.
func (f *AppForm) Result() *AppResult {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.result
}

// madePath is where GitHub sends the browser back to.
const madePath = "/made"

// ServeHTTP shows the form, and takes the code with which the browser comes back.
func (f *AppForm) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	// A browser holds the answer to a form against the policy as well: where GitHub leads back at once, that is this page.
	h.Set("Content-Security-Policy", "default-src 'none'; form-action 'self' "+strings.TrimRight(f.site.web.String(), "/")+"; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "text/html; charset=utf-8")

	isForm := same(r.URL.Path, f.path)
	isBack := r.URL.Path == madePath
	switch {
	case r.Host != f.address:
		http.Error(w, "this page is "+f.address, http.StatusMisdirectedRequest)
	case r.Method != http.MethodGet:
		http.Error(w, "GET alone", http.StatusMethodNotAllowed)
	case isForm:
		f.show(w)
	case isBack && same(r.URL.Query().Get("state"), f.state):
		f.take(w, r)
	case isBack:
		http.Error(w, "this is not the answer to the form that bellhop made: open its page again", http.StatusForbidden)
	default:
		http.NotFound(w, r)
	}
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

var appPages = template.Must(template.New("form").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark"><title>bellhop: make a GitHub App</title>
<main><h1>Make a GitHub App for bellhop</h1>
<p>It may set commit statuses and deployments, and comment on pull requests, of the repos that you install it on.{{if .Webhook}} It tells {{.Webhook}} of pushes.{{end}}</p>
<form action="{{.Action}}" method="post"><input type="hidden" name="manifest" value="{{.Manifest}}"><button>Go on at {{.Site}}</button></form></main>
</html>
{{define "made"}}<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark"><title>bellhop: the App is made</title>
<main><h1>The App {{.Slug}} is made</h1>
<p>Its key is stored. Now <a href="{{.InstallPage}}" rel="noreferrer">install it on the repo</a>, and restart <code>bellhop serve</code>.</p></main>
</html>
{{end}}`))

func (f *AppForm) show(w http.ResponseWriter) {
	manifest, err := f.manifest.json("http://" + f.address + madePath)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}

	_ = appPages.Execute(w, map[string]string{
		"Action": f.site.formAction(f.state), "Manifest": string(manifest), "Webhook": f.manifest.Webhook, "Site": f.site.web.Host,
	})
}

// take has the code exchanged, and shows what came of it. One that GitHub does not know ends nothing: the person may try again.
func (f *AppForm) take(w http.ResponseWriter, r *http.Request) {
	// GitHub gives the key once: a browser that reloads the page, or goes away, must not end what is under way.
	result, err := f.exchange(context.WithoutCancel(r.Context()), r.URL.Query().Get("code"))
	if err != nil {
		http.Error(w, fmt.Sprintf("%v\nOpen %s to try again.", err, f.Page()), http.StatusBadGateway)
		return
	}
	if result.Err != nil {
		http.Error(w, result.Err.Error(), http.StatusInternalServerError)
		return
	}

	_ = appPages.ExecuteTemplate(w, "made", result.App)
}

// exchange exchanges a code and stores the App, once: who comes while that is under way, or later, has the same result. Each call of
// GitHub has its own deadline.
func (f *AppForm) exchange(ctx context.Context, code string) (*AppResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.result != nil {
		return f.result, nil
	}

	m, err := f.site.exchange(ctx, code)
	if err != nil {
		return nil, err
	}

	f.result = &AppResult{App: m, Err: f.store(ctx, m)}
	close(f.made)
	return f.result, nil
}
