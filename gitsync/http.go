package gitsync

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/go-git/go-git/v5/plumbing"

	"bellhop/gitsync/bare"
	"bellhop/gitsync/objects"
	"bellhop/gitsync/protocol"
	"bellhop/internal/plain"
)

// An httpRemote speaks git's smart protocol over https.
//
// A redirect is followed as git does: the address that the list of refs is found at is the one
// that the pack is asked of. It may lead from https to https, or to the host it came from; never
// from https to http, to another scheme, or from the network to this machine. The token goes to
// the host of the repo's own address and to no other.
type httpRemote struct {
	base   *url.URL
	token  string
	limits objects.Limits
	hc     *http.Client // for the repo's own host
	away   *http.Client // for a host that a redirect named
}

func newHTTP(base *url.URL, cfg Config) *httpRemote {
	h := &httpRemote{base: base, token: cfg.Token, limits: cfg.limits()}
	h.hc = newClient(nil)
	h.away = h.hc
	if !loopback(base.Hostname()) {
		h.away = newClient(notThisMachine)
	}

	return h
}

func newClient(control func(network, address string, c syscall.RawConn) error) *http.Client {
	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.DialContext = (&net.Dialer{Timeout: 10 * time.Second, Control: control}).DialContext
	tr.TLSHandshakeTimeout = 10 * time.Second
	tr.ResponseHeaderTimeout = 60 * time.Second
	tr.MaxIdleConnsPerHost = 1
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: tr, CheckRedirect: stay}
}

// notThisMachine refuses to connect to addresses that mean this machine or its link.
func notThisMachine(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}

	ip := at.Addr().Unmap()
	if ip.IsLoopback() || ip.IsUnspecified() || ip.IsLinkLocalUnicast() {
		return fmt.Errorf("a redirect leads to %s: not followed", ip)
	}

	return nil
}

// follow says where a redirect leads, if it may.
func (h *httpRemote) follow(from *url.URL, res *http.Response) (*url.URL, error) {
	to, err := res.Location()
	if err != nil {
		return nil, fmt.Errorf("%w: %s answers %s without a place to go", ErrUnreachable, from.Host, res.Status)
	}

	sameHost := strings.EqualFold(to.Hostname(), from.Hostname())
	samePort := to.Scheme == from.Scheme && to.Port() == from.Port()
	upgrade := from.Scheme == "http" && to.Scheme == "https"
	switch {
	case to.Scheme != "https" && to.Scheme != "http":
	case from.Scheme == "https" && to.Scheme == "https":
		return to, nil
	case sameHost && (samePort || upgrade):
		return to, nil
	}

	return nil, fmt.Errorf("%w: it has moved to %s, and such a redirect is not followed: if that is right, set --repo to it", ErrUnreachable, shownURL(to))
}

// shownURL is a URL without what may be secret or long.
func shownURL(u *url.URL) string {
	return plain.Line((&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String(), 200)
}

// do sends one request and follows redirects. It returns where the answer came from.
func (h *httpRemote) do(ctx context.Context, method, to, kind, body string) (*http.Response, *url.URL, error) {
	at, err := url.Parse(to)
	if err != nil {
		return nil, nil, err
	}

	for range 10 {
		res, err := h.send(ctx, method, at, kind, body)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		if res.StatusCode == http.StatusOK {
			return res, at, nil
		}
		res.Body.Close()
		if !redirects(res.StatusCode, method) {
			return nil, nil, h.refusal(at, res)
		}
		if at, err = h.follow(at, res); err != nil {
			return nil, nil, err
		}
	}

	return nil, nil, fmt.Errorf("%w: %s redirects too often", ErrUnreachable, h.base.Host)
}

// redirects says whether a status leads elsewhere. What was posted is posted again, as the
// servers that answer so expect of git; 303 asks for something else.
func redirects(status int, method string) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}

	return status == http.StatusSeeOther && method == http.MethodGet
}

