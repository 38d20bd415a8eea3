package main

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/crypto/ssh"

	"bellhop/deploy"
	"bellhop/deploy/commits"
	"bellhop/deploy/routes"
	"bellhop/gitsync"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/link"
	"bellhop/internal/mask"
	"bellhop/internal/nixhosts"
	"bellhop/internal/trace"
	"bellhop/secrets"
	"bellhop/secrets/agefile"
	"bellhop/server"
)

// The shared wiring: how packages are put together into a deployer. A server and a command that does the work
// itself are the same here; both hold the one lock of the state directory.

// A deployerFlags is what every verb that may do the work itself can be told.
type deployerFlags struct {
	stateDir, repo, branch, path string
	identities, repoHostKeys     []string
	sshKey, repoKey, rewritten   string
	plugins                      []string
	load                         loadFlags
	nix                          nixFlags
	trace                        string // file for the spans of runs; "": none
	tracesHere                   bool   // it was typed

	serves        bool   // it is a server that opens them: it makes the default files that are missing
	webhookSecret string // the file that a server was told
	urlToken      string // what stood before the @ of --repo

	own []*pflag.Flag // what a running server has its own of
}

// flags are added before those of the verb itself.
func (f *deployerFlags) flags(c *cobra.Command) {
	f.ownFlags(c)
	c.Flags().VisitAll(func(g *pflag.Flag) {
		if g.Name != "state-dir" {
			f.own = append(f.own, g)
		}
	})
	serverFlag(c)
}

// ownFlags are those of a verb that is nobody else's to do.
func (f *deployerFlags) ownFlags(c *cobra.Command) {
	stateDirFlag(c, &f.stateDir)
	c.Flags().StringVar(&f.repo, "repo", "", "the config repo: https://…, git@host:path, ssh://… or a path")
	c.Flags().StringVar(&f.branch, "branch", "main", "the branch that is deployed")
	c.Flags().StringVar(&f.path, "path", ".", "the config's folder in a larger repo")
	c.Flags().StringSliceVar(&f.identities, "identity", nil, "age identity file; repeatable (default: identity.age in the state directory)")
	if err := c.Flags().SetAnnotation("identity", secretFile, []string{"1"}); err != nil {
		panic(err)
	}

	secretFileFlag(c, &f.sshKey, "ssh-key", "", "SSH private key for hosts (default: ssh_ed25519 in the state directory)")
	secretFileFlag(c, &f.repoKey, "repo-key", "", "SSH private key for the repo (default: the one for hosts)")
	c.Flags().StringArrayVar(&f.repoHostKeys, "repo-host-key", nil, "host key of the git server, as a line of authorized_keys; repeatable (GitHub's are known)")
	c.Flags().StringVar(&f.rewritten, "rewritten", "follow", "when the branch's history was rewritten: follow or refuse")
	_ = c.RegisterFlagCompletionFunc("rewritten", cobra.FixedCompletions([]string{"follow", "refuse"}, cobra.ShellCompDirectiveNoFileComp))
	f.load.flags(c)
	f.nix.flags(c)
	c.Flags().StringSliceVar(&f.plugins, "allow-plugin", nil, "absolute path of an age plugin that may be run; repeatable")
}

// dialServer finds the running server; nil when none runs. The server works by flags of its own. One
// that was typed here is not heeded, and that is said; a branch that the server does not deploy is
// an error, since something else than what was asked for would be done.
func dialServer(e *Env, ctx context.Context, f *deployerFlags) (*server.Client, error) {
	client, err := dialFor(e, f)
	if client == nil || err != nil || !f.isTyped("branch") {
		return client, err
	}

	a, err := server.Call[webhookAnswer](ctx, client, "webhook", struct{}{}, nil)
	if err == nil && a.Branch != f.branch {
		err = hint(fmt.Errorf("the server that runs on %s deploys branch %s, not %s", f.stateDir, a.Branch, f.branch), "see what another branch would change: bellhop plan --branch %s", f.branch)
	}

	if err != nil {
		client.Close()
		return nil, err
	}

	return client, nil
}

// dialFor is dialServer for a verb that tells the server itself what some flags say.
func dialFor(e *Env, f *deployerFlags, heeded ...string) (*server.Client, error) {
	client, err := dial(f.stateDir)
	if client == nil || err != nil {
		return nil, err
	}
	typed := slices.DeleteFunc(f.typed(), func(name string) bool { return slices.Contains(heeded, strings.TrimPrefix(name, "--")) })
	if len(typed) > 0 {
		fmt.Fprintf(e.Stderr, "bellhop: the server that runs on %s has its own %s; those given here are for work without one\n", f.stateDir, strings.Join(typed, " "))
	}
	return client, nil
}

