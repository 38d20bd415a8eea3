package server

// The socket's protocol is HTTP over a unix socket: POST /v1/VERB with the request as JSON,
// answered by JSON lines: {"event":…} as things happen, then one {"result":…} or
// {"error":"…","exit":N}. Handle and Call are its two ends.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Names of the sockets in the state directory.
const (
	SocketName     = "bellhop.sock"
	RingSocketName = "ring.sock"
)

// A Caller is who is at the other end of a socket, as the kernel says.
type Caller struct {
	UID  int
	PID  int
	Name string // "" when the uid has none
}

// String is how a caller is recorded: "cadey (uid 1000)".
func (c Caller) String() string {
	if c.Name == "" {
		return fmt.Sprintf("uid %d", c.UID)
	}
	return fmt.Sprintf("%s (uid %d)", c.Name, c.UID)
}

// An Error is one that came over the socket. Exit is the exit code that goes with it.
type Error struct {
	Message string
	Exit    int
}

func (e *Error) Error() string { return e.Message }

// ExitCode is the exit code that goes with the error.
func (e *Error) ExitCode() int { return e.Exit }

// A verb is one thing that the socket does.
type verb struct {
	most int64 // bytes that a request may have
	do   func(ctx context.Context, who Caller, in []byte, emit func(any)) (any, error)
}

type verbs struct {
	mu  sync.Mutex
	all map[string]verb
}

func (v *verbs) init() { v.all = map[string]verb{} }

// Handle lets the socket take a verb, such as "plan" or "key-push". f gets the request, who
// asks, and emit for events on the way; its context ends when the caller leaves. An error
// with a method ExitCode() int takes that code along.
func Handle[In, Out any](s *Server, name string, f func(ctx context.Context, who Caller, in In, emit func(event any)) (Out, error)) {
	s.verbs.mu.Lock()
	defer s.verbs.mu.Unlock()
	s.verbs.all[name] = verb{most: MaxBody, do: func(ctx context.Context, who Caller, body []byte, emit func(any)) (any, error) {
		var in In
		if len(body) > 0 {
			if err := json.Unmarshal(body, &in); err != nil {
				return nil, fmt.Errorf("%s: read request: %w", name, err)
			}
		}
		return f(ctx, who, in, emit)
	}}
}

// HandleLarge is Handle for a verb whose request is followed by bytes, most of them together. See
// CallLarge.
func HandleLarge[In, Out any](s *Server, name string, most int64, f func(ctx context.Context, who Caller, in In, rest []byte, emit func(event any)) (Out, error)) {
	s.verbs.mu.Lock()
	defer s.verbs.mu.Unlock()
	s.verbs.all[name] = verb{most: most + MaxBody, do: func(ctx context.Context, who Caller, body []byte, emit func(any)) (any, error) {
		var in In
		head, rest, ok := bytes.Cut(body, []byte("\n"))
		if !ok {
			return nil, fmt.Errorf("%s: read request: no line", name)
		}
		if err := json.Unmarshal(head, &in); err != nil {
			return nil, fmt.Errorf("%s: read request: %w", name, err)
		}
		return f(ctx, who, in, rest, emit)
	}}
}

// A RingRequest rings the bell.
type RingRequest struct {
	Follow bool `json:"follow,omitempty"` // and stay for the events of the run
}

// A RingAnswer says which run looks, and with Follow what came of it.
type RingAnswer struct {
	Run    string          `json:"run"`
	Result json.RawMessage `json:"result,omitempty"`
}

// ringVerb rings. Who only follows holds a connection for as long as a run takes: each user has
// so many, and rings without following when they are taken.
func (s *Server) ringVerb(ctx context.Context, who Caller, in RingRequest, emit func(any)) (RingAnswer, error) {
	if in.Follow && s.cfg.Follow == nil {
		return RingAnswer{}, errors.New("ring: this server cannot be followed")
	}
	a := RingAnswer{Run: s.cfg.Bell.Ring("ring by " + who.String())}
	if !in.Follow {
		return a, nil
	}

	leave, ok := s.follows.take(ctx, claim[int]{of: who.UID, trusted: who.isOurs(), many: who.isOurs()}, 0)
	if !ok {
		return a, fmt.Errorf("ring: it rang, and run %s looks; too many follow runs already to follow it too (%d may as one user)", a.Run, followersEach)
	}
	defer leave()
	result, err := s.cfg.Follow(ctx, a.Run, emit)
	if err != nil {
		return a, err
	}
	a.Result, err = json.Marshal(result)
	return a, err
}

