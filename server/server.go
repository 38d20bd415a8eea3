// Package server hears a push, and answers for what came of it.
//
// It has three faces, each on a listener of its own. The public one takes webhooks from the
// internet and says that it is alive. The admin one shows state, to GET alone. The sockets
// take what acts, from people on this machine, whom the kernel names.
//
// A webhook is a doorbell: nothing in its body is obeyed, it only rings, and whoever is rung
// asks the remote itself. A delivery is one authenticated request; each has a recorded answer
// to "what happened, and why". A stranger is anybody whose signature is not right; he costs
// one HMAC over a capped body and is told a status code, and nothing is written for him.
//
// The handler takes no lock that a run holds, and waits for no disk.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"bellhop/internal/history/deliveries"
	"bellhop/server/admission"
)

// A Bell is rung by whatever may mean that there is something to do. Both methods return at
// once with the id of the run that will look; Poll is for the clock alone.
type Bell interface {
	Ring(cause string) (run string)
	Poll(cause string) (run string)
}

// A Recorder stores deliveries. A history.DB is one.
type Recorder interface {
	AddDeliveries(ctx context.Context, ds []deliveries.Delivery) error
}

// A Config says what is heard and who answers.
type Config struct {
	Secret []byte // of the webhook; at least MinSecret bytes
	Branch string // pushes to it ring; "" is main
	// Testing has pushes to branches testing-HOST ring too.
	Testing bool
	Forge   string   // how webhooks are signed and worded: github, forgejo, gitea or gitlab; "" is github
	Repo    string   // OWNER/NAME that payloads must name; "" is any. See RepoName
	Bell    Bell     // required
	Record  Recorder // nil: deliveries are answered and forgotten

	// Requests is called when an authenticated delivery tells of a request to merge into the repo. It must return at once. Nil: such
	// a delivery is answered, and nothing is done.
	Requests func()

	// Known are the newest deliveries that history has, newest first: to tell a repeated one, and
	// to go on waiting for a push that the remote did not show before a restart.
	Known []deliveries.Delivery
	// Holds says whether a head of the branch is a commit or builds on it. Nil: a head is known to
	// hold itself alone.
	Holds func(ctx context.Context, head, commit string) (bool, error)
	// Tested is what the newest look found a testing branch at, "" where there is no such branch. Nil: pushes to them are not awaited.
	Tested func(branch string) string

	TrustProxy []netip.Prefix // proxies whose X-Forwarded-For is believed

	AdminToken string   // asked for on the admin listener; "" lets nobody in, but with AdminOpen
	AdminOpen  bool     // the admin listener asks for no token; it must be on loopback
	AdminHosts []string // names that the admin listener answers to besides localhost

	// What the admin listener shows; each value is written as JSON. nil: 404.
	Status  func(ctx context.Context) (any, error)
	History func(ctx context.Context, limit int) (any, error)
	Ready   func() error // why not ready; nil: always ready
	Metrics http.Handler // answers /metrics; nil: 404
	Page    http.Handler // shows the fleet to browsers; nil: text alone

	// Follow streams the events of a run, for `ring --follow`, until it ends; it returns what
	// came of it. nil: following is refused.
	Follow func(ctx context.Context, run string, emit func(event any)) (any, error)

	// Notice says why no run deploys now, for those who ring; "" when nothing keeps them. nil: nothing does.
	Notice func(ctx context.Context) string

	// Jitter is what a wait between polls is longer by, at most as given: many deployers ask one forge.
	// Nil: a random time.
	Jitter func(most time.Duration) time.Duration

	Log         *slog.Logger
	BodyTimeout time.Duration // for a webhook's body of up to 1 MiB; 0 is 10 s
}

// MinSecret is the shortest webhook secret that is used.
const MinSecret = 16

// A Server is what hears. Make one with New.
type Server struct {
	cfg     Config
	forge   forge
	proxies admission.Proxies
	room    room
	limit   *admission.Limiter
	seen    *seen
	record  *recorder
	awaited *awaited
	paced   signal // how often to poll may have changed
	verbs   verbs
	follows *admission.Share[int] // places of those who follow a run, by uid
	count   counters
	started time.Time

	otherMu sync.Mutex
	other   *OtherRepo
}

type counters struct {
	rang, ignored, unauthorized, tooLarge, limited, broken, polls atomic.Int64
	lastStranger, lastNoRoom                                      atomic.Int64 // unix milliseconds
}