func (h *httpRemote) send(ctx context.Context, method string, at *url.URL, kind, body string) (*http.Response, error) {
	at.User = nil
	req, err := http.NewRequestWithContext(ctx, method, at.String(), strings.NewReader(body))
	if err != nil {
		return nil, err
	}

	req.Header.Set("User-Agent", "git/bellhop")
	if kind != "" {
		req.Header.Set("Content-Type", "application/x-"+kind+"-request")
		req.Header.Set("Accept", "application/x-"+kind+"-result")
	}

	home := at.Scheme == h.base.Scheme && strings.EqualFold(at.Host, h.base.Host)
	if h.token != "" && home {
		req.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("x-access-token:"+h.token)))
	}

	if strings.EqualFold(at.Hostname(), h.base.Hostname()) {
		return h.hc.Do(req)
	}

	return h.away.Do(req)
}

// refusal says what an answer that is not the one hoped for means.
func (h *httpRemote) refusal(at *url.URL, res *http.Response) error {
	status := plain.Line(res.Status, 80)
	switch res.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
	default:
		return fmt.Errorf("%w: %s answers %s", ErrUnreachable, at.Host, status)
	}

	hint := "is the repo's name right, and may the token in BELLHOP_REPO_TOKEN read it?"
	switch {
	case h.token == "":
		hint = "is the repo's name right? A private one needs a token in BELLHOP_REPO_TOKEN"
	case !strings.EqualFold(at.Host, h.base.Host):
		hint = "the repo has moved there, and the token is not sent to another host: set --repo to it"
	}

	return fmt.Errorf("%w: %s answers %s: %s", ErrAuth, at.Host, status, hint)
}

const refsPath = "/info/refs"

func (h *httpRemote) dial(ctx context.Context) (conn, error) {
	const query = "service=git-upload-pack"
	res, at, err := h.do(ctx, http.MethodGet, h.base.String()+refsPath+"?"+query, "", "")
	if err != nil {
		return nil, err
	}

	defer res.Body.Close()

	if kind := res.Header.Get("Content-Type"); kind != "" && !strings.HasPrefix(kind, "application/x-git-upload-pack-advertisement") {
		return nil, fmt.Errorf("%w: %s does not speak git's smart protocol (it answers with %s): is the repo's address right?", ErrUnreachable, shownURL(at), plain.Line(kind, 60))
	}

	refs, err := protocol.ReadRefs(res.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.base.Host, err)
	}

	base := *at
	base.RawQuery = ""
	var ok bool
	if base.Path, ok = strings.CutSuffix(at.Path, refsPath); !ok {
		return nil, fmt.Errorf("%w: it has moved to %s, which is no repo's address", ErrUnreachable, shownURL(at))
	}

	base.RawPath = strings.TrimSuffix(at.RawPath, refsPath)
	return &httpConn{refs, h, &base}, nil
}

type httpConn struct {
	*protocol.Advertised
	h    *httpRemote
	base *url.URL // where the refs were found
}

func (c *httpConn) close() {}

func (c *httpConn) moved() string {
	if c.base.String() == c.h.base.String() {
		return ""
	}

	return shownURL(c.base)
}

func (c *httpConn) fetch(ctx context.Context, dir string, want plumbing.Hash, starts []plumbing.Hash) error {
	into := bare.Open(dir)
	defer into.Close()
	body := c.Request(want, into.Haves(ctx, starts), false)
	res, _, err := c.h.do(ctx, http.MethodPost, c.base.String()+"/git-upload-pack", "git-upload-pack", body)
	if err != nil {
		return err
	}

	defer res.Body.Close()
	err = c.ReadPack(ctx, res.Body, into, c.h.limits)
	if errors.Is(err, protocol.ErrRemoteSays) {
		return fmt.Errorf("%s: %w", c.h.base.Host, err)
	}

	return err
}
