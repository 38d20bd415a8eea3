package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bellhop/deploy/follow"
	"bellhop/internal/forge"
	"bellhop/internal/history"
	"bellhop/internal/nixos"
	"bellhop/secrets/privatefile"
	"bellhop/server"
)

// The forge: which one it is, and how the server tells it what came of a push.

// A forgeFlags is what serve is told of the forge.
type forgeFlags struct {
	kind          string     // github, forgejo …; "": guessed from the repo's host
	url           string     // base of the API; "": that of the repo's host
	token         string     // file; "": the forge is told nothing
	appID, appKey string     // a GitHub App in place of a token, and the file with its key
	forks         bool       // requests from forks are planned too
	nixOS         bool       // NixOS systems of requests are evaluated
	made          *forge.App // that of the state directory, where no flag names another login; nil: none
	comments      string     // what comments in requests say: full, summary or off; "": as the repo is private or public
}

func (f *forgeFlags) flags(c *cobra.Command) {
	c.Flags().StringVar(&f.kind, "forge", "", "what the repo's host is: "+forgeNames()+" (default: guessed from its name)")
	c.Flags().StringVar(&f.url, "forge-url", "", "base of the forge's API (default: that of the repo's host, as https://git.example.org/api/v1)")
	secretFileFlag(c, &f.token, "forge-token", "", "file with a token of the forge, by which commits get a status")
	c.Flags().StringVar(&f.appID, "github-app", "", "id of a GitHub App that is installed on the repo, in place of --forge-token")
	secretFileFlag(c, &f.appKey, "github-app-key", "", "file with the private key of --github-app")
	c.Flags().StringVar(&f.comments, "plan-comments", "", "the comment with the plan of a request to merge: full, summary or off (default: full, and summary where everybody can read the repo)")
	c.Flags().BoolVar(&f.forks, "plan-forks", false, "plan requests from forks too, which everybody who can read the repo may open")
	c.Flags().BoolVar(&f.nixOS, "plan-nixos", false, "evaluate the NixOS systems of requests, without a network: whoever may open one runs code of the Nix language here")
	_ = c.RegisterFlagCompletionFunc("plan-comments", cobra.FixedCompletions([]string{"full", "summary", "off"}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("forge", cobra.FixedCompletions(strings.Split(forgeNames(), ", "), cobra.ShellCompDirectiveNoFileComp))
}

// forgeNames are the forges that --forge may name: those that can be told what came of a commit, and those whose
// webhooks alone are read.
func forgeNames() string {
	names := strings.Split(forge.Kinds(), ", ")
	for _, name := range server.Forges() {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// kindOf is the forge on which repo lies; "" when nothing tells.
func (f *forgeFlags) kindOf(repo string) forge.Kind {
	if f.kind != "" {
		return forge.Kind(f.kind)
	}
	_, host := forge.Site(repo)
	return forge.Guess(host)
}

// isGiven says that the forge is to be told something.
func (f *forgeFlags) isGiven() bool {
	return f.made != nil || slices.ContainsFunc([]string{f.kind, f.url, f.token, f.appID, f.appKey}, func(s string) bool { return s != "" })
}

// open makes the client of the forge on which repo lies, and asks it nothing. name is OWNER/NAME, as webhooks have it; ""
// takes it from the repo. nil: the forge is told nothing.
func (f *forgeFlags) open(repo, name string) (*forge.Client, error) {
	if !f.isGiven() {
		return nil, nil
	}

	kind := f.kindOf(repo)
	if err := f.check(kind); err != nil {
		return nil, err
	}
	saysHow := kind == forge.GitLab || !forge.IsKind(string(kind)) // webhooks are read
	if saysHow && f.token == "" && f.url == "" {
		return nil, nil
	}

	if name == "" {
		name = server.RepoPath(repo)
	}
	if !strings.Contains(name, "/") {
		return nil, hint(errors.New("--forge: --repo names no OWNER/NAME"), "give --webhook-repo OWNER/NAME")
	}
	api := f.url
	if api == "" {
		site, _ := forge.Site(repo)
		if site == "" {
			return nil, hint(errors.New("--forge: --repo is on this machine, so it does not tell where the forge is"), "give --forge-url")
		}
		api = forge.DefaultURL(kind, site)
	}

	cfg := forge.Config{Kind: kind, URL: api, Repo: name}
	if err := f.login(&cfg); err != nil {
		return nil, err
	}
	c, err := forge.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("--forge: %w", err)
	}
	return c, nil
}

// check says what is wrong with the flags together.
func (f *forgeFlags) check(kind forge.Kind) error {
	switch {
	case kind == "":
		return hint(errors.New("the host of --repo does not tell which forge it is"), "give --forge, one of %s", forgeNames())
	case !slices.Contains(strings.Split(forgeNames(), ", "), string(kind)):
		return fmt.Errorf("read --forge %s: want one of %s", f.kind, forgeNames())
	case (f.appID == "") != (f.appKey == ""):
		return errors.New("--github-app ID and --github-app-key FILE belong together: give both")
	case f.appID != "" && f.token != "":
		return errors.New("--github-app and --forge-token contradict each other: give one")
	case f.appID != "" && kind != forge.GitHub:
		return fmt.Errorf("--github-app: the forge is %s, which has no such App", kind)
	case f.appID != "", f.made != nil:
	case f.token == "" && f.url == "" && kind == forge.GitLab: // webhooks need no token
	case f.token == "":
		return hint(errors.New("--forge: no token is given, so the forge could not be told anything"), "give --forge-token FILE or BELLHOP_FORGE_TOKEN_FILE, or --github-app; see docs/forge.md for the rights that it needs")
	}
	return nil
}

// login has cfg log in by a token, or by an App. What is wrong with either is told at the start.
func (f *forgeFlags) login(cfg *forge.Config) (err error) {
	if f.made != nil {
		cfg.App = f.made
		return cfg.App.Check()
	}
	if f.appID == "" {
		cfg.Token, err = f.readToken()
		return err
	}

	path, err := filepath.Abs(f.appKey)
	if err != nil {
		return err
	}
	cfg.App = &forge.App{ID: f.appID, Key: func() ([]byte, error) { return privatefile.Read(path) }}
	if err := cfg.App.Check(); err != nil {
		return fmt.Errorf("--github-app: %w", err)
	}
	return nil
}

// readToken reads the token once, so that an error is told at the start, and returns what reads it for each request: one that
// is replaced needs no restart.
func (f *forgeFlags) readToken() (func() (string, error), error) {
	path, err := filepath.Abs(f.token)
	if err != nil {
		return nil, err
	}

	read := func() (string, error) {
		b, err := privatefile.Read(path)
		if err != nil {
			return "", fmt.Errorf("read the forge's token: %w", err)
		}
		token := strings.TrimSpace(string(b))
		if token == "" || strings.ContainsAny(token, " \t\r\n") {
			return "", fmt.Errorf("read the forge's token: %s does not hold one token", path)
		}
		return token, nil
	}
	_, err = read()
	return read, err
}

// A forgeWork tells the forge what came of commits.
type forgeWork struct {
	kind   string        // as whose webhooks are read; "" is github
	client *forge.Client // nil: there is no forge that is told something
	events chan struct{} // has room for one: something happened in a run

	troubles forge.Troubles // what the forge refuses
	digests  forge.Digests  // of the plans by which commits were deployed

	plansRequests bool
	isFull        *bool         // comments name each change; nil: unless everybody can read the repo
	requests      chan struct{} // has room for one: a request may have changed
	looked        chan struct{} // has room for one: the repo was looked at
	forks, nixOS  bool
}

// newForgeWork opens the forge, and hears the deployer's events from now on.
func newForgeWork(o *serveOptions, h *app) (*forgeWork, error) {
	d := h.deployer
	if err := o.forge.takeMadeApp(o.repo, h.state); err != nil {
		return nil, err
	}
	client, err := o.forge.open(o.repo, o.webhookRepo)
	kind := string(o.forge.kindOf(o.repo))
	isOn, isFull, cerr := forge.ReadComments(o.forge.comments)
	plansNothing := err == nil && (client == nil || !isOn)
	switch {
	case cerr != nil:
		return nil, cerr
	case o.forge.comments != "" && client == nil && err == nil:
		return nil, hint(errors.New("--plan-comments: no forge is told anything"), "give --forge-token FILE")
	case (o.forge.forks || o.forge.nixOS) && plansNothing:
		return nil, hint(errors.New("--plan-forks and --plan-nixos: no request is planned"), "give --forge-token FILE, and no --plan-comments off")
	case o.forge.nixOS && !nixos.Installed():
		return nil, fmt.Errorf("--plan-nixos: %w", nixos.ErrNoNix)
	}
	if err != nil || client == nil {
		return &forgeWork{kind: kind}, err
	}

	w := &forgeWork{kind: kind, client: client, events: make(chan struct{}, 1), plansRequests: isOn, isFull: isFull, forks: o.forge.forks, nixOS: o.forge.nixOS, requests: make(chan struct{}, 1), looked: make(chan struct{}, 1)}
	d.Planned = w.digests.Add
	before := d.Progress
	d.Progress = func(e follow.Event) {
		if e.Host == "" {
			wake(w.events)
		}
		if e.Host == "" && e.Step == "end" {
			wake(w.looked)
		}
		if before != nil {
			before(e)
		}
	}
	return w, nil
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// requested is what a delivery about a request calls; nil when requests are not planned.
func (w *forgeWork) requested() func() {
	if w.client == nil || !w.plansRequests {
		return nil
	}
	return func() { wake(w.requests) }
}

// run reports until ctx ends.
func (w *forgeWork) run(ctx context.Context, h *app, o *serveOptions, log *slog.Logger) {
	if w.client == nil {
		<-ctx.Done()
		return
	}

	queued := h.history.Outgoing().Listen()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-queued:
				wake(w.events)
			}
		}
	}()

	r := forge.Reporter{
		Client: w.client, History: h.history, Marks: h.history.Outgoing(), Pause: h.history.Pauses().Now,
		SyncError: h.deployer.SyncError, RunURL: o.runURL, Changed: w.events, Deployed: w.digests.Of, Troubles: &w.troubles, Log: log,
	}
	r.Run(ctx)
}

var _ forge.History = (*history.DB)(nil)

// A forgeAnswer is what the server says of its forge.
type forgeAnswer struct {
	Name     string          `json:"name"` // host and repo; "": no forge is told anything
	Troubles []forge.Trouble `json:"troubles"`
}

func (w *forgeWork) answer() forgeAnswer {
	if w.client == nil {
		return forgeAnswer{Troubles: []forge.Trouble{}}
	}
	return forgeAnswer{Name: w.client.Name(), Troubles: w.troubles.Now()}
}
