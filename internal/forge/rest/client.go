package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"bellhop/internal/mask"
	"bellhop/internal/plain"
)

// How long one request may take, and how much of an answer is read.
const (
	RequestTime  = 30 * time.Second
	maxAnswer    = 4 << 20 // with its long strings cut
	MaxErrorText = 300
	maxRedirects = 3
)

// An Error is what a forge answered in place of what was asked.
type Error struct {
	Code  int           // HTTP status
	Text  string        // what the forge says, in one line; "" when it says nothing
	Right string        // that the token would need, in the forge's words; "" when the forge does not say
	After time.Duration // how long the forge asks to wait; 0: it does not say
}

func (e *Error) Error() string {
	text := fmt.Sprintf("the forge answered %d %s", e.Code, http.StatusText(e.Code))
	if e.Text != "" {
		text += ": " + e.Text
	}
	if e.Right != "" {
		text += " (the token needs " + e.Right + ")"
	}
	return text
}

// IsOfOneCommit says that the forge refuses this request, and would take others.
func (e *Error) IsOfOneCommit() bool {
	switch e.Code {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusGone, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// A login adds to a request what proves who sends it.
type login func(ctx context.Context, h http.Header) error

// Header logs in by one header.
func Header(name, before string, token func() (string, error)) login {
	return func(_ context.Context, h http.Header) error {
		t, err := token()
		if err != nil {
			return err
		}
		h.Set(name, before+t)
		return nil
	}
}

// A transport sends requests to one host, logged in, and bounds what is read of an answer.
type transport struct {
	base  *url.URL
	login login
	next  http.RoundTripper
}

var errOtherHost = errors.New("the forge sent the request on to another host: it is not followed; see --forge-url")

// RoundTrip logs in at the forge alone: a request to any other host is refused before it is sent.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != t.base.Scheme || r.URL.Host != t.base.Host {
		return nil, errOtherHost
	}

	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", "bellhop")
	if err := t.login(r.Context(), r.Header); err != nil {
		return nil, err
	}
	secret := tokenOf(r.Header)

	answer, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, secret.hide(err)
	}
	answer.Body = &bounded{of: shorten(answer.Body), left: maxAnswer}
	if answer.StatusCode >= http.StatusBadRequest {
		secret.hideIn(answer)
	}
	return answer, nil
}

// A hiding takes what a request logged in with out of what is told of its end.
type hiding struct{ filter mask.Filter }

func tokenOf(h http.Header) *hiding {
	var d hiding
	for _, name := range []string{"Authorization", "PRIVATE-TOKEN"} {
		for _, value := range h.Values(name) {
			_, token, ok := strings.Cut(value, " ")
			if !ok {
				token = value
			}
			d.filter.Add("token", []byte(token))
		}
	}
	return &d
}

func (d *hiding) hide(err error) error {
	text := plain.Line(d.filter.Text(err.Error()), plain.MaxLine)
	if text == err.Error() {
		return err
	}
	return errors.New(text)
}

// maxErrorBody is how much of an answer that is no success is read.
const maxErrorBody = 64 << 10

// hideIn does so in an answer, which may repeat what it was asked.
func (d *hiding) hideIn(answer *http.Response) {
	body, _ := io.ReadAll(io.LimitReader(answer.Body, maxErrorBody))
	answer.Body.Close()
	answer.Body = io.NopCloser(strings.NewReader(d.filter.Text(string(body))))

	for _, name := range []string{RightHeader, scopeHeader} {
		if right := answer.Header.Get(name); right != "" {
			answer.Header.Set(name, d.filter.Text(right))
		}
	}
}

// RightHeader names the right that GitHub asks for, of a token that has single rights and of an App. Of a classic token,
// scopeHeader names the scopes of which it needs one.
const (
	RightHeader = "X-Accepted-GitHub-Permissions"
	scopeHeader = "X-Accepted-OAuth-Scopes"
	hasScopes   = "X-OAuth-Scopes" // of a classic token alone
)

// RightOf is the right that an answer of GitHub's says is missing; "" where it does not say.
func RightOf(h http.Header) string {
	if right := plain.Line(h.Get(RightHeader), 100); right != "" {
		return right
	}
	_, isClassic := h[http.CanonicalHeaderKey(hasScopes)]
	if scopes := plain.Line(h.Get(scopeHeader), 100); isClassic && scopes != "" {
		return "one of the scopes " + scopes
	}
	return ""
}

