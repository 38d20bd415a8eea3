package server

// The order in which a webhook is looked at is the point of this file:
//
//	1. this address failed too often       429
//	2. too many at once                    503
//	3. longer than 1 MiB                   413, before it is read further
//	4. not exactly one right signature     401
//	5. only then: content type, JSON, event, repo, branch
//
// go-github's ValidatePayload is not used: it parses the form before checking, takes SHA-1,
// reads without a cap and repeats the header in its errors. Its ValidateSignature is, on the
// raw bytes, for a header of one exact shape.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/google/go-github/v60/github"

	"bellhop/internal/history"
	"bellhop/internal/plain"
)

// MaxBody is the longest webhook that is read.
const MaxBody = 1 << 20

// Public is what strangers can reach: the webhook, and a sign of life.
func (s *Server) Public() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v1/webhook" && r.Method == http.MethodPost:
			s.webhook(w, r)
		case r.URL.Path == "/healthz" && (r.Method == http.MethodGet || r.Method == http.MethodHead):
			io.WriteString(w, "ok\n")
		default:
			w.Header().Set("Connection", "close")
			refuse(w, http.StatusNotFound)
		}
	})
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

func (s *Server) webhook(w http.ResponseWriter, r *http.Request) {
	if !s.limit.allow(r.RemoteAddr) {
		s.count.limited.Add(1)
		w.Header().Set("Connection", "close")
		refuse(w, http.StatusTooManyRequests)
		return
	}
	body, status := s.readBody(w, r)
	if status != 0 {
		refuse(w, status)
		return
	}
	if !s.authentic(r.Header, body) {
		s.limit.fail(r.RemoteAddr)
		s.count.unauthorized.Add(1)
		s.count.lastStranger.Store(time.Now().UnixMilli())
		refuse(w, http.StatusUnauthorized)
		return
	}
	s.limit.good(r.RemoteAddr)
	s.hear.Do(func() { close(s.heard) })
	s.answerDelivery(w, r.Header, body)
}

// readBody reads a body within its slot, its deadline and its cap.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) ([]byte, int) {
	if r.ContentLength > MaxBody {
		s.count.tooLarge.Add(1)
		w.Header().Set("Connection", "close")
		return nil, http.StatusRequestEntityTooLarge
	}
	if !s.takeSlot(r) {
		s.count.limited.Add(1)
		w.Header().Set("Connection", "close")
		return nil, http.StatusServiceUnavailable
	}
	defer func() { <-s.slots }()
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.cfg.BodyTimeout))
	var body bytes.Buffer
	body.Grow(bytes.MinRead + int(min(max(r.ContentLength, 0), 64<<10))) // what is claimed is believed up to here
	_, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, MaxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		s.count.tooLarge.Add(1)
		return nil, http.StatusRequestEntityTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.count.broken.Add(1)
		return nil, http.StatusRequestTimeout
	case err != nil:
		s.count.broken.Add(1)
		return nil, http.StatusBadRequest
	}
	return body.Bytes(), 0
}

// takeSlot waits a little for a slot. The usual case makes no timer.
func (s *Server) takeSlot(r *http.Request) bool {
	select {
	case s.slots <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(5 * time.Second) // GitHub gives up after ten
	defer timer.Stop()
	select {
	case s.slots <- struct{}{}:
		return true
	case <-timer.C:
	case <-r.Context().Done():
	}
	return false
}

var signature = regexp.MustCompile(`^sha256=[0-9a-f]{64}$`)

// authentic says whether there is exactly one signature and it is right. A second header
// never rescues a bad one, and no other header is looked at.
func (s *Server) authentic(h http.Header, body []byte) bool {
	sigs := h.Values(github.SHA256SignatureHeader)
	return len(s.cfg.Secret) >= MinSecret && len(sigs) == 1 && signature.MatchString(sigs[0]) &&
		github.ValidateSignature(sigs[0], body, s.cfg.Secret) == nil
}

// answerDelivery reads what the authenticated sender says, rings if it is a push to the
// branch, and records the answer.
func (s *Server) answerDelivery(w http.ResponseWriter, h http.Header, body []byte) {
	d := history.Delivery{
		ID:    plain.Line(h.Get(github.DeliveryIDHeader), 100),
		At:    time.Now().UTC(),
		Event: plain.Line(h.Get(github.EventTypeHeader), 50),
	}
	d.Seen = s.seen.add(d.ID)
	status := s.judge(&d, body, h.Get("Content-Type"))
	if status == http.StatusAccepted {
		s.count.rang.Add(1)
	} else {
		s.count.ignored.Add(1)
	}
	s.record.add(d)
	s.cfg.Log.Info("webhook", "delivery", d.ID, "event", d.Event, "branch", d.Branch, "run", d.Run, "answer", d.Answer)
	reply(w, status, answer{1, d.Run, d.Answer})
}

// judge says what comes of a delivery, and fills in why.
func (s *Server) judge(d *history.Delivery, body []byte, contentType string) int {
	p, err := s.decode(body, contentType)
	if err != nil {
		d.Answer = err.Error()
		return http.StatusBadRequest
	}
	d.Branch, d.Commit = plain.Line(p.branch(), 200), plain.Line(p.After, 40)
	switch {
	case d.Event == "ping":
		d.Answer = "the bell works: pushes to " + s.cfg.Branch + " will ring it"
	case d.Event != "push":
		d.Answer = fmt.Sprintf("%q is no push: nothing to do; send push events alone", d.Event)
	case s.cfg.Repo != "" && !strings.EqualFold(p.Repo, s.cfg.Repo):
		d.Answer = fmt.Sprintf("this is not the repo that is deployed here (it is %q, not %s): nothing to do", plain.Line(p.Repo, 200), s.cfg.Repo)
	case p.Ref != "refs/heads/"+s.cfg.Branch:
		d.Answer = fmt.Sprintf("%q is not the branch that is deployed here (%s): nothing to do", plain.Line(p.Ref, 200), s.cfg.Branch)
	default:
		d.Run = s.cfg.Bell.Ring("push")
		d.Answer = "looking at " + s.cfg.Branch
		if d.Seen {
			d.Answer = "seen before; looked again"
		}
		return http.StatusAccepted
	}
	return http.StatusOK
}

// A payload is the little of a delivery that is read, and only to say what to do with it.
type payload struct {
	Ref, After string
	Repo       string // repository.full_name
}

func (p payload) branch() string {
	b, _ := strings.CutPrefix(p.Ref, "refs/heads/")
	return b
}

// decodePayload reads JSON, or a form whose field payload is JSON.
func decodePayload(body []byte, contentType string) (p payload, err error) {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		kind = ""
	}
	switch kind {
	case "application/json":
	case "application/x-www-form-urlencoded":
		form, err := url.ParseQuery(string(body))
		if err != nil || len(form["payload"]) != 1 {
			return p, errors.New("the form has no field payload")
		}
		body = []byte(form.Get("payload"))
	default:
		return p, errors.New("set the webhook's content type to application/json")
	}
	return readPayload(body)
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
