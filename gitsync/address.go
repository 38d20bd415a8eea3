package gitsync

// How the remote is addressed, and what is asked of it whichever way it is reached.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"

	"bellhop/gitsync/refs"
)

// A remote can be dialled.
type remote interface {
	dial(context.Context) (conn, error)
}

// A conn knows the remote's refs and brings one commit.
type conn interface {
	Refs() refs.Set
	// fetch brings an object and what it reaches into the clone in dir; starts are commits
	// that the clone has.
	fetch(ctx context.Context, dir string, want plumbing.Hash, starts []plumbing.Hash) error
	// moved is the address that the remote is found at now; "" when it is the one asked for.
	moved() string
	close()
}

// Branches is a text that changes when any branch of the remote came, went or moved before the newest look; "" before the first.
func (r *Repo) Branches() string {
	text, _ := r.branches.Load().(string)
	return text
}

// headOf picks a branch's head.
func headOf(c conn, branch string) (plumbing.Hash, error) {
	heads := c.Refs().Heads
	if h, ok := heads[branch]; ok {
		return h, nil
	}

	if len(heads) == 0 {
		return plumbing.ZeroHash, fmt.Errorf("%w: the remote has no branch at all; push %s", ErrNoBranch, branch)
	}

	return plumbing.ZeroHash, fmt.Errorf("%w: the remote has %s; push branch %s or set --branch", ErrNoBranch, refs.Few(heads), branch)
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
		path := u.Path
		if strings.HasPrefix(path, "/~") { // as git has it: below a home, not below the root
			path = path[1:]
		}
		return newSSH(cfg, u.User.Username(), u.Hostname(), port, path)
	}

	return nil, fmt.Errorf("repo %s: use https://, ssh://, user@host:path or a path", u)
}

// Far says that the remote is on another machine, as far as its address tells.
func (r *Repo) Far() bool {
	switch rem := r.remote.(type) {
	case *httpRemote:
		return !loopback(rem.base.Hostname())
	case *sshRemote:
		host, _, err := net.SplitHostPort(rem.addr)
		return err == nil && !loopback(host)
	}
	return false
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
