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
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bellhop/internal/history"
)

// A Bell is rung by whatever may mean that there is something to do. Both methods return at
// once with the id of the run that will look; Poll is for the clock alone.
type Bell interface {
	Ring(cause string) (run string)
	Poll(cause string) (run string)
}

// A Recorder stores deliveries. A history.DB is one.
type Recorder interface {
	AddDeliveries(ctx context.Context, ds []history.Delivery) error
}

// A Config says what is heard and who answers.
type Config struct {
	Secret []byte   // of the webhook; at least MinSecret bytes
	Branch string   // pushes to it ring; "" is main
	Repo   string   // OWNER/NAME that payloads must name; "" is any. See RepoName
	Bell   Bell     // required
	Record Recorder // nil: deliveries are answered and forgotten
	Seen   []string // ids of deliveries that history knows; their being there counts as a webhook seen

	AdminToken string   // asked for on the admin listener when set
	AdminHosts []string // names that the admin listener answers to besides localhost

	// What the admin listener shows; each value is written as JSON. nil: 404.
	Status  func(ctx context.Context) (any, error)
	History func(ctx context.Context, limit int) (any, error)
	Ready   func() error      // why not ready; nil: always ready
	Metrics func(w io.Writer) // adds lines to /metrics

	// Follow streams the events of a run, for `ring --follow`, until it ends; it returns what
	// came of it. nil: following is refused.
	Follow func(ctx context.Context, run string, emit func(event any)) (any, error)

	Log         *slog.Logger
	MaxAtOnce   int           // webhooks read at once; 0 is 64
	BodyTimeout time.Duration // for a webhook's body; 0 is 10 s
}

// MinSecret is the shortest webhook secret that is used.
const MinSecret = 16

// A Server is what hears. Make one with New.
type Server struct {
	cfg     Config
	slots   chan struct{}
	limit   *limiter
	seen    *seen
	record  *recorder
	verbs   verbs
	heard   chan struct{} // closed at the first authenticated delivery
	hear    sync.Once
	decode  func(body []byte, contentType string) (payload, error) // a test spies on it
	count   counters
	started time.Time
}

type counters struct {
	rang, ignored, unauthorized, tooLarge, limited, broken, polls atomic.Int64
	lastStranger                                                  atomic.Int64 // unix milliseconds
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
	if cfg.MaxAtOnce == 0 {
		cfg.MaxAtOnce = 64
	}
	if cfg.BodyTimeout == 0 {
		cfg.BodyTimeout = 10 * time.Second
	}
	s := &Server{
		cfg:     cfg,
		slots:   make(chan struct{}, cfg.MaxAtOnce),
		limit:   newLimiter(),
		seen:    newSeen(cfg.Seen),
		record:  newRecorder(cfg.Record, cfg.Log),
		heard:   make(chan struct{}),
		decode:  decodePayload,
		started: time.Now(),
	}
	if len(cfg.Seen) > 0 {
		s.hear.Do(func() { close(s.heard) })
	}
	s.verbs.init()
	Handle(s, "ring", s.ring)
	return s, nil
}

// Strangers says how many requests had no right signature, and when the last one came.
func (s *Server) Strangers() (n int64, last time.Time) {
	if ms := s.count.lastStranger.Load(); ms != 0 {
		last = time.UnixMilli(ms)
	}
	return s.count.unauthorized.Load(), last
}

// Heard is closed once a first authenticated webhook was seen.
func (s *Server) Heard() <-chan struct{} { return s.heard }

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
		if err := CheckAdmin(on.Admin.Addr(), s.cfg.AdminToken); err != nil {
			return err
		}
	}
	recording := make(chan struct{})
	go func() { defer close(recording); s.record.run() }()
	servers := map[*http.Server]net.Listener{}
	add := func(l net.Listener, h *http.Server) {
		if l != nil {
			servers[h] = l
		}
	}
	if on.Public != nil {
		on.Public = limitListener(on.Public, 1024)
	}
	add(on.Public, s.httpServer(s.Public(), 30*time.Second))
	add(on.Admin, s.httpServer(s.Admin(), 30*time.Second))
	add(on.Socket, s.socketServer(nil))
	add(on.Ring, s.socketServer([]string{"ring"}))

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

// Poll rings every so often, so that a webhook that never came costs time alone. Unless every
// was chosen by hand, it turns to ten minutes once a webhook was seen.
func (s *Server) Poll(ctx context.Context, every time.Duration, byHand bool) {
	if every <= 0 {
		return
	}
	heard := s.heard
	if byHand {
		heard = nil
	}
	for {
		timer := time.NewTimer(every + rand.N(every/10+1)) // many deployers, one forge
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-heard:
			timer.Stop()
			every, heard = max(every, 10*time.Minute), nil
		case <-timer.C:
			s.count.polls.Add(1)
			s.cfg.Bell.Poll("poll")
		}
	}
}

// RepoName is the OWNER/NAME that webhooks of a repo's address name, "" for a path.
func RepoName(url string) string {
	if strings.HasPrefix(url, "/") || strings.HasPrefix(url, ".") || strings.HasPrefix(url, "file:") {
		return ""
	}
	_, rest, ok := strings.Cut(url, "://")
	if ok {
		_, rest, ok = strings.Cut(rest, "/")
	} else {
		_, rest, ok = strings.Cut(url, ":")
	}
	if !ok {
		return ""
	}
	return strings.TrimSuffix(strings.Trim(rest, "/"), ".git")
}

// ReadSecret reads a secret's file, without the newline at its end.
func ReadSecret(file string) ([]byte, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read secret: %w", err)
	}
	return []byte(strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")), nil
}

// limitListener lets at most n connections be open: a stranger who only connects holds no
// more memory than that.
func limitListener(l net.Listener, n int) net.Listener {
	return &limited{Listener: l, slots: make(chan struct{}, n), done: make(chan struct{})}
}

type limited struct {
	net.Listener
	slots chan struct{}
	done  chan struct{}
	once  sync.Once
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: c, free: sync.OnceFunc(func() { <-l.slots })}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	free func()
}

func (c *limitedConn) Close() error {
	defer c.free()
	return c.Conn.Close()
}
