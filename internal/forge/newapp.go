package forge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"bellhop/internal/forge/rest"
	"bellhop/internal/plain"
)

// A GitHub App is made by GitHub's manifest flow, so that nobody has to fill in a form of twenty fields:
// https://docs.github.com/en/apps/sharing-github-apps/registering-a-github-app-from-a-manifest. A page on this machine posts
// a manifest to GitHub, a person agrees there, GitHub sends the browser back with a code, and the code is exchanged for
// the App's key.

// An AppManifest says what App is wanted.
type AppManifest struct {
	Name    string // unique on all of GitHub, at most MaxAppName characters; who agrees can change it
	Home    string // address that GitHub shows beside the name
	Webhook string // address that pushes and requests are told to; "": the App has no webhook
}

// MaxAppName is how long the name of an App may be.
const MaxAppName = 34

// json is the manifest as GitHub documents it. back is where the browser is sent with the code.
func (m AppManifest) json(back string) ([]byte, error) {
	rights := map[string]string{"metadata": "read", "statuses": "write", "deployments": "write", "pull_requests": "write"}
	all := map[string]any{
		"name": m.Name, "url": m.Home, "redirect_url": back, "public": false, "default_permissions": rights,
		"description": "Shows beside commits and in pull requests what bellhop deploys.",
	}
	if m.Webhook != "" {
		rights["contents"] = "read" // GitHub tells of pushes only to who may read what was pushed
		all["hook_attributes"] = map[string]any{"url": m.Webhook, "active": true}
		all["default_events"] = []string{"push", "pull_request"}
	}

	return json.Marshal(all)
}

// A MadeApp is one that GitHub made. It is stored as JSON, and holds a private key.
type MadeApp struct {
	ID   int64  `json:"id"`
	Slug string `json:"slug"` // its name in addresses
	Page string `json:"page"` // of GitHub, from where it is installed
	Key  string `json:"key"`  // PEM
	// WebhookSecret is what GitHub signs deliveries with, until SetWebhook gave it another; "" when the App has no webhook.
	WebhookSecret string `json:"-"`
}

// App is what logs in by it.
func (m *MadeApp) App() *App {
	return &App{ID: strconv.FormatInt(m.ID, 10), Key: func() ([]byte, error) { return []byte(m.Key), nil }}
}

// InstallPage is where a person installs the App on repos.
func (m *MadeApp) InstallPage() string { return m.Page + "/installations/new" }

// A GitHubSite is one GitHub: github.com, or an Enterprise Server.
type GitHubSite struct {
	web *url.URL // as browsers have it
	api *url.URL
	Org string // organization that is to own Apps; "": the person who agrees
}

var orgName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,38}$`)

// NewGitHubSite takes the addresses of the web site, as https://github.com, and of the API; api "" is that of the site.
func NewGitHubSite(web, api, org string) (*GitHubSite, error) {
	if api == "" {
		api = DefaultURL(GitHub, web)
	}
	site, err := parseBase(web)
	if err != nil {
		return nil, fmt.Errorf("read the address of GitHub: %w", err)
	}
	base, err := parseBase(api)
	if err != nil {
		return nil, err
	}
	if org != "" && !orgName.MatchString(org) {
		return nil, fmt.Errorf("%q is no name of an organization", org)
	}

	return &GitHubSite{web: site, api: base, Org: org}, nil
}

// formAction is where the manifest is posted to.
func (g *GitHubSite) formAction(state string) string {
	path := "settings/apps/new"
	if g.Org != "" {
		path = "organizations/" + g.Org + "/settings/apps/new"
	}
	return g.web.String() + path + "?state=" + url.QueryEscape(state)
}

var appCode = regexp.MustCompile(`^[A-Za-z0-9_-]{1,200}$`)

// exchange asks for the App that a code stands for: https://docs.github.com/en/rest/apps/apps#create-a-github-app-from-a-manifest.
// GitHub answers once to each code, within an hour.
func (g *GitHubSite) exchange(ctx context.Context, code string) (*MadeApp, error) {
	if !appCode.MatchString(code) {
		return nil, errors.New("GitHub sent the browser back without a code")
	}

	var got struct {
		ID            int64  `json:"id"`
		Slug          string `json:"slug"`
		HTMLURL       string `json:"html_url"`
		PEM           string `json:"pem"`
		WebhookSecret string `json:"webhook_secret"`
	}

	anonymous := func(context.Context, http.Header) error { return nil }
	if err := rest.New(g.api, anonymous).Ask(ctx, http.MethodPost, "app-manifests/"+code+"/conversions", nil, &got); err != nil {
		return nil, fmt.Errorf("exchange the code for the App: %w", err)
	}

	m := &MadeApp{ID: got.ID, Slug: plain.Line(got.Slug, 100), Page: plain.Line(got.HTMLURL, 300), Key: got.PEM, WebhookSecret: got.WebhookSecret}
	if m.ID <= 0 || !strings.HasPrefix(m.Page, g.web.String()) {
		return nil, errors.New("exchange the code for the App: GitHub's answer lacks its id, or its page")
	}
	if err := m.App().Check(); err != nil {
		return nil, fmt.Errorf("exchange the code for the App: %w", err)
	}

	return m, nil
}

// SetWebhook has GitHub sign the App's deliveries with secret:
// https://docs.github.com/en/rest/apps/webhooks#update-a-webhook-configuration-for-an-app.
func (g *GitHubSite) SetWebhook(ctx context.Context, m *MadeApp, address, secret string) error {
	config := map[string]string{"url": address, "content_type": "json", "secret": secret, "insecure_ssl": "0"}
	err := newInstallation(g.api, m.App(), "", "").web.Ask(ctx, http.MethodPatch, "app/hook/config", config, nil)
	if err != nil {
		return fmt.Errorf("give the App's webhook the secret of the deployer: %w", err)
	}
	return nil
}
