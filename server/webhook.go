package server

// The order in which a webhook is looked at is the point of this file:
//
//	1. whom it is counted against           see address.go
//	2. its body, as far as there is room    see body.go: 408, 413, 429, 503
//	3. not exactly one right signature      401, or 429 when there were many
//	4. only then: content type, JSON, event, repo, branch
//
// Whatever ends before 4 counts against its sender.
//
// go-github's ValidatePayload is not used: it parses the form before checking, takes SHA-1,
// reads without a cap and repeats the header in its errors. Its ValidateSignature is, on the
// raw bytes, for a header of one exact shape.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"bellhop/internal/history/deliveries"
	"bellhop/internal/plain"
	"bellhop/server/admission"
)

// Public is what strangers can reach: the webhook, and a sign of life.
func (s *Server) Public() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := s.proxies.Sender(r)
		s.keepAlive(w, r)
		switch {
		case r.URL.Path == "/v1/webhook" && r.Method == http.MethodPost:
			s.webhook(w, r, who)
		case r.URL.Path == "/healthz" && (r.Method == http.MethodGet || r.Method == http.MethodHead):
			io.WriteString(w, "ok\n")
		default:
			w.Header().Set("Connection", "close")
			refuse(w, http.StatusNotFound)
		}
	})
}

// keepAlive lets a connection live on after this request for addresses that authenticated and for
// proxies alone.
func (s *Server) keepAlive(w http.ResponseWriter, r *http.Request) {
	peer := s.proxies.Peer(r.RemoteAddr)
	if !peer.Shared && !s.limit.Knows(peer) {
		w.Header().Set("Connection", "close")
	}
}

// refuse tells a stranger the status, and nothing else.
func refuse(w http.ResponseWriter, status int) {
	http.Error(w, http.StatusText(status), status)
}

// An answer is what an authenticated sender is told.
type answer struct {
	V       int    `json:"v"`
	Run     string `json:"run,omitempty"`
	Message string `json:"message"`
}

func (s *Server) webhook(w http.ResponseWriter, r *http.Request, who admission.Sender) {
	body, done, err := s.readBody(w, r, who)
	if err != nil {
		s.unread(w, who, err)
		return
	}
	defer done()

	if !s.authentic(r.Header, body) {
		s.unauthorized(w, who)
		return
	}
	s.limit.Good(who)
	admission.InPhase(r, admission.PhaseTrusted)
	s.keepAlive(w, r)
	s.answerDelivery(w, r.Header, body)
}

// unread answers one whose body was not read to its end.
func (s *Server) unread(w http.ResponseWriter, who admission.Sender, err error) {
	s.limit.Fail(who)
	status := statusOf(err)
	switch status {
	case http.StatusRequestEntityTooLarge:
		s.count.tooLarge.Add(1)
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		s.count.limited.Add(1)
		s.noRoom()
	default:
		s.count.broken.Add(1)
	}
	w.Header().Set("Connection", "close")
	refuse(w, status)
}

// noRoom says that a delivery was refused without its signature being checked, and looks at the
// remote in its stead: at most once a minute, since a stranger can make it happen.
func (s *Server) noRoom() {
	now := time.Now()
	last := s.count.lastNoRoom.Load()
	if now.UnixMilli()-last < time.Minute.Milliseconds() || !s.count.lastNoRoom.CompareAndSwap(last, now.UnixMilli()) {
		return
	}
	run := s.cfg.Bell.Poll("a webhook was refused for room")
	s.cfg.Log.Warn("webhooks are refused for room; looking at the repo instead", "refused", s.count.limited.Load(), "run", run)
}

// unauthorized answers one whose signature is not right. Over the limit he is told so: what is
// checked there costs less than the answer.
func (s *Server) unauthorized(w http.ResponseWriter, who admission.Sender) {
	over := s.limit.Over(who)
	s.limit.Fail(who)
	s.count.lastStranger.Store(time.Now().UnixMilli())
	s.count.unauthorized.Add(1)
	if over {
		w.Header().Set("Connection", "close")
		refuse(w, http.StatusTooManyRequests)
		return
	}
	refuse(w, http.StatusUnauthorized)
}

// authentic says whether the sender knows the secret.
func (s *Server) authentic(h http.Header, body []byte) bool {
	return len(s.cfg.Secret) >= MinSecret && s.forge.authentic(h, body, s.cfg.Secret)
}

// A verdict is what comes of a delivery.
type verdict int

const (
	ignored   verdict = iota // it is about nothing that is deployed here
	unread                   // its body is not what a forge sends
	otherRepo                // it names another repo
	rang
)

