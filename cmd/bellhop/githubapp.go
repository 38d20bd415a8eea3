package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"

	"bellhop/internal/durable"
	"bellhop/internal/forge"
	"bellhop/internal/page"
	"bellhop/secrets/privatefile"
)

// githubAppFile is the GitHub App that bellhop hook github-app made, in the state directory.
const githubAppFile = "github-app.json"

// An appOptions says what App is wanted, and where its form is served.
type appOptions struct {
	stateDir, repo, api, org, listen string
	webhookSecret                    string // the file; "": the server's own
	manifest                         forge.AppManifest
}

func githubAppCmd(e *Env) *cobra.Command {
	var o appOptions
	c := &cobra.Command{
		Use: "github-app", Short: "Make a GitHub App, by which bellhop writes statuses and comments", Args: cobra.NoArgs,
		Long: `Make a GitHub App: print the address of a page, on which a person goes on to GitHub and agrees. The
App's key is stored in the state directory, where bellhop serve finds it. Over ssh, forward the port
of the page: ssh -L PORT:127.0.0.1:PORT BOX.`,
		Example: "  bellhop hook github-app --webhook https://bellhop.example.org/v1/webhook",
		RunE:    func(c *cobra.Command, _ []string) error { return makeGitHubApp(e, c.Context(), &o) },
	}
	stateDirFlag(c, &o.stateDir)
	c.Flags().StringVar(&o.repo, "repo", "", "the config repo, whose host is asked (default: github.com)")
	c.Flags().StringVar(&o.api, "forge-url", "", "base of the API (default: that of the repo's host)")
	c.Flags().StringVar(&o.org, "org", "", "organization that owns the App (default: who agrees on GitHub)")
	c.Flags().StringVar(&o.manifest.Name, "name", "", "name of the App, unique on GitHub (default: bellhop- and the name of this machine)")
	c.Flags().StringVar(&o.manifest.Webhook, "webhook", "", "address at which GitHub reaches the webhook listener, as https://…/v1/webhook (default: the App has no webhook)")
	c.Flags().StringVar(&o.manifest.Home, "public-url", "", "address at which people reach the page (default: GitHub's own)")
	secretFileFlag(c, &o.webhookSecret, "webhook-secret", "", "file with the webhook's secret (default: the server's own)")
	// It is no --listen: BELLHOP_LISTEN is where the server listens.
	c.Flags().StringVar(&o.listen, "page-listen", "127.0.0.1:0", "loopback address of the page")
	return c
}

func makeGitHubApp(e *Env, ctx context.Context, o *appOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	site, err := o.site()
	if err != nil {
		return err
	}
	st, err := stateForApp(o.stateDir)
	if err != nil {
		return err
	}
	if err := o.findWebhookSecret(ctx, st); err != nil {
		return err
	}
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return fmt.Errorf("serve the page: %w", err)
	}
	form := forge.NewAppForm(site, o.manifest, l.Addr().String(), func(ctx context.Context, m *forge.MadeApp) error {
		return storeGitHubApp(ctx, site, st, m, o.manifest.Webhook)
	})

	web := &http.Server{Handler: form, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = web.Serve(l) }()
	fmt.Fprintf(e.Stdout, "open this page in a browser on this machine: %s\n", form.Page())
	made, err := waitForApp(ctx, web, form)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.Stdout, "stored %s, with the key of the App %s\n\n1. install it on the repo: %s\n2. restart bellhop serve, without --forge-token: it finds the App\n3. bellhop doctor says whether GitHub takes what bellhop writes\n",
		st.path(githubAppFile), made.Slug, made.InstallPage())
	return nil
}

// waitForApp waits until an App is made and the browser has its answer. When ctx ends while a code is exchanged, that App is stored
// first: GitHub gives its key once. A second signal ends the process at once.
func waitForApp(ctx context.Context, web *http.Server, form *forge.AppForm) (*forge.MadeApp, error) {
	select {
	case <-ctx.Done():
	case <-form.Made():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	_ = web.Shutdown(ending)
	if made := form.Result(); made != nil {
		return made.App, made.Err
	}
	return nil, context.Cause(ctx)
}

// site is the GitHub on which the repo lies.
func (o *appOptions) site() (*forge.GitHubSite, error) {
	web, host := forge.Site(o.repo)
	if web == "" {
		web, host = "https://github.com", "github.com"
	}
	if kind := forge.Guess(host); kind != "" && kind != forge.GitHub {
		return nil, hint(fmt.Errorf("the repo is on %s, which is %s and has no such App", host, kind), "give bellhop serve a token: --forge-token FILE")
	}
	o.manifest.Home = cmp.Or(o.manifest.Home, web)
	return forge.NewGitHubSite(web, o.api, o.org)
}

// check refuses what GitHub would, and fills in the name.
func (o *appOptions) check() (err error) {
	if o.manifest.Home, err = page.ParsePublicURL(o.manifest.Home); err != nil {
		return err
	}
	hook, err := url.Parse(o.manifest.Webhook)
	isWeb := err == nil && (hook.Scheme == "https" || hook.Scheme == "http")
	hasPlace := isWeb && hook.Host != ""
	if o.manifest.Webhook != "" && !hasPlace {
		return errors.New("read --webhook: want the address of the webhook listener, as https://bellhop.example.org/v1/webhook")
	}
	host, _, err := net.SplitHostPort(o.listen)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return errors.New("read --page-listen: want a loopback address, as 127.0.0.1:8099: who opens the page decides which App is taken")
	}

	machine, _ := os.Hostname()
	name := cmp.Or(o.manifest.Name, "bellhop-"+machine)
	o.manifest.Name = name[:min(len(name), forge.MaxAppName)]
	return nil
}

