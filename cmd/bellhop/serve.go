package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"bellhop/deploy"
	"bellhop/deploy/bell"
	"bellhop/deploy/follow"
	"bellhop/deploy/testbranch"
	"bellhop/gitsync"
	"bellhop/internal/history"
	"bellhop/internal/metrics"
	"bellhop/internal/nixhosts"
	"bellhop/internal/page"
	"bellhop/internal/runplans"
	"bellhop/secrets"
	"bellhop/secrets/privatefile"
	"bellhop/server"
)

// The server: an app, the trigger queue, and the listeners.

type serveOptions struct {
	deployerFlags
	listen, admin, adminToken string
	adminOpen                 bool
	trustProxy                []string
	webhookRepo, ringGroup    string
	poll                      time.Duration
	pollByHand                bool
	logLevel                  string
	forge                     forgeFlags
	publicURL                 string          // of the page; "": it has none that others could use
	gap                       time.Duration   // between runs that were rung for; 0 is the bell's own
	testing                   bool            // systems of branches testing-HOST are tried
	hold                      <-chan struct{} // nothing is looked at before it is closed; nil: at once
}

func serveCmd(e *Env) *cobra.Command {
	var o serveOptions
	c := &cobra.Command{
		Use: "serve --repo URL", Short: "Run the server: wait for pushes and deploy them", GroupID: groupServer, Args: cobra.NoArgs,
		Long: `Run the server: it waits for pushes to the branch and deploys them. If the state directory is empty,
it makes an age identity, an SSH key, a webhook secret and a digest key, prints the lines to paste,
and waits for the repo. A token for https is read from BELLHOP_REPO_TOKEN or from the file
BELLHOP_REPO_TOKEN_FILE.`,
		Example: "  bellhop serve --repo git@github.com:cadey/hexagone.git",
		RunE: func(c *cobra.Command, _ []string) error {
			o.pollByHand = c.Flags().Changed("poll") || e.Getenv("BELLHOP_POLL") != ""
			return runServe(e, c.Context(), &o)
		},
	}
	o.deployerFlags.ownFlags(c)
	c.Flags().StringVar(&o.listen, "listen", ":8080", "address of the webhook listener; off: none")
	c.Flags().StringVar(&o.admin, "admin", "127.0.0.1:8081", "address of the listener for the page, status and metrics; off: none")
	secretFileFlag(c, &o.adminToken, "admin-token", "", "file with the token of the admin listener (default: admin-token in the state directory)")
	c.Flags().BoolVar(&o.adminOpen, "admin-open", false, "no token for the admin listener, which must be on loopback")
	c.Flags().StringSliceVar(&o.trustProxy, "trust-proxy", nil, "CIDR of proxies whose X-Forwarded-For is trusted; repeatable")
	secretFileFlag(c, &o.webhookSecret, "webhook-secret", "", "file with the webhook's secret (default: webhook-secret in the state directory)")
	c.Flags().StringVar(&o.webhookRepo, "webhook-repo", "", "OWNER/NAME that deliveries must name (default: that of --repo)")
	c.Flags().StringVar(&o.ringGroup, "ring-group", "", "group that may trigger runs over ring.sock")
	c.Flags().DurationVar(&o.poll, "poll", 30*time.Second, "how often to ask the repo; 10 min after the webhook announced two pushes, unless set by hand; 0: never")
	o.forge.flags(c)
	c.Flags().StringVar(&o.publicURL, "public-url", "", "address at which people reach the page, for links in messages: https://…")
	traceFlag(c, &o.trace)
	c.Flags().BoolVar(&o.testing, "testing", false, "try what a branch testing-HOST has on that NixOS host, until the next boot, while it is on top of --branch")
	c.Flags().StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	return c
}

func runServe(e *Env, ctx context.Context, o *serveOptions) error {
	if err := secrets.Undumpable(); err != nil {
		return err
	}

	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return fmt.Errorf("read --log-level %s: want debug, info, warn or error", o.logLevel)
	}

	log := slog.New(slog.NewJSONHandler(e.Stderr, &slog.HandlerOptions{Level: level, ReplaceAttr: readable}))
	s, err := o.start(ctx, e, log)
	if errors.Is(err, deploy.ErrLocked) {
		return hint(err, "one server is enough: bellhop status asks the one that runs")
	} else if err != nil {
		return explain(err)
	}

	printPaste(e, s)
	log.Info("serving", "repo", o.repo, "branch", o.branch, "listen", s.address, "admin", s.adminAddress, "version", version())
	tellSystemd(e, "READY=1")
	<-s.done
	tellSystemd(e, "STOPPING=1")
	log.Info("stopping")
	return s.stop()
}

// readable writes a duration as people do, and leaves out an error that is none.
func readable(_ []string, a slog.Attr) slog.Attr {
	switch {
	case a.Value.Kind() == slog.KindDuration:
		a.Value = slog.StringValue(a.Value.Duration().String())
	case a.Key == "err" && a.Value.Kind() == slog.KindString && a.Value.String() == "":
		return slog.Attr{}
	}
	return a
}