// isTyped says whether the command line has a flag.
func (f *deployerFlags) isTyped(name string) bool { return slices.Contains(f.typed(), "--"+name) }

// typed lists the flags of the command line that are only for work without a server.
func (f *deployerFlags) typed() (names []string) {
	for _, g := range f.own {
		if g.Changed {
			names = append(names, "--"+g.Name)
		}
	}
	return names
}

func (f *deployerFlags) state() *state {
	st := newState(f.stateDir)
	if f.sshKey != "" {
		st.sshKey = f.sshKey
	}
	if len(f.identities) > 0 {
		st.identity = f.identities[0]
	}
	if f.webhookSecret != "" {
		st.webhookSecret = f.webhookSecret
	}
	return st
}

// takeToken takes the login out of a web address, as git does: the password, or the user where that
// is all there is. From here on nothing that is told or stored of the repo holds it.
func (f *deployerFlags) takeToken() {
	u, err := url.Parse(f.repo)
	isWeb := err == nil && (u.Scheme == "https" || u.Scheme == "http")
	if !isWeb || u.User == nil {
		return
	}

	password, hasPassword := u.User.Password()
	switch name := u.User.Username(); {
	case hasPassword && password != "" && password != "x-oauth-basic":
		f.urlToken = password
	case name != "git":
		f.urlToken = name
	}

	u.User = nil
	f.repo = u.String()
}

// An app is what a deployer is made of, open: keys, repo, connections, history.
type app struct {
	state      *state
	made       []string // files of the state directory that were not there
	signer     ssh.Signer
	ids        *agefile.Identities
	repo       *gitsync.Repo
	repoConfig gitsync.Config // of repo
	branch     string         // that is deployed
	path       string         // the config's folder in the repo
	pool       *link.Pool
	history    *history.DB
	deployer   *deploy.Deployer
	nix        *nixhosts.Hosts // of the deployer
	close      []func() error
}

// Close closes its parts, the last opened first.
func (h *app) Close() error {
	var errs []error
	for i := len(h.close) - 1; i >= 0; i-- {
		errs = append(errs, h.close[i]())
	}
	h.close = nil
	return errors.Join(errs...)
}

// open takes the lock and opens an app.
func (f *deployerFlags) open(e *Env, log *slog.Logger) (_ *app, err error) {
	h := &app{state: f.state(), branch: f.branch, path: f.path}
	defer func() {
		if err != nil {
			h.Close()
		}
	}()
	if f.repo == "" {
		return nil, hint(errors.New("no repo is given"), "give --repo URL or BELLHOP_REPO; or ask a running server with --state-dir or --server ssh://BOX")
	}

	f.takeToken()
	if h.made, err = h.state.prepare(f.serves); err != nil {
		return nil, err
	}
	if err := h.state.complete(); err != nil {
		return nil, err
	}

	unlock, err := deploy.Lock(h.state.dir)
	if err != nil {
		return nil, err
	}

	h.close = append(h.close, unlock)
	if h.signer, err = h.state.signer(); err != nil {
		return nil, err
	}
	if h.ids, err = f.openIdentities(e, h.state); err != nil {
		return nil, err
	}
	if h.repo, err = f.openRepo(e, h); err != nil {
		return nil, err
	}
	if h.history, err = history.Open(h.state.path("bellhop.db")); err != nil {
		return nil, err
	}

	h.close = append(h.close, h.history.Close)
	h.pool = link.NewPool(link.Config{Signers: func() ([]ssh.Signer, error) { return []ssh.Signer{h.signer}, nil }, Log: log})
	h.close = append(h.close, h.pool.Close)
	if h.deployer, err = h.newDeployer(f, log); err != nil {
		return nil, err
	}

	return h, f.openTrace(h)
}

// openTrace begins the trace that was asked for.
func (f *deployerFlags) openTrace(h *app) error {
	if f.trace == "" {
		return nil
	}
	file, err := trace.Create(f.trace)
	if err != nil {
		return err
	}
	h.deployer.Trace = file
	h.close = append(h.close, file.Close)
	return nil
}