var errLongAnswer = fmt.Errorf("the answer is longer than %d bytes", maxAnswer)

// A bounded body ends with an error when it is too long.
type bounded struct {
	of   io.ReadCloser
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errLongAnswer
	}
	n, err := b.of.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

func (b *bounded) Close() error { return b.of.Close() }

// HTTPClient is a client of one forge. A redirect to another host, or to another method, is not followed.
func HTTPClient(base *url.URL, l login) *http.Client {
	next := http.DefaultTransport.(*http.Transport).Clone()
	next.MaxResponseHeaderBytes = 64 << 10
	next.MaxIdleConns = 2

	return &http.Client{
		Timeout:   RequestTime,
		Transport: &transport{base: base, login: l, next: next},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			isSame := r.URL.Scheme == base.Scheme && r.URL.Host == base.Host
			switch {
			case !isSame:
				return errOtherHost
			case r.Method != via[0].Method, len(via) > maxRedirects:
				return http.ErrUseLastResponse
			}
			return nil
		},
	}
}

// A Client is a small client of a REST API.
type Client struct {
	base *url.URL
	http *http.Client
}

// New returns a Client of the API below base.
func New(base *url.URL, l login) *Client { return &Client{base: base, http: HTTPClient(base, l)} }

// Ask sends body as JSON to a path below the base, and decodes the answer into out. Nil: none is sent, or decoded. The
// elements of path are escaped already.
func (w *Client) Ask(ctx context.Context, method, path string, body, out any) error {
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(b)
	}

	req, err := http.NewRequestWithContext(ctx, method, w.base.String()+path, sent)
	if err != nil {
		return errors.New("the forge's API has no usable address")
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}

	answer, err := w.http.Do(req)
	if err != nil {
		return Bare(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		return errorOf(answer)
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(answer.Body).Decode(out); err != nil {
		return fmt.Errorf("the forge's answer to %s %s can't be read: %w", method, plain.Line(path, 200), err)
	}
	return nil
}

// Bare is an error of a request without the address that it went to.
func Bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return fmt.Errorf("ask the forge: %w", u.Err)
	}
	return err
}

// errorOf reads an answer that is no success.
func errorOf(answer *http.Response) error {
	var said struct {
		Message json.RawMessage `json:"message"`
		Error   json.RawMessage `json:"error"`
		Scope   string          `json:"scope"`
	}
	body, _ := io.ReadAll(io.LimitReader(answer.Body, maxErrorBody))
	_ = json.Unmarshal(body, &said) // an answer of a proxy is no JSON

	e := &Error{Code: answer.StatusCode, Text: textOf(said.Message), After: WaitOf(answer.Header)}
	if e.Text == "" {
		e.Text = textOf(said.Error)
	}
	if answer.StatusCode == http.StatusForbidden || answer.StatusCode == http.StatusNotFound {
		e.Right = RightOf(answer.Header)
		if said.Scope != "" {
			e.Right = "the scope " + plain.Line(said.Scope, 100)
		}
	}
	return e
}

// textOf is a message as one line: a string, or else its JSON.
func textOf(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		s = string(raw)
	}
	return plain.Line(s, MaxErrorText)
}

// WaitOf is how long an answer asks to wait, at most an hour.
func WaitOf(h http.Header) time.Duration {
	wait := time.Duration(0)
	if s, err := strconv.ParseInt(h.Get("Retry-After"), 10, 32); err == nil {
		wait = time.Duration(s) * time.Second
	} else if at, err := http.ParseTime(h.Get("Retry-After")); err == nil { // proxies before a forge write it so
		wait = time.Until(at)
	}
	for _, prefix := range []string{"X-RateLimit-", "RateLimit-"} {
		if h.Get(prefix+"Remaining") != "0" {
			continue
		}
		if at, err := strconv.ParseInt(h.Get(prefix+"Reset"), 10, 64); err == nil {
			wait = max(wait, time.Until(time.Unix(at, 0)))
		}
	}
	return min(max(wait, 0), time.Hour)
}