// A serving is a server at work.
type serving struct {
	app                   *app
	bell                  *bell.Bell
	forge                 *forgeWork
	server                *server.Server
	page                  *page.Page
	plans                 runplans.Store // of runs, for the page
	secret                []byte         // of the webhook
	secretFile            string         // that it came from
	adminTokenFile        string         // of the admin listener; "": none is asked for
	branch, repo          string         // that its deliveries must name; repo "" is any
	address, adminAddress string         // where it listens; "" where it does not
	cancel                context.CancelFunc
	done                  chan struct{} // closed when something ended: by ctx, or by failing
	wait                  func() error
}

// start opens an app, listens, and goes to work until ctx ends or stop is called.
func (o *serveOptions) start(ctx context.Context, e *Env, log *slog.Logger) (_ *serving, err error) {
	o.serves = true
	if o.publicURL, err = page.ParsePublicURL(o.publicURL); err != nil {
		return nil, err
	}
	h, err := o.open(e, log)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			h.Close()
		}
	}()
	if h.deployer.Detach = true; o.testing {
		h.deployer.Testing = &testbranch.Finder{Repo: h.repo, Loader: h.deployer.Loader, Check: h.deployer.Check, Log: log}
	}
	telling, err := newForgeWork(o, h)
	if err != nil {
		return nil, err
	}
	s := &serving{app: h, forge: telling, bell: deploy.NewBell(h.deployer)}
	s.bell.Gap = o.gap
	h.nix.Patience, h.nix.Ended = nixhosts.ServerPatience, func() { s.bell.Ring("NixOS systems are built") }
	if s.secretFile, err = filepath.Abs(h.state.webhookSecret); err != nil {
		return nil, err
	}
	if s.secret, err = readWebhookSecret(s.secretFile); err != nil {
		return nil, err
	}
	if err := s.newServer(ctx, o, e, log); err != nil {
		return nil, err
	}

	on, err := o.listeners(h)
	if err != nil {
		return nil, err
	}

	s.address, s.adminAddress = addressOf(on.Public), addressOf(on.Admin)
	s.work(ctx, o, on, log)
	return s, nil
}