// openIdentities loads the deployer's identities; a passphrase is asked for now, since later
// nobody is there.
func (f *deployerFlags) openIdentities(e *Env, st *state) (*agefile.Identities, error) {
	files := f.identities
	if len(files) == 0 {
		files = []string{st.identity}
	}

	ids, err := agefile.Sources{Files: files, Passphrase: e.passphrase, Plugins: agefile.Plugins{Allow: f.plugins}}.Load()
	if err != nil {
		return nil, err
	}
	if err := ids.Unlock(); err != nil {
		return nil, hint(fmt.Errorf("unlock the deployer's identity: %w", err), "its passphrase is asked for at a terminal, or read from the file BELLHOP_PASSPHRASE_FILE")
	}

	return ids, nil
}

func (f *deployerFlags) openRepo(e *Env, h *app) (*gitsync.Repo, error) {
	token, err := e.secretEnv("BELLHOP_REPO_TOKEN")
	if err != nil {
		return nil, err
	}

	token = cmp.Or(token, f.urlToken)
	if e.Getenv("BELLHOP_TRUST") != "" { // as a flag it is unknown; here it must not pass unseen
		return nil, hint(errors.New("BELLHOP_TRUST is set, and this bellhop checks no signatures"), "protect the branch at the git host, and unset BELLHOP_TRUST")
	}

	cfg := gitsync.Config{URL: f.repo, Branch: f.branch, Path: f.path, Dir: h.state.path("repo.git"), Token: token,
		HostKeys: f.repoHostKeys, Rewritten: gitsync.Rewritten(f.rewritten)}
	if f.repoKey != "" {
		cfg.KeyFile = f.repoKey
	} else {
		cfg.Signer = h.signer
	}

	h.repoConfig = cfg
	return gitsync.Open(cfg)
}

func (h *app) newDeployer(f *deployerFlags, log *slog.Logger) (*deploy.Deployer, error) {
	digest, err := h.state.digestKey()
	if err != nil {
		return nil, err
	}

	loader := f.load.loader()
	loader.Open, loader.KeyDigest = h.openSecret, keyDigest(digest)
	h.close = append(h.close, loader.Close)
	h.nix = nixhosts.New(h.state.path("nix"), f.nix.ifd, f.nix.keyCommand)
	loader.Systems, loader.SystemsAside = h.nix.Systems, h.nix.SystemsAside
	h.close = append(h.close, h.nix.Close)
	d := &deploy.Deployer{
		Source:  commits.From(h.repo),
		Loader:  loader,
		Check:   pushCheck(loader, &f.load),
		Links:   routes.Over(h.pool),
		Nix:     h.nix.Nix,
		History: h.history,
		ID:      ssh.FingerprintSHA256(h.signer.PublicKey()),
		Branch:  f.branch,
		Log:     log,
		Cache:   h.state.path("cache"),
		Filter:  mask.Of,
	}
	h.nix.On = d.On
	return d, nil
}

// openSecret opens an age file of a tree. What the rules know of a file that does not open
// is told with it.
func (h *app) openSecret(tree fs.FS, path string) ([]byte, error) {
	sealed, err := fs.ReadFile(tree, path)
	if err != nil {
		return nil, err
	}
	value, err := h.ids.Open(path, sealed)
	if err != nil {
		// A secret is opened for a bundle, so a loader has read this bellhop.yaml before.
		if readers, rerr := fleet.ReadReaders(context.Background(), tree); rerr == nil {
			err = asRules(readers).Explain(err)
		}
		return nil, err
	}

	return value, nil
}

// keyDigest tells values apart for planning: keyed, since a bare hash of a short secret is
// the secret.
func keyDigest(key []byte) func([]byte) string {
	return func(value []byte) string {
		mac := hmac.New(sha256.New, key)
		mac.Write(value)
		return hex.EncodeToString(mac.Sum(nil))
	}
}

// pushCheck finds what refuses a push beside the config, within the time that loading may take. It
// reads who may read what by the loader.
func pushCheck(l *fleet.Loader, load *loadFlags) func(ctx context.Context, old, new commits.Snapshot) fleet.Problems {
	return func(ctx context.Context, old, new commits.Snapshot) fleet.Problems {
		ctx, cancel := load.context(ctx)
		defer cancel()

		readers, err := l.Readers(ctx, new.Tree)
		found := secrets.CheckPush(ctx, old.Tree, new.Tree, asRules(readers))
		if err != nil { // the config's own problems say so; which private keys it allows, nobody knows
			found = slices.DeleteFunc(found, func(f secrets.Finding) bool { return f.Rule == secrets.PrivateKey })
		}

		return findingProblems(found)
	}
}