// New makes a Server. It refuses a secret that is missing or short: without one anybody
// could ring, and an empty one would let everybody in.
func New(cfg Config) (*Server, error) {
	if len(cfg.Secret) < MinSecret {
		return nil, fmt.Errorf("webhook secret has %d bytes, needs at least %d: put a longer one into the webhook-secret file", len(cfg.Secret), MinSecret)
	}
	if cfg.Bell == nil {
		return nil, errors.New("server: nobody to ring")
	}
	if cfg.Branch == "" {
		cfg.Branch = "main"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.BodyTimeout == 0 {
		cfg.BodyTimeout = 10 * time.Second
	}
	if cfg.Jitter == nil {
		cfg.Jitter = func(most time.Duration) time.Duration { return rand.N(most + 1) }
	}

	kind, err := forgeNamed(cfg.Forge)
	if err != nil {
		return nil, err
	}

	s := &Server{
		cfg:     cfg,
		forge:   kind,
		proxies: cfg.TrustProxy,
		room:    newRoom(),
		limit:   admission.NewLimiter(),
		seen:    newSeen(cfg.Known),
		record:  newRecorder(cfg.Record, cfg.Log),
		paced:   newSignal(),
		follows: admission.NewShare[int](mostFollowers, followersEach, followersReserved),
		started: time.Now(),
	}
	s.awaited = &awaited{holds: cfg.Holds, tested: cfg.Tested, bell: cfg.Bell, record: s.record, news: newSignal()}
	s.awaited.restore(cfg.Known, cfg.Branch)
	s.verbs.init()
	Handle(s, "ring", s.ringVerb)
	return s, nil
}

// Strangers says how many requests had no right signature, and when the last one came.
func (s *Server) Strangers() (n int64, last time.Time) {
	if ms := s.count.lastStranger.Load(); ms != 0 {
		last = time.UnixMilli(ms)
	}
	return s.count.unauthorized.Load(), last
}

// Listeners are where a Server hears. Those that are nil are not served.
type Listeners struct {
	Public net.Listener // the webhook
	Admin  net.Listener // GET only
	Socket net.Listener // bellhop.sock: everything; see ListenSocket
	Ring   net.Listener // ring.sock: ringing and following
}

// grace is how long requests that are being answered have when the server is told to stop.
const grace = 60 * time.Second

// Serve answers until ctx ends; then it takes no new request, lets those begun end within a
// minute, and writes down the deliveries that wait.
func (s *Server) Serve(ctx context.Context, on Listeners) error {
	if on.Admin != nil {
		if err := CheckAdmin(on.Admin.Addr(), s.cfg.AdminToken, s.cfg.AdminOpen); err != nil {
			return err
		}
	}

	recording := make(chan struct{})
	go func() { defer close(recording); s.record.run() }()

	looking, stopLooking := context.WithCancel(ctx)
	defer stopLooking()
	go s.awaited.run(looking)

	servers := map[*http.Server]net.Listener{}
	add := func(l net.Listener, count func(net.Listener) net.Listener, h *http.Server) {
		if l != nil {
			admission.TrackPhases(h)
			servers[h] = count(l)
		}
	}
	users := s.socketConns() // a user has one share of both sockets
	add(on.Public, s.publicConns().Listen, s.httpServer(s.Public(), 30*time.Second))
	add(on.Admin, s.adminConns().Listen, s.httpServer(s.Admin(), 30*time.Second))
	add(on.Socket, users.Listen, s.socketServer(nil))
	add(on.Ring, users.Listen, s.socketServer([]string{"ring"}))

	failed := make(chan error, len(servers))
	for h, l := range servers {
		go func() { failed <- h.Serve(l) }()
	}

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}

	err = errors.Join(err, shutdown(servers))
	s.record.close()
	<-recording
	return err
}

// shutdown stops all servers together.
func shutdown(servers map[*http.Server]net.Listener) error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()

	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for h := range servers {
		wg.Go(func() {
			if err := h.Shutdown(ctx); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err, h.Close())
			}
		})
	}

	wg.Wait()
	return errors.Join(errs...)
}

// httpServer has a deadline for everything that the other side could draw out. Its own log
// is off: what strangers do to a connection is not news, and not to be written.
func (s *Server) httpServer(h http.Handler, write time.Duration) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5*time.Second + s.cfg.BodyTimeout,
		WriteTimeout:      write,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
}

// How many connections each listener has, for each address or user, and kept for those who are
// trusted.
const (
	publicConns, publicEach, publicReserved = 1024, 32, 128
	adminConns, adminEach                   = 128, 64
	socketConns, socketEach, socketReserved = 256, 16, 32
)

// publicConns counts connections of the world: those that end before their first request count as
// failures.
func (s *Server) publicConns() *admission.ConnTable[netip.Addr] {
	trusts := func(a netip.Addr) bool { return s.limit.Knows(admission.Sender{Addr: a}) }
	return &admission.ConnTable[netip.Addr]{
		Total: publicConns, Each: publicEach, Reserve: publicReserved, Trusts: trusts,
		Claim: func(c net.Conn) admission.Claim[netip.Addr] {
			who := s.proxies.Peer(c.RemoteAddr().String())
			return admission.Claim[netip.Addr]{Of: who.Addr, Trusted: s.limit.Knows(who), Many: who.Shared}
		},
		Unheard: func(c net.Conn) { s.limit.Fail(s.proxies.Peer(c.RemoteAddr().String())) },
	}
}

// adminConns counts connections of the admin listener.
func (s *Server) adminConns() *admission.ConnTable[netip.Addr] {
	return &admission.ConnTable[netip.Addr]{
		Total: adminConns, Each: adminEach,
		Trusts: func(netip.Addr) bool { return false },
		Claim: func(c net.Conn) admission.Claim[netip.Addr] {
			return admission.Claim[netip.Addr]{Of: s.proxies.Peer(c.RemoteAddr().String()).Addr}
		},
	}
}