type callerKey struct{}

// socketHandler is what a socket serves; only names the verbs it takes, nil is all. It is for
// connections whose Caller stands in the context; see Serve.
func (s *Server) socketHandler(only []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, ok := strings.CutPrefix(r.URL.Path, "/v1/")
		who, known := r.Context().Value(callerKey{}).(Caller)
		s.verbs.mu.Lock()
		v := s.verbs.all[name]
		s.verbs.mu.Unlock()
		switch {
		case !known:
			refuse(w, http.StatusForbidden)
		case !ok || v.do == nil || r.Method != http.MethodPost:
			refuse(w, http.StatusNotFound)
		case only != nil && !slices.Contains(only, name):
			refuse(w, http.StatusForbidden)
		default:
			s.callVerb(w, r, v, who, name == "ring")
		}
	})
}

// line is one line of an answer.
type line struct {
	Event  any    `json:"event,omitempty"`
	Result any    `json:"result,omitempty"`
	Error  string `json:"error,omitempty"`
	Exit   int    `json:"exit,omitempty"`
}

// callVerb reads a request and answers it. A ring is shorter than a request that does more.
func (s *Server) callVerb(w http.ResponseWriter, r *http.Request, v verb, who Caller, ring bool) {
	limit := v.most
	if ring {
		limit = maxRingBody
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(socketBodyTime))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		refuse(w, http.StatusRequestEntityTooLarge)
		return
	case err != nil:
		refuse(w, http.StatusRequestTimeout)
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // whoever follows says nothing for long
	inPhase(r, phaseTrusted)
	w.Header().Set("Content-Type", "application/x-ndjson")
	var mu sync.Mutex
	flush := http.NewResponseController(w)
	ended := false
	write := func(l line) {
		mu.Lock()
		defer mu.Unlock()
		if !ended {
			_ = json.NewEncoder(w).Encode(l)
			_ = flush.Flush()
		}
	}
	// An emit that comes late must not touch a connection that is no longer ours.
	defer func() { mu.Lock(); ended = true; mu.Unlock() }()
	out, err := v.do(r.Context(), who, body, func(event any) { write(line{Event: event}) })
	if err != nil {
		l := line{Error: err.Error(), Exit: 1}
		var coded interface{ ExitCode() int }
		if errors.As(err, &coded) {
			l.Exit = coded.ExitCode()
		}
		write(l)
		return
	}
	if out == nil {
		out = struct{}{}
	}
	write(line{Result: out})
}

// socketServer serves one socket. There is no deadline on answers: following a run takes as
// long as the run.
func (s *Server) socketServer(only []string) *http.Server {
	h := s.httpServer(s.socketHandler(only), 0)
	h.ReadTimeout = 0
	h.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if one, ok := c.(*tracked); ok {
			c = one.Conn
		}
		who, err := peer(c)
		if err != nil {
			return ctx
		}
		return context.WithValue(ctx, callerKey{}, who)
	}
	return h
}

// Limits of the sockets, by uid as the kernel tells it. The server's own user and root are not
// held to what one user may have, and some places are kept for them.
const (
	maxRingBody    = 4 << 10
	socketBodyTime = 5 * time.Second

	mostFollowers, followersEach, followersReserved = 128, 8, 16
)

// isOurs says that the caller is the server's own user, or root.
func (c Caller) isOurs() bool { return c.UID == 0 || c.UID == os.Geteuid() }

// socketConns counts the connections of both sockets.
func (s *Server) socketConns() *connTable[int] {
	ours := func(uid int) bool { return Caller{UID: uid}.isOurs() }
	return &connTable[int]{
		total: socketConns, each: socketEach, reserve: socketReserved, trusts: ours,
		claim: func(c net.Conn) claim[int] {
			uid := nobody
			if who, err := peerUID(c); err == nil {
				uid = who.UID
			}
			return claim[int]{of: uid, trusted: ours(uid)}
		},
	}
}

// nobody stands for callers that the kernel does not tell.
const nobody = -1

// named fills in the caller's name.
func named(c Caller) Caller {
	if u, err := user.LookupId(strconv.Itoa(c.UID)); err == nil {
		c.Name = u.Username
	}
	return c
}

