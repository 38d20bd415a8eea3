package gitsync

// How the remote is reached. The protocol's frames are go-git's; the connections are ours,
// because the deadlines, the pins and the question where a token may go are.

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/plumbing/transport"
)

// A remote can be dialled.
type remote interface {
	dial(context.Context) (conn, error)
}

// A conn knows the remote's branches and brings one commit; starts are commits that we have.
type conn interface {
	branches() map[string]plumbing.Hash
	fetch(ctx context.Context, into *store, want plumbing.Hash, starts []plumbing.Hash) error
	close()
}

// headOf picks a branch's head.
func headOf(c conn, branch string) (plumbing.Hash, error) {
	all := c.branches()
	if h, ok := all[branch]; ok {
		return h, nil
	}
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	if len(names) == 0 {
		return plumbing.ZeroHash, fmt.Errorf("%w: the remote has no branch at all; push %s", ErrNoBranch, branch)
	}
	if len(names) > 5 {
		names = append(names[:5], "…")
	}
	return plumbing.ZeroHash, fmt.Errorf("%w: the remote has %s; push branch %s or set --branch", ErrNoBranch, strings.Join(names, ", "), branch)
}

// checkBranch holds a branch to git's own grammar for refs, and to a bit less.
func checkBranch(name string) error {
	bad := func(why string) error { return fmt.Errorf("branch %q: %s", name, why) }
	switch {
	case name == "" || len(name) > 200:
		return bad("has no usable length")
	case strings.HasPrefix(name, "-"):
		return bad("starts with a dash")
	case name == "@" || strings.Contains(name, "@{") || strings.Contains(name, ".."):
		return bad("is not a name that git allows")
	case strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c == 0x7f || strings.ContainsRune(`~^:?*[\`, c) }):
		return bad("holds a byte that git does not allow")
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".") || strings.HasSuffix(part, ".lock") {
			return bad("is not a name that git allows")
		}
	}
	return nil
}

var (
	scheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*:`)
	scp    = regexp.MustCompile(`^(?:([A-Za-z0-9_.-]+)@)?([A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+\]):([^:].*)$`)
)

// newRemote reads the URL. What is no address of a kind known here is an error; nothing is
// ever handed to a program.
func newRemote(cfg Config) (remote, error) {
	u := cfg.URL
	switch {
	case u == "":
		return nil, errors.New("no repo is named: set --repo")
	case strings.HasPrefix(u, "-") || strings.ContainsFunc(u, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return nil, fmt.Errorf("repo %q is not an address", u)
	case strings.HasPrefix(u, "file://"):
		return local(strings.TrimPrefix(u, "file://"))
	case strings.Contains(u, "://"):
		return parseURL(cfg)
	case strings.HasPrefix(u, "/") || strings.HasPrefix(u, "."):
		return local(u)
	case strings.Contains(u, "::"):
		return nil, fmt.Errorf("repo %q: remote helpers are not run", u)
	}
	if m := scp.FindStringSubmatch(u); m != nil {
		return newSSH(cfg, m[1], strings.Trim(m[2], "[]"), "22", m[3])
	}
	if scheme.MatchString(u) {
		return nil, fmt.Errorf("repo %q: use https://, ssh://, user@host:path or a path", u)
	}
	return local(u)
}

func parseURL(cfg Config) (remote, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, errors.New("the repo's address is not a URL") // it may hold a password: do not repeat it
	}
	if _, has := u.User.Password(); has {
		return nil, fmt.Errorf("repo %s: take the password out of the URL and put the token into BELLHOP_REPO_TOKEN", u.Redacted())
	}
	if u.Hostname() == "" || strings.HasPrefix(u.Hostname(), "-") {
		return nil, fmt.Errorf("repo %s names no host", u)
	}
	switch u.Scheme {
	case "https", "http":
		if u.Scheme == "http" && cfg.Token != "" && !loopback(u.Hostname()) {
			return nil, fmt.Errorf("repo %s: a token is not sent over http: use https://", u)
		}
		u.User, u.RawQuery, u.Fragment = nil, "", ""
		u.Path = strings.TrimSuffix(u.Path, "/")
		return newHTTP(u, cfg), nil
	case "ssh", "git+ssh":
		port := u.Port()
		if port == "" {
			port = "22"
		}
		return newSSH(cfg, u.User.Username(), u.Hostname(), port, u.Path)
	}
	return nil, fmt.Errorf("repo %s: use https://, ssh://, user@host:path or a path", u)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// ---- a path on this machine

// dirRemote is a repository on this machine, read in process: no git program, and none of
// the hooks and settings that one would obey.
type dirRemote struct{ dir string }

func local(dir string) (remote, error) {
	abs, err := filepath.Abs(dir)
	return dirRemote{abs}, err
}

func (d dirRemote) dial(context.Context) (conn, error) {
	repo, err := git.PlainOpenWithOptions(d.dir, &git.PlainOpenOptions{EnableDotGitCommonDir: true})
	if errors.Is(err, git.ErrRepositoryNotExists) {
		return nil, fmt.Errorf("%w: no git repository at %s", ErrUnreachable, d.dir)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: open %s: %w", ErrUnreachable, d.dir, err)
	}
	c := &dirConn{store: repo.Storer, heads: map[string]plumbing.Hash{}}
	refs, err := repo.Branches()
	if err != nil {
		return nil, fmt.Errorf("read branches of %s: %w", d.dir, err)
	}
	return c, refs.ForEach(func(ref *plumbing.Reference) error {
		c.heads[ref.Name().Short()] = ref.Hash()
		return nil
	})
}

type dirConn struct {
	store storer.EncodedObjectStorer
	heads map[string]plumbing.Hash
}

func (c *dirConn) branches() map[string]plumbing.Hash { return c.heads }

func (c *dirConn) close() {
	if s, ok := c.store.(io.Closer); ok {
		s.Close()
	}
}

func (c *dirConn) fetch(ctx context.Context, into *store, want plumbing.Hash, _ []plumbing.Hash) error {
	if err := copyCommit(ctx, into, c.store, want); err != nil {
		// An object missing there is no damage here.
		return fmt.Errorf("read the repository: %s", err)
	}
	return nil
}

// ---- what https and ssh share

// advertised holds what a git server said it has.
type advertised struct{ *packp.AdvRefs }

// readRefs reads what the server advertises. An empty repository has no branches.
func readRefs(r io.Reader) (advertised, error) {
	a := advertised{packp.NewAdvRefs()}
	err := a.Decode(r)
	switch {
	case errors.Is(err, packp.ErrEmptyAdvRefs):
		return a, nil
	case err != nil:
		return a, fmt.Errorf("the remote does not speak git: %w", err)
	}
	transport.FilterUnsupportedCapabilities(a.Capabilities)
	return a, nil
}

func (a advertised) branches() map[string]plumbing.Hash {
	heads := map[string]plumbing.Hash{}
	for name, h := range a.References {
		if branch, ok := strings.CutPrefix(name, "refs/heads/"); ok {
			heads[branch] = h
		}
	}
	return heads
}

// request asks for one commit, telling what is there already.
func (a advertised) request(want plumbing.Hash, haves []plumbing.Hash) *packp.UploadPackRequest {
	req := packp.NewUploadPackRequestFromCapabilities(a.Capabilities)
	if a.Capabilities.Supports(capability.NoProgress) {
		_ = req.Capabilities.Set(capability.NoProgress)
	}
	req.Wants = []plumbing.Hash{want}
	req.Haves = haves
	return req
}

func writeRequest(w io.Writer, req *packp.UploadPackRequest, flush bool) error {
	if err := req.UploadRequest.Encode(w); err != nil {
		return err
	}
	if err := req.UploadHaves.Encode(w, flush); err != nil {
		return err
	}
	return pktline.NewEncoder(w).EncodeString("done\n")
}

// readPack takes the pack out of the answer, into the store.
func readPack(body io.ReadCloser, req *packp.UploadPackRequest, into *store, limit int64) error {
	res := packp.NewUploadPackResponse(req)
	if err := res.Decode(body); err != nil {
		return fmt.Errorf("read the remote's answer: %s", err)
	}
	var pack io.Reader = res
	switch {
	case req.Capabilities.Supports(capability.Sideband64k):
		pack = sideband.NewDemuxer(sideband.Sideband64k, res)
	case req.Capabilities.Supports(capability.Sideband):
		pack = sideband.NewDemuxer(sideband.Sideband, res)
	}
	if err := into.writePack(pack, limit); err != nil {
		return fmt.Errorf("%s", err) // a broken answer is no damage of the clone
	}
	return nil
}

// ---- https

type httpRemote struct {
	base  *url.URL
	token string
	limit int64
	hc    *http.Client
}

func newHTTP(base *url.URL, cfg Config) *httpRemote {
	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.DialContext = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	tr.TLSHandshakeTimeout = 10 * time.Second
	tr.ResponseHeaderTimeout = 60 * time.Second
	tr.MaxIdleConnsPerHost = 1
	h := &httpRemote{base: base, token: cfg.Token, limit: cfg.MaxPack}
	h.hc = &http.Client{Transport: tr, CheckRedirect: h.redirect}
	return h
}

// redirect follows to the same origin only: elsewhere the token would go to a stranger, and
// the config of all hosts would come from one.
func (h *httpRemote) redirect(req *http.Request, via []*http.Request) error {
	if req.URL.Scheme != h.base.Scheme || req.URL.Host != h.base.Host {
		return fmt.Errorf("it has moved to %s://%s: if that is right, set --repo to it", req.URL.Scheme, req.URL.Host)
	}
	if len(via) > 5 || via[0].Method != http.MethodGet {
		return errors.New("it redirects too often")
	}
	return nil
}

func (h *httpRemote) do(ctx context.Context, method, path, kind string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, h.base.String()+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "git/bellhop")
	if kind != "" {
		req.Header.Set("Content-Type", "application/x-"+kind+"-request")
		req.Header.Set("Accept", "application/x-"+kind+"-result")
	}
	if h.token != "" {
		req.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("x-access-token:"+h.token)))
	}
	res, err := h.hc.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	res.Body.Close()
	switch res.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		hint := "is the repo's name right, and may the token in BELLHOP_REPO_TOKEN read it?"
		if h.token == "" {
			hint = "is the repo's name right? A private one needs a token in BELLHOP_REPO_TOKEN"
		}
		return nil, fmt.Errorf("%w: %s answers %s: %s", ErrAuth, h.base.Host, res.Status, hint)
	}
	return nil, fmt.Errorf("%w: %s answers %s", ErrUnreachable, h.base.Host, res.Status)
}

func (h *httpRemote) dial(ctx context.Context) (conn, error) {
	res, err := h.do(ctx, http.MethodGet, "/info/refs?service=git-upload-pack", "", nil)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	refs, err := readRefs(io.LimitReader(res.Body, 64<<20))
	if err != nil {
		return nil, err
	}
	return &httpConn{refs, h}, nil
}

type httpConn struct {
	advertised
	h *httpRemote
}

func (c *httpConn) close() {}

func (c *httpConn) fetch(ctx context.Context, into *store, want plumbing.Hash, starts []plumbing.Hash) error {
	req := c.request(want, into.haves(starts))
	var body strings.Builder
	if err := writeRequest(&body, req, false); err != nil {
		return err
	}
	res, err := c.h.do(ctx, http.MethodPost, "/git-upload-pack", "git-upload-pack", strings.NewReader(body.String()))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	return readPack(res.Body, req, into, c.h.limit)
}

// readKeyFile reads a deploy key.
func readKeyFile(file string) ([]byte, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read deploy key: %w", err)
	}
	return b, nil
}