// answerDelivery reads what the authenticated sender says, rings if it is a push to the
// branch, and records the answer.
func (s *Server) answerDelivery(w http.ResponseWriter, h http.Header, body []byte) {
	d := deliveries.Delivery{
		ID:    plain.Line(s.forge.delivery(h), 100),
		At:    time.Now().UTC().Truncate(time.Millisecond),
		Event: plain.Line(s.forge.event(h), 50),
	}
	d.Seen = s.seen.add(d.ID)
	p, v := s.judge(&d, body, h.Get("Content-Type"))

	status, level := http.StatusOK, s.cfg.Log.Info
	switch v {
	case rang:
		status = http.StatusAccepted
		s.count.rang.Add(1)
	case unread:
		status = http.StatusBadRequest
		s.count.ignored.Add(1)
	case otherRepo:
		level = s.cfg.Log.Warn
		s.noteOtherRepo(p, d.At)
		s.count.ignored.Add(1)
	default:
		s.count.ignored.Add(1)
	}

	s.record.add(d)
	level("webhook", "delivery", d.ID, "event", d.Event, "branch", d.Branch, "run", d.Run, "answer", d.Answer)
	reply(w, status, answer{1, d.Run, d.Answer})
}

// testingPrefix begins the names of branches whose systems are tried on one host.
const testingPrefix = "testing-"

// judge says what comes of a delivery, and fills in why.
func (s *Server) judge(d *deliveries.Delivery, body []byte, contentType string) (pushed, verdict) {
	body, err := jsonOf(body, contentType)
	var p pushed
	if err == nil {
		p, err = s.forge.push(body)
	}
	if err != nil {
		d.Answer = err.Error()
		return p, unread
	}

	d.Branch, d.Commit = plain.Line(p.branch(), 200), plain.Line(p.After, 64)
	switch {
	case d.Event == eventPing:
		d.Answer = "the bell works: pushes to " + s.cfg.Branch + " will ring it"
	case d.Event == s.forge.request && s.cfg.Requests != nil && sameRepo(s.cfg.Repo, p.Repo):
		s.cfg.Requests()
		d.Answer = "looking at the requests to merge into " + s.cfg.Branch
	case d.Event != eventPush:
		d.Answer = fmt.Sprintf("%q is no push: nothing to do; send push events alone", d.Event)
	case !sameRepo(s.cfg.Repo, p.Repo):
		d.Answer = fmt.Sprintf("this is not the repo that is deployed here (it is %q, not %s): nothing to do", plain.Line(p.Repo, 200), s.cfg.Repo)
		return p, otherRepo
	case p.Ref == "":
		d.Answer = "the push names no branch (it has no ref): nothing to do"
	case s.cfg.Testing && strings.HasPrefix(p.branch(), testingPrefix):
		d.Run = s.cfg.Bell.Ring("push of " + d.Branch)
		d.Answer = "looking at " + d.Branch
		s.awaited.addTest(*d, p, p.branch())
		return p, rang
	case p.Ref != "refs/heads/"+s.cfg.Branch:
		d.Answer = fmt.Sprintf("%q is not the branch that is deployed here (%s): nothing to do", plain.Line(p.Ref, 200), s.cfg.Branch)
	default:
		s.ring(d, p)
		return p, rang
	}

	return p, ignored
}

// ring rings for a push to the branch.
func (s *Server) ring(d *deliveries.Delivery, p pushed) {
	d.Run = s.cfg.Bell.Ring("push")
	d.Answer = "looking at " + s.cfg.Branch
	if d.Seen {
		d.Answer = "seen before; looked again"
	}
	s.awaited.add(*d, p)
}

// An OtherRepo is a repo whose pushes are delivered here and ignored: the webhook is set at a repo
// that is not deployed, or --webhook-repo is wrong.
type OtherRepo struct {
	Name  string    `json:"name"` // as the newest such delivery called it
	Count int64     `json:"count"`
	At    time.Time `json:"at"`
}

func (s *Server) noteOtherRepo(p pushed, at time.Time) {
	s.otherMu.Lock()
	defer s.otherMu.Unlock()

	s.other = &OtherRepo{Name: plain.Line(p.Repo, 200), At: at, Count: s.other.count() + 1}
}

func (o *OtherRepo) count() int64 {
	if o == nil {
		return 0
	}
	return o.Count
}

// OtherRepo tells of deliveries that were ignored for the repo that they name, since the server
// started; nil when there were none.
func (s *Server) OtherRepo() *OtherRepo {
	s.otherMu.Lock()
	defer s.otherMu.Unlock()
	return s.other
}

// jsonOf is the JSON of a body: all of it, or the one field payload of a form.
func jsonOf(body []byte, contentType string) ([]byte, error) {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		kind = ""
	}
	switch kind {
	case "application/json":
		return body, nil
	case "application/x-www-form-urlencoded":
		return formPayload(string(body))
	}
	return nil, errors.New("set the webhook's content type to application/json")
}

var errForm = errors.New("the form has no field payload")

// formPayload is the field payload of a form. No other field is kept: a form of a megabyte of
// separators would be a million fields.
func formPayload(form string) (payload []byte, err error) {
	for field := range strings.SplitSeq(form, "&") {
		value, ok := strings.CutPrefix(field, "payload=")
		if !ok {
			continue
		}
		if payload != nil {
			return nil, errForm
		}
		text, err := url.QueryUnescape(value)
		if err != nil {
			return nil, errForm
		}
		payload = []byte(text)
	}
	if payload == nil {
		return nil, errForm
	}
	return payload, nil
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
