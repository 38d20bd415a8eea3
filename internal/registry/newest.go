// Package registry asks registries of images which digest a tag has by now.
//
// One HEAD of the manifest answers that, and is in no registry's quota of pulls. A login is sent over TLS alone, but
// for this machine itself. Names and digests of a registry are those of a stranger: what is no digest is an error.
package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/distribution/reference"

	"bellhop/internal/plain"
	"bellhop/internal/registry/login"
)

// A Ref is the name of an image, whole: docker.io/library/nginx:1.27.
type Ref struct {
	Registry   string // docker.io
	Repository string // library/nginx
	Tag        string // "latest" where neither tag nor digest is written
	Digest     string // sha256:…; "" where none is written
}

// Parse reads an image as compose files and quadlets name it. One that is named by its digest alone has no Tag.
func Parse(text string) (Ref, error) {
	named, err := reference.ParseNormalizedNamed(text)
	if err != nil || len(text) > 512 {
		return Ref{}, fmt.Errorf("%s is no name of an image", plain.Line(text, plain.MaxLine))
	}
	r := Ref{Registry: reference.Domain(named), Repository: reference.Path(named)}
	if d, ok := named.(reference.Digested); ok {
		r.Digest = d.Digest().String()
	}
	if t, ok := reference.TagNameOnly(named).(reference.Tagged); ok {
		r.Tag = t.Tag()
	}
	return r, nil
}

// String is the tag of r, whole.
func (r Ref) String() string { return r.Registry + "/" + r.Repository + ":" + r.Tag }

// A Client asks registries.
type Client struct {
	// Login is the login at a registry; false for none. Nil: there are none.
	Login func(registry string) (login.Login, bool)
	// Here says that registries of this machine are asked, over plain HTTP. A host means itself by such a name.
	Here bool
	HTTP *http.Client // nil: one that gives up after 20 s, and follows to https alone
}

// kinds are what a manifest may be: an index of several platforms first, since that is what engines note.
const kinds = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"

var digestRule = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// Newest is the digest that the tag of r has by now.
func (c *Client) Newest(ctx context.Context, r Ref) (string, error) {
	digest, err := c.newest(ctx, r)
	if err != nil {
		return "", fmt.Errorf("%s: %w", r, err)
	}
	return digest, nil
}

func (c *Client) newest(ctx context.Context, r Ref) (string, error) {
	to := url.URL{Scheme: "https", Host: r.Registry, Path: "/v2/" + r.Repository + "/manifests/" + r.Tag}
	if r.Registry == login.Hub {
		to.Host = "registry-1.docker.io"
	}
	if isThisMachine(to.Hostname()) {
		if !c.Here {
			return "", errors.New("the registry is the host's own, and is not asked from here")
		}
		to.Scheme = "http"
	}

	resp, err := c.head(ctx, to.String(), nil)
	if err == nil && resp.StatusCode == http.StatusUnauthorized {
		var authorize func(*http.Request)
		if authorize, err = c.answer(ctx, r, resp.Header.Get("WWW-Authenticate")); err == nil {
			resp, err = c.head(ctx, to.String(), authorize)
		}
	}
	if err != nil {
		return "", err
	}

	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return "", errors.New("the registry has no such image, or shows it to nobody who is not logged in")
	case http.StatusUnauthorized, http.StatusForbidden:
		return "", errors.New("the registry refuses: the image needs a login, or the login has no right to it")
	case http.StatusTooManyRequests:
		return "", errors.New("the registry answers this address no more for now")
	default:
		return "", fmt.Errorf("the registry answers %d", resp.StatusCode)
	}

	if digest := resp.Header.Get("Docker-Content-Digest"); digestRule.MatchString(digest) {
		return digest, nil
	}

	return "", errors.New("the registry gives no digest")
}

func isThisMachine(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (c *Client) http() *http.Client {
	if c.HTTP != nil {
		return c.HTTP
	}
	return &http.Client{Timeout: 20 * time.Second, CheckRedirect: toTLS}
}

// toTLS follows to https alone: a login goes along to another address of the same host.
func toTLS(req *http.Request, via []*http.Request) error {
	isClear := req.URL.Scheme != "https" && !isThisMachine(via[0].URL.Hostname())
	if isClear || len(via) >= 10 {
		return errors.New("the registry leads to another address that is not to be followed")
	}
	return nil
}

// head asks for the head of a manifest. The body of the response is closed.
func (c *Client) head(ctx context.Context, to string, authorize func(*http.Request)) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, to, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", kinds)
	if authorize != nil {
		authorize(req)
	}
	resp, err := c.http().Do(req)
	if err != nil {
		return nil, err
	}
	return resp, resp.Body.Close()
}

// answer answers the challenge of a registry: by the login itself, or by a token that the realm gives for it.
func (c *Client) answer(ctx context.Context, r Ref, challenge string) (func(*http.Request), error) {
	user, has := login.Login{}, false
	if c.Login != nil {
		user, has = c.Login(r.Registry)
	}

	scheme, fields := parseChallenge(challenge)
	switch {
	case scheme == "basic" && has:
		return func(req *http.Request) { req.SetBasicAuth(user.User, user.Password) }, nil
	case scheme == "basic":
		return nil, errors.New("the registry wants a login: name it under registries: in bellhop.yaml")
	case scheme != "bearer":
		return nil, errors.New("the registry wants a kind of login that is not known here")
	}

	realm, err := url.Parse(fields["realm"])
	isPlace := err == nil && realm.Host != ""
	if !isPlace || realm.Scheme != "https" && !isThisMachine(realm.Hostname()) {
		return nil, errors.New("the registry names no place for tokens that can be trusted with a login")
	}

	q := realm.Query()
	q.Set("service", fields["service"])
	q.Set("scope", "repository:"+r.Repository+":pull")
	realm.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, realm.String(), nil)
	if err != nil {
		return nil, err
	}
	if has {
		req.SetBasicAuth(user.User, user.Password)
	}

	token, err := c.token(req)
	return func(req *http.Request) { req.Header.Set("Authorization", "Bearer "+token) }, err
}

const maxToken = 64 << 10 // bytes of an answer with a token

func (c *Client) token(req *http.Request) (string, error) {
	resp, err := c.http().Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the registry gives no token: it answers %d", resp.StatusCode)
	}

	var t struct {
		Token  string `json:"token"`
		Access string `json:"access_token"`
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxToken))
	if err == nil {
		err = json.Unmarshal(text, &t)
	}
	if t.Token == "" {
		t.Token = t.Access
	}
	isPlain := strings.IndexFunc(t.Token, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
	if err != nil || t.Token == "" || !isPlain {
		return "", errors.New("the registry gives no token")
	}
	return t.Token, nil
}

var challengeField = regexp.MustCompile(`([a-z_]+)="([^"]*)"`)

// parseChallenge reads a WWW-Authenticate header.
func parseChallenge(text string) (scheme string, fields map[string]string) {
	scheme, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	fields = map[string]string{}
	for _, m := range challengeField.FindAllStringSubmatch(rest, -1) {
		fields[m[1]] = m[2]
	}
	return strings.ToLower(scheme), fields
}