// findWebhookSecret has the state say where the server reads the webhook's secret. A file that is not the default one is never made.
func (o *appOptions) findWebhookSecret(ctx context.Context, st *state) error {
	file := o.webhookSecret
	if o.manifest.Webhook != "" && file == "" {
		answer, err := askWebhook(ctx, o.stateDir)
		if err != nil {
			return hint(err, "give the file that the server reads: --webhook-secret FILE")
		}
		file = answer.SecretFile
	}
	if file == "" || file == st.webhookSecret {
		return nil
	}
	st.webhookSecret = file
	_, err := readWebhookSecret(file)
	return err
}

// stateForApp is a state directory that has no App yet.
func stateForApp(dir string) (*state, error) {
	st := newState(dir)
	if err := os.MkdirAll(st.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	if err := errors.Join(st.ours(), st.regular()); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(st.path(githubAppFile)); err == nil {
		return nil, hint(fmt.Errorf("an App was made already: %s", st.path(githubAppFile)), "if GitHub's deliveries are answered 401, paste the webhook secret (bellhop paste) into the App's settings; to make another App, delete this one on GitHub, and that file")
	}
	return st, nil
}

// storeGitHubApp writes the App into the state directory. Its webhook and the deployer's are to have one secret: the
// deployer's, if it has one.
func storeGitHubApp(ctx context.Context, site *forge.GitHubSite, st *state, m *forge.MadeApp, webhook string) error {
	isAgreed, err := true, error(nil)
	if webhook != "" { // before the App: a secret without an App harms nothing, and of an App without it all deliveries are refused
		isAgreed, err = agreeOnSecret(st, m)
	}
	if err == nil {
		err = writeMadeApp(st, m)
	}
	if err != nil {
		return hint(fmt.Errorf("store the App %s: %w", m.Slug, err), "its key is lost: delete the App on GitHub, and make it again")
	}
	if isAgreed {
		return nil
	}

	if err := site.SetWebhook(ctx, m, webhook, m.WebhookSecret); err != nil {
		return hint(err, "the App is stored; paste the webhook secret (bellhop paste) into its settings: %s", m.Page)
	}
	return nil
}

// agreeOnSecret gives the App the deployer's webhook secret, or stores GitHub's as that where there is none. isAgreed is false when
// GitHub signs with another as yet.
func agreeOnSecret(st *state, m *forge.MadeApp) (isAgreed bool, err error) {
	if _, err := privatefile.Make(st.webhookSecret, func() ([]byte, error) {
		if m.WebhookSecret == "" {
			return randomHex(32), nil
		}
		return []byte(m.WebhookSecret + "\n"), nil
	}); err != nil {
		return false, err
	}

	secret, err := readWebhookSecret(st.webhookSecret)
	isAgreed = string(secret) == m.WebhookSecret
	m.WebhookSecret = string(secret)
	return isAgreed, err
}

func writeMadeApp(st *state, m *forge.MadeApp) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	defer clear(text)
	return durable.WriteNew(st.path(githubAppFile), text, 0o600)
}

// takeMadeApp has the forge be told by the App in the state directory, if there is one and no flag names another login.
func (f *forgeFlags) takeMadeApp(repo string, st *state) error {
	hasLogin := f.token != "" || f.appID != "" || f.appKey != ""
	if hasLogin || f.kindOf(repo) != forge.GitHub {
		return nil
	}
	m, err := readMadeApp(st)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}

	f.made = m.App()
	f.made.Key = func() ([]byte, error) { // it does not stay in memory
		m, err := readMadeApp(st)
		if err != nil {
			return nil, err
		}
		return []byte(m.Key), nil
	}
	return nil
}

func readMadeApp(st *state) (*forge.MadeApp, error) {
	text, err := privatefile.Read(st.path(githubAppFile))
	if err != nil {
		return nil, err
	}
	defer clear(text)

	var m forge.MadeApp
	if json.Unmarshal(text, &m) != nil || m.ID <= 0 {
		return nil, hint(fmt.Errorf("%s does not hold an App", st.path(githubAppFile)), "remove it, and make the App again: bellhop hook github-app")
	}
	return &m, nil
}
