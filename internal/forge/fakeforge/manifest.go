package fakeforge

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// A Manifest is that of an App, as GitHub documents it.
type Manifest struct {
	Name  string `json:"name"`
	URL   string `json:"url"`
	Hooks *struct {
		URL    string `json:"url"`
		Active *bool  `json:"active"`
	} `json:"hook_attributes"`
	RedirectURL  string            `json:"redirect_url"`
	CallbackURLs []string          `json:"callback_urls"`
	SetupURL     string            `json:"setup_url"`
	Description  string            `json:"description"`
	Public       bool              `json:"public"`
	Events       []string          `json:"default_events"`
	Permissions  map[string]string `json:"default_permissions"`
	OAuth        bool              `json:"request_oauth_on_install"`
	SetupUpdate  bool              `json:"setup_on_update"`
}

// An appMaking is an App on its way: somebody agreed to its manifest, and its code was not exchanged yet.
type appMaking struct {
	code     string
	manifest Manifest
	hook     map[string]string // the webhook's configuration, when it was set
}

// ManifestCode is the code that GitHub gives to a browser.
const ManifestCode = "a180b1a3d263c81bc6441d7b990bae27d4c10679"

// HookSecret is what GitHub makes for the webhook of an App.
const HookSecret = "e340154128314309424b7c8e90325147d99fdafa"

// Manifest is that of the App which was made last, and Hook what its webhook was set to.
func (f *Forge) Manifest() (Manifest, map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.making.manifest, f.making.hook
}

var newAppPath = regexp.MustCompile(`^(/organizations/[A-Za-z0-9-]+)?/settings/apps/new$`)

// answerManifest answers what makes an App; false when the request is another. Whoever posts a manifest agrees to it at once.
func (f *Forge) answerManifest(w http.ResponseWriter, r *http.Request) bool {
	f.mu.Lock()
	defer f.mu.Unlock()

	code, isExchange := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/app-manifests/"), "/conversions")
	isPost := r.Method == http.MethodPost
	isGood := isExchange && f.making.code != "" && code == f.making.code
	switch {
	case f.kind != "github":
		return false
	case isPost && newAppPath.MatchString(r.URL.Path):
		f.agree(w, r)
	case isPost && isGood:
		f.making.code = "" // it is good for one exchange
		f.makeApp(w)
	case isPost && isExchange:
		fail(w, http.StatusNotFound, "Not Found")
	case r.Method == http.MethodPatch && r.URL.Path == "/app/hook/config":
		f.setHook(w, r)
	default:
		return false
	}

	return true
}

func (f *Forge) agree(w http.ResponseWriter, r *http.Request) {
	var m Manifest
	d := json.NewDecoder(strings.NewReader(r.PostFormValue("manifest")))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		f.faults = append(f.faults, "manifest: "+err.Error())
		fail(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	if err := m.check(); err != nil {
		f.faults = append(f.faults, "manifest: "+err.Error())
		fail(w, http.StatusUnprocessableEntity, err.Error())
		return
	}

	f.making = appMaking{code: ManifestCode, manifest: m}
	back := url.Values{"code": {ManifestCode}, "state": {r.URL.Query().Get("state")}}
	w.Header().Set("Location", m.RedirectURL+"?"+back.Encode())
	w.WriteHeader(http.StatusFound)
}

// eventRights are the rights without which GitHub tells nothing of an event.
var eventRights = map[string]string{"push": "contents", "pull_request": "pull_requests"}

func (m *Manifest) check() error {
	switch {
	case m.Name == "" || len(m.Name) > 34:
		return fmt.Errorf("name is missing or too long (maximum is 34 characters)")
	case !strings.HasPrefix(m.URL, "http"), !strings.HasPrefix(m.RedirectURL, "http"):
		return fmt.Errorf("url and redirect_url must be addresses")
	case m.Hooks != nil && !strings.HasPrefix(m.Hooks.URL, "http"):
		return fmt.Errorf("hook url cannot be blank")
	case len(m.Events) > 0 && m.Hooks == nil:
		return fmt.Errorf("default events are not supported without a hook")
	}

	for what, level := range m.Permissions {
		if !slices.Contains([]string{"read", "write"}, level) {
			return fmt.Errorf("permission %s of %s", level, what)
		}
	}

	for _, event := range m.Events {
		if m.Permissions[eventRights[event]] == "" {
			return fmt.Errorf("default events %s needs the right %q", event, eventRights[event])
		}
	}

	return nil
}

// makeApp answers with an App, and installs it.
func (f *Forge) makeApp(w http.ResponseWriter) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		fail(w, http.StatusInternalServerError, err.Error())
		return
	}

	f.app = &app{id: "4711", key: &key.PublicKey}

	m := f.making.manifest
	var secret any
	if m.Hooks != nil {
		secret = HookSecret
	}

	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"id": 4711, "slug": appSlug, "node_id": "MDxOkludGVncmF0aW9uMQ==", "owner": map[string]any{"login": "cadey", "id": 1},
		"name": m.Name, "description": m.Description, "external_url": m.URL, "html_url": f.URL + "/apps/" + appSlug,
		"created_at": "2026-01-02T03:04:05Z", "updated_at": "2026-01-02T03:04:05Z", "permissions": m.Permissions, "events": m.Events,
		"client_id": "Iv1.8a61f9b3a7aba766", "client_secret": "1726be1638095a19edd134c77bde3aa2ece1e5d8", "webhook_secret": secret,
		"pem": string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
	})
}

func (f *Forge) setHook(w http.ResponseWriter, r *http.Request) {
	var body struct {
		URL      string `json:"url"`
		Type     string `json:"content_type"`
		Secret   string `json:"secret"`
		Insecure string `json:"insecure_ssl"`
	}
	if f.app == nil || f.app.verify(r.Header.Get("Authorization")) != nil {
		fail(w, http.StatusUnauthorized, "A JSON web token could not be decoded")
		return
	}
	if err := decode(r, &body); err != nil {
		f.faults = append(f.faults, "hook: "+err.Error())
		fail(w, http.StatusUnprocessableEntity, err.Error())
		return
	}

	f.making.hook = map[string]string{"url": body.URL, "content_type": body.Type, "secret": body.Secret, "insecure_ssl": body.Insecure}
	answer := map[string]string{"url": body.URL, "content_type": body.Type, "secret": "********", "insecure_ssl": body.Insecure}
	_ = json.NewEncoder(w).Encode(answer)
}