func readWebhookSecret(path string) ([]byte, error) {
	b, err := privatefile.Read(path)
	if err != nil {
		return nil, fmt.Errorf("read the webhook secret: %w", err)
	}
	return []byte(strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")), nil
}

func (s *serving) newServer(ctx context.Context, o *serveOptions, e *Env, log *slog.Logger) error {
	token, err := s.readAdminToken(o)
	if err != nil {
		return err
	}

	proxies, err := parseProxies(o.trustProxy)
	if err != nil {
		return err
	}
	if s.branch, s.repo = o.branch, o.webhookRepo; s.repo == "" {
		s.repo = server.RepoName(o.repo)
	}

	db := s.app.history
	known, err := db.Deliveries(ctx, 1000)
	if err != nil {
		return err
	}

	shown := metrics.New(metrics.Sources{
		Status: func(ctx context.Context) (history.Status, error) { return s.status(ctx) }, Waiting: db.Outgoing().Waiting,
		Deliveries: func() map[string]int64 { return s.server.Deliveries() }, Polls: func() int64 { return s.server.Polls() },
	})
	s.app.deployer.Took = shown.Took
	s.plans.Dir, s.plans.Log, s.plans.Kept = s.app.state.path("plans"), log, func() { s.page.Changed() }
	s.app.deployer.KeepPlan = s.plans.Keep
	s.page = s.newPage(log)
	s.app.deployer.Progress = tellPage(s.page, s.app.deployer.Progress)

	s.server, err = server.New(server.Config{
		Forge: s.forge.kind, Requests: s.forge.requested(), Secret: s.secret, Branch: s.branch, Testing: o.testing, Repo: s.repo, Bell: s.bell, Record: db, Known: known, Log: log,
		Holds: s.app.repo.Holds, Tested: func(branch string) string { return s.app.repo.Heads(branch)[""] }, TrustProxy: proxies, AdminToken: token, AdminOpen: o.adminOpen, AdminHosts: page.PublicHosts(o.publicURL),
		Status:  func(ctx context.Context) (any, error) { return s.status(ctx) },
		Metrics: shown.Handler(), Page: s.page,
		History: func(ctx context.Context, limit int) (any, error) { return db.Runs(ctx, limit) },
		Ready: func() error {
			if db.Top() == "" {
				return errors.New("no commit was read yet")
			}
			return nil
		},
		Notice: func(context.Context) string { return pauseNotice(db) },
		Follow: func(ctx context.Context, run string, emit func(any)) (any, error) { return s.follow(ctx, run, emit) },
	})
	if err != nil {
		return err
	}

	s.bell.Looked = s.server.Looked
	s.verbs()
	return nil
}

// status is the state of the fleet, with what only the running server knows.
func (s *serving) status(ctx context.Context) (history.Status, error) {
	st, err := s.app.history.Status(ctx)
	s.live(&st)
	return st, err
}

// live adds to a status what only the running server knows.
func (s *serving) live(st *history.Status) {
	st.SyncError = s.app.deployer.SyncError()
	st.Loading = s.app.deployer.Loading()
	every, reason := s.server.Interval()
	st.Poll = &history.PollStatus{IntervalMs: every.Milliseconds(), Reason: reason}

	now := time.Now().UTC().Truncate(time.Millisecond)
	reachable := s.app.deployer.Reachable()
	for i := range st.Hosts {
		if reachable[st.Hosts[i].Name] {
			st.Hosts[i].SeenAt = &now
		}
	}
}

// follow tells a run's events, and what came of it.
func (s *serving) follow(ctx context.Context, run string, emit func(any)) (*history.Run, error) {
	r, err := s.bell.Follow(ctx, run, func(ev follow.Event) { emit(ev) })
	if err != nil {
		return r, overSocket(whole(err))
	}
	return r, nil
}

func (o *serveOptions) listeners(h *app) (on server.Listeners, err error) {
	defer func() {
		if err != nil {
			for _, l := range []net.Listener{on.Public, on.Admin, on.Socket, on.Ring} {
				if l != nil {
					l.Close()
				}
			}
		}
	}()
	if on.Public, err = listenOn(o.listen); err != nil {
		return on, hint(fmt.Errorf("listen for webhooks: %w", err), "choose another place with --listen ADDRESS:PORT")
	}
	if on.Admin, err = listenOn(o.admin); err != nil {
		return on, hint(fmt.Errorf("listen for the admin: %w", err), "choose another place with --admin 127.0.0.1:PORT, or off")
	}
	if on.Socket, err = server.ListenSocket(h.state.path(server.SocketName), ""); err != nil {
		return on, err
	}
	if o.ringGroup == "" {
		return on, nil
	}
	if on.Ring, err = server.ListenSocket(h.state.path(server.RingSocketName), o.ringGroup); err != nil {
		return on, err
	}

	return on, h.state.letPass(server.RingSocketName)
}

func listenOn(address string) (net.Listener, error) {
	if address == "off" || address == "" {
		return nil, nil
	}
	return net.Listen("tcp", address)
}

func addressOf(l net.Listener) string {
	if l == nil {
		return ""
	}
	return l.Addr().String()
}

// work starts what a server does. The first part that ends, ends all.
func (s *serving) work(ctx context.Context, o *serveOptions, on server.Listeners, log *slog.Logger) {
	ctx, s.cancel = context.WithCancel(ctx)
	s.done = make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	part := func(f func() error) {
		wg.Go(func() {
			err := f()
			mu.Lock()
			defer mu.Unlock()
			if err != nil && !errors.Is(err, context.Canceled) {
				errs = append(errs, err)
			}
			if s.cancel != nil {
				s.cancel()
			}
		})
	}
	part(func() error { return s.server.Serve(ctx, on) })
	part(func() error { return s.page.Serve(ctx, s.app.history.Changed()) })
	part(func() error {
		if o.hold != nil {
			<-o.hold
		}
		s.waitForRepo(ctx, o.repo, log)
		if ctx.Err() != nil {
			return nil
		}
		return s.bell.Serve(ctx)
	})
	go s.server.Poll(ctx, o.poll, o.pollByHand)
	part(func() error { s.messages(ctx, log, o.runURL); return nil })
	part(func() error { s.forge.run(ctx, s.app, o, log); return nil })
	part(func() error { s.forge.runRequests(ctx, s.app, log); return nil })
	go func() {
		<-ctx.Done()
		close(s.done)
	}()
	s.wait = func() error {
		wg.Wait()
		return errors.Join(errs...)
	}
}

// waitForRepo waits, on the first day, until the repo can be read. Later a repo that is away
// keeps nobody from their keys.
func (s *serving) waitForRepo(ctx context.Context, repo string, log *slog.Logger) {
	if s.app.history.Top() != "" {
		return
	}
	last := ""
	for wait := time.Second; ; wait = min(wait*2, 15*time.Second) {
		_, err := s.app.repo.Head(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		if text := err.Error(); text != last {
			log.Warn("waiting for the repo", "repo", repo, "err", text, "hint", hintFor(explain(err)))
			last = text
		}

		if errors.Is(err, gitsync.ErrNoBranch) {
			wait = min(wait, 2*time.Second) // it is there, and somebody is about to push
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// stop lets hosts at work come to their end, as far as they can in time, and closes all.
func (s *serving) stop() error {
	s.cancel()
	return errors.Join(s.wait(), s.app.Close())
}

// webhookURL guesses how the world reaches the listener.
func webhookURL(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "" // --listen off
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		if host, err = os.Hostname(); err != nil {
			host = "HOST"
		}
	}
	return "http://" + net.JoinHostPort(host, port) + "/v1/webhook"
}

// tellSystemd says how we do, where it wants to know.
func tellSystemd(e *Env, state string) {
	path := e.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	if c, err := net.Dial("unixgram", path); err == nil {
		_, _ = io.WriteString(c, state)
		c.Close()
	}
}

// eventOf reads an event as it comes over the socket.
func eventOf(b json.RawMessage) (ev follow.Event, ok bool) {
	err := json.Unmarshal(b, &ev)
	return ev, err == nil && ev.Run != ""
}
