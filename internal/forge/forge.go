// Package forge tells the git host that a repo lies on what came of a push to it.
//
// A forge is GitHub, Forgejo, Gitea or GitLab. A status is what the forge shows beside a commit: it is pending while
// bellhop is at work, and ends as success, failure or error. A reporter compares what history knows of commits with
// what the forge was told last, and tells it the difference.
//
// Its promise: each commit that bellhop looked at ends in the status that came of it, whatever ends the process in
// between; a status may be sent twice, never left out. A forge that hangs or refuses delays no push. A token is in no
// error and no log line, and goes to no other host than that of the API.
package forge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"bellhop/internal/forge/rest"
)

// A Kind is one kind of forge.
type Kind string

// The kinds that are known.
const (
	GitHub  Kind = "github"
	Forgejo Kind = "forgejo"
	Gitea   Kind = "gitea"
	GitLab  Kind = "gitlab"
)

// A State is that of a commit status, as GitHub and Forgejo spell it.
type State string

const (
	Pending State = "pending" // it is being deployed, or waits for that
	Success State = "success" // every host holds it, or is away
	Failure State = "failure" // a host does not hold it, though it was tried
	Error   State = "error"   // it was not tried
)

// A Status is what the forge shows beside a commit.
type Status struct {
	State       State
	Description string // one line of at most MaxDescription bytes
	URL         string // of the run's page; "": there is none
	Context     string // bellhop/NETWORK: the name that a branch protection rule asks for
}

// MaxDescription is the longest description of a status that every forge takes, in bytes.
const MaxDescription = 140

// A Config says which repo on which forge, and how to log in there.
type Config struct {
	Kind  Kind
	URL   string // base of the API, as https://api.github.com
	Repo  string // OWNER/NAME; on GitLab with all groups
	Token func() (string, error)
	App   *App // in place of Token, on GitHub; nil: there is none
}

// A Client speaks to one forge about one repo.
type Client struct {
	kind Kind
	repo string
	url  *url.URL
	api  api
}

// An api is what bellhop asks of a forge. Each method is one request, or two. An error of the forge is an *APIError.
type api interface {
	setStatus(ctx context.Context, commit string, s Status) error
	// requests are those of one page. Pages count from 1.
	requests(ctx context.Context, branch string, page int) (some []Request, isLast bool, err error)
	// merged are the numbers of the requests that brought a commit.
	merged(ctx context.Context, commit string) ([]int, error)
	isPublic(ctx context.Context) (bool, error)
	// me is as whom comments are written.
	me(ctx context.Context) (author, error)
	// findComment is the id of the first comment of an author that begins with marker; 0: there is none.
	findComment(ctx context.Context, number int, marker string, of author) (int64, error)
	addComment(ctx context.Context, number int, text string) (int64, error)
	editComment(ctx context.Context, number int, id int64, text string) error
}

// New makes the client of a repo. It asks the forge nothing.
func New(cfg Config) (*Client, error) {
	base, err := parseBase(cfg.URL)
	if err != nil {
		return nil, err
	}

	owner, name, ok := strings.Cut(cfg.Repo, "/")
	hasBoth := ok && owner != "" && name != ""
	isDeep := strings.Contains(name, "/") && cfg.Kind != GitLab
	if !hasBoth || isDeep {
		return nil, fmt.Errorf("forge: %q is no OWNER/NAME", cfg.Repo)
	}

	switch {
	case cfg.App != nil && cfg.Kind != GitHub:
		return nil, errors.New("a GitHub App logs in at GitHub alone")
	case cfg.App == nil && cfg.Token == nil:
		return nil, errors.New("forge: no token")
	}

	c := &Client{kind: cfg.Kind, repo: cfg.Repo, url: base}
	switch cfg.Kind {
	case GitHub:
		c.api = newGitHub(base, owner, name, cfg)
	case Forgejo, Gitea:
		c.api = &giteaAPI{web: rest.New(base, rest.Header("Authorization", "token ", cfg.Token)), owner: owner, name: name}
	case GitLab:
		c.api = &gitlabAPI{web: rest.New(base, rest.Header("PRIVATE-TOKEN", "", cfg.Token)), project: cfg.Repo}
	default:
		return nil, fmt.Errorf("forge %q is not known: want %s", cfg.Kind, Kinds())
	}

	return c, nil
}

// Name is the repo on its forge, as people and the mark of a reporter call it.
func (c *Client) Name() string { return c.url.Host + "/" + c.repo }

// Kinds are the names of all kinds, for people.
func Kinds() string {
	return strings.Join([]string{string(GitHub), string(Forgejo), string(Gitea), string(GitLab)}, ", ")
}

// IsKind says that a forge of that name is known.
func IsKind(name string) bool { return apiPaths[Kind(name)] != "" }

// apiPaths are where the API is below the address of a forge of one's own.
var apiPaths = map[Kind]string{GitHub: "/api/v3", Forgejo: "/api/v1", Gitea: "/api/v1", GitLab: "/api/v4"}

// hosts are the forges that everybody knows by their host.
var hosts = map[string]Kind{"github.com": GitHub, "codeberg.org": Forgejo, "gitea.com": Gitea, "gitlab.com": GitLab}

// Guess is the kind of forge at a host, "" when the host does not tell: one of the well-known, or one that has the kind in
// its name, as git.example.org has not and gitlab.example.org has.
func Guess(host string) Kind {
	host = strings.ToLower(host)
	if kind := hosts[host]; kind != "" {
		return kind
	}
	first, _, _ := strings.Cut(host, ".")
	if slices.Contains(slices.Collect(maps.Keys(apiPaths)), Kind(first)) {
		return Kind(first)
	}

	return ""
}

// DefaultURL is the base of the API of a forge whose repos have that web address, as https://git.example.org:3000.
func DefaultURL(kind Kind, site string) string {
	if u, err := url.Parse(site); err == nil && strings.EqualFold(u.Hostname(), "github.com") {
		return "https://api.github.com"
	}
	return strings.TrimRight(site, "/") + apiPaths[kind]
}

// Site is the web address of the host of a repo, "" for one on this machine: an address of ssh says nothing of the web's
// port, which is 443 then.
func Site(repo string) (site, host string) {
	if u, err := url.Parse(repo); err == nil && u.Host != "" {
		switch strings.ToLower(u.Scheme) {
		case "https", "http":
			return strings.ToLower(u.Scheme) + "://" + u.Host, u.Hostname()
		case "ssh", "git+ssh", "git":
			return "https://" + u.Hostname(), u.Hostname()
		}
		return "", ""
	}

	host, path, ok := strings.Cut(repo, ":") // as ssh has it: user@host:path
	isOdd := strings.Contains(repo, "://") || strings.Contains(host, "/")
	if !ok || isOdd || path == "" {
		return "", ""
	}
	if _, after, ok := strings.Cut(host, "@"); ok {
		host = after
	}
	if host == "" || strings.ContainsAny(host, "[]") {
		return "", ""
	}

	return "https://" + host, host
}

func parseBase(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	isWeb := err == nil && (u.Scheme == "https" || u.Scheme == "http")
	if !isWeb || u.Host == "" {
		return nil, errors.New("the forge's API has no usable address: want one as https://git.example.org/api/v1")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("the address of the forge's API holds a login, ? or #: the token belongs into a file")
	}

	u.Path = strings.TrimRight(u.Path, "/") + "/"
	return u, nil
}
