package server

// The socket's protocol is HTTP over a unix socket: POST /v1/VERB with the request as JSON,
// answered by JSON lines: {"event":…} as things happen, then one {"result":…} or
// {"error":"…","hint":"…","exit":N}. Handle and Call are its two ends.

import (
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

	"bellhop/server/admission"
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

// An Error is one that came over the socket.
type Error struct {
	Message string
	Hint    string // the next thing to type; "" when there is none
	Exit    int    // the exit code that goes with it
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
// with a method ExitCode() int takes that code along, one with a method Hint() string that hint.
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
	Notice string          `json:"notice,omitempty"` // why the run will deploy nothing; "" when nothing keeps it
	Result json.RawMessage `json:"result,omitempty"`
}

// ringVerb rings. Who only follows holds a connection for as long as a run takes: each user has
// so many, and rings without following when they are taken.
func (s *Server) ringVerb(ctx context.Context, who Caller, in RingRequest, emit func(any)) (RingAnswer, error) {
	if in.Follow && s.cfg.Follow == nil {
		return RingAnswer{}, errors.New("ring: this server cannot be followed")
	}
	a := RingAnswer{Run: s.cfg.Bell.Ring("ring by " + who.String())}
	if s.cfg.Notice != nil {
		a.Notice = s.cfg.Notice(ctx)
	}
	if !in.Follow {
		return a, nil
	}

	leave, ok := s.follows.Take(ctx, admission.Claim[int]{Of: who.UID, Trusted: who.isOurs(), Many: who.isOurs()}, 0)
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
			limit := requestLimit{v.most, requestTime}
			if name == "ring" {
				limit = requestLimit{maxRingBody, ringTime}
			}
			s.callVerb(w, r, v, who, limit)
		}
	})
}

// line is one line of an answer.
type line struct {
	Event  any    `json:"event,omitempty"`
	Result any    `json:"result,omitempty"`
	Error  string `json:"error,omitempty"`
	Hint   string `json:"hint,omitempty"`
	Exit   int    `json:"exit,omitempty"`
}

// callVerb reads a request and answers it.
func (s *Server) callVerb(w http.ResponseWriter, r *http.Request, v verb, who Caller, limit requestLimit) {
	body, status := readRequest(w, r, limit)
	if status != 0 {
		refuse(w, status)
		return
	}
	admission.InPhase(r, admission.PhaseTrusted)

	w.Header().Set("Content-Type", "application/x-ndjson")
	out := &lineWriter{w: w, conn: http.NewResponseController(w)}
	defer out.end()
	result, err := v.do(r.Context(), who, body, func(event any) { out.write(line{Event: event}) })
	out.write(lastLine(result, err))
}

// lastLine is what ends an answer.
func lastLine(result any, err error) line {
	if err != nil {
		l := line{Error: err.Error(), Exit: 1}
		var coded interface{ ExitCode() int }
		if errors.As(err, &coded) {
			l.Exit = coded.ExitCode()
		}
		var hinted interface{ Hint() string }
		if errors.As(err, &hinted) {
			l.Hint = hinted.Hint()
		}
		return l
	}
	if result == nil {
		result = struct{}{}
	}
	return line{Result: result}
}

// A requestLimit is how long a request may be, and how long it may take to come.
type requestLimit struct {
	most   int64
	within time.Duration
}

// readRequest reads a request within its limits; status is what to refuse it by.
func readRequest(w http.ResponseWriter, r *http.Request, limit requestLimit) (body []byte, status int) {
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Now().Add(limit.within))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit.most))

	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, http.StatusRequestEntityTooLarge
	case err != nil:
		return nil, http.StatusRequestTimeout
	}
	_ = conn.SetReadDeadline(time.Time{}) // whoever follows says nothing for long
	return body, 0
}

// A lineWriter writes the lines of an answer as they come.
type lineWriter struct {
	w    io.Writer
	conn *http.ResponseController

	mu    sync.Mutex
	ended bool
}

func (o *lineWriter) write(l line) {
	o.mu.Lock()
	defer o.mu.Unlock()

	if !o.ended {
		_ = json.NewEncoder(o.w).Encode(l)
		_ = o.conn.Flush()
	}
}

// end ends the answer: an event that comes late must not touch a connection that is no longer
// ours.
func (o *lineWriter) end() {
	o.mu.Lock()
	defer o.mu.Unlock()

	o.ended = true
}

// socketServer serves one socket. There is no deadline on answers: following a run takes as
// long as the run.
func (s *Server) socketServer(only []string) *http.Server {
	h := s.httpServer(s.socketHandler(only), 0)
	h.ReadTimeout = 0
	h.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if one, ok := c.(*admission.Tracked); ok {
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
	maxRingBody = 4 << 10
	ringTime    = 5 * time.Second
	requestTime = time.Minute // of a request of the server's own user or root

	mostFollowers, followersEach, followersReserved = 128, 8, 16
)

// isOurs says that the caller is the server's own user, or root.
func (c Caller) isOurs() bool { return c.UID == 0 || c.UID == os.Geteuid() }

// socketConns counts the connections of both sockets.
func (s *Server) socketConns() *admission.ConnTable[socketUser] {
	return &admission.ConnTable[socketUser]{
		Total: socketConns, Each: socketEach, Reserve: socketReserved, Trusts: socketUser.isOurs,
		Claim: func(c net.Conn) admission.Claim[socketUser] {
			var user socketUser
			if who, err := peerUID(c); err == nil {
				user = socketUser{uid: who.UID, isKnown: true}
			}
			return admission.Claim[socketUser]{Of: user, Trusted: user.isOurs()}
		},
	}
}

// A socketUser is whom a connection is counted against. All those whom the kernel does not tell
// are one, the zero value.
type socketUser struct {
	uid     int
	isKnown bool
}

func (u socketUser) isOurs() bool { return u.isKnown && Caller{UID: u.uid}.isOurs() }

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