// ListenSocket makes a unix socket: 0600 without a group, 0660 with one. A socket that nobody
// answers is replaced; one that somebody answers is an error.
func ListenSocket(path, group string) (net.Listener, error) {
	if len(path) > 104 {
		return nil, fmt.Errorf("socket %s: the path has %d bytes, the system takes 104: choose a shorter --state-dir", path, len(path))
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := clearSocket(path); err != nil {
		return nil, err
	}
	old := syscall.Umask(0o177) // never wider than it will be, not even for a moment
	l, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if group == "" {
		return l, nil
	}
	if err := giveTo(path, group); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func clearSocket(path string) error {
	i, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if i.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("socket %s: something else stands there: move it away", path)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return fmt.Errorf("socket %s: another bellhop serves there", path)
	}
	return os.Remove(path)
}

func giveTo(path, group string) error {
	g, err := user.LookupGroup(group)
	if err != nil {
		return fmt.Errorf("socket %s: %w", path, err)
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return err
	}
	if err := os.Chown(path, -1, gid); err != nil {
		return err
	}
	return os.Chmod(path, 0o660)
}

// ErrNoServer says that no bellhop serves there.
var ErrNoServer = errors.New("no bellhop serves here")

// A Client speaks to a running server over its socket.
type Client struct{ hc *http.Client }

// Dial finds the server of a state directory; ErrNoServer when there is none.
func Dial(stateDir string) (*Client, error) {
	return DialSocket(filepath.Join(stateDir, SocketName))
}

// DialSocket finds the server behind a socket; ErrNoServer when there is none.
func DialSocket(path string) (*Client, error) {
	if len(path) > 104 {
		return nil, fmt.Errorf("%w: the path of socket %s is longer than 104 bytes", ErrNoServer, path)
	}
	c, err := net.DialTimeout("unix", path, 5*time.Second)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%w: %s", ErrNoServer, path)
	case err != nil:
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	c.Close()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", path)
	}
	return &Client{&http.Client{Transport: &http.Transport{DialContext: dial}}}, nil
}

// Close lets go of the connection.
func (c *Client) Close() error {
	c.hc.CloseIdleConnections()
	return nil
}

// Ring rings the bell of a running server; event, when not nil, is called with each event
// of the run, and Ring returns when it has ended.
func (c *Client) Ring(ctx context.Context, event func(json.RawMessage)) (RingAnswer, error) {
	return Call[RingAnswer](ctx, c, "ring", RingRequest{Follow: event != nil}, event)
}

// Call asks a running server to do a verb. event may be nil.
func Call[Out any](ctx context.Context, c *Client, name string, in any, event func(json.RawMessage)) (out Out, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return out, err
	}
	return call[Out](ctx, c, name, bytes.NewReader(body), event)
}

// CallLarge is Call for a verb of HandleLarge: rest follows the request.
func CallLarge[Out any](ctx context.Context, c *Client, name string, in any, rest io.Reader, event func(json.RawMessage)) (out Out, err error) {
	head, err := json.Marshal(in)
	if err != nil {
		return out, err
	}
	return call[Out](ctx, c, name, io.MultiReader(bytes.NewReader(append(head, '\n')), rest), event)
}

func call[Out any](ctx context.Context, c *Client, name string, body io.Reader, event func(json.RawMessage)) (out Out, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://bellhop/v1/"+name, body)
	if err != nil {
		return out, err
	}
	res, err := c.hc.Do(req)
	if err != nil {
		return out, fmt.Errorf("%s: ask the server: %w", name, err)
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return out, fmt.Errorf("%s: the running server does not know this verb: is it an older bellhop?", name)
	case http.StatusForbidden:
		return out, fmt.Errorf("%s: not over this socket", name)
	default:
		return out, fmt.Errorf("%s: the server answers %s", name, res.Status)
	}
	return readAnswer[Out](res.Body, name, event)
}

func readAnswer[Out any](r io.Reader, name string, event func(json.RawMessage)) (out Out, err error) {
	for dec := json.NewDecoder(bufio.NewReader(r)); ; {
		var l struct {
			Event, Result json.RawMessage
			Error         string
			Exit          int
		}
		switch err := dec.Decode(&l); {
		case errors.Is(err, io.EOF):
			return out, fmt.Errorf("%s: the server went away before it answered", name)
		case err != nil:
			return out, fmt.Errorf("%s: read the server's answer: %w", name, err)
		case l.Error != "":
			return out, &Error{l.Error, l.Exit}
		case l.Result != nil:
			return out, json.Unmarshal(l.Result, &out)
		case l.Event != nil && event != nil:
			event(l.Event)
		}
	}
}
