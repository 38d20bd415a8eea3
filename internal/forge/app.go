package forge

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"sync"
	"time"

	"bellhop/internal/forge/rest"
)

// An App is a GitHub App that is installed on the repo. Its tokens are for this repo alone and live for an hour, and what it does
// shows as the App's, so that it ends with no person's account.
type App struct {
	ID  string // as the App's settings show it, or its client id
	Key func() ([]byte, error)
}

var appID = regexp.MustCompile(`^[A-Za-z0-9.]{1,64}$`)

// Check says what is wrong with an App, before it is used.
func (a *App) Check() error {
	if !appID.MatchString(a.ID) {
		return errors.New("the id of the GitHub App is a number, or its client id")
	}
	_, err := a.key()
	return err
}

// key reads the private key, as GitHub has it downloaded.
func (a *App) key() (*rsa.PrivateKey, error) {
	text, err := a.Key()
	if err != nil {
		return nil, fmt.Errorf("read the key of the GitHub App: %w", err)
	}
	defer clear(text)

	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("the key of the GitHub App is no PEM file")
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}

	any, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, isRSA := any.(*rsa.PrivateKey)
	if err != nil || !isRSA {
		return nil, errors.New("the key of the GitHub App is no RSA private key")
	}

	return key, nil
}

// Times of the tokens of an App. GitHub refuses a proof that lives for more than ten minutes, or that was made in the future of
// its clock.
const (
	proofTime  = 9 * time.Minute
	clockSkew  = time.Minute
	renewEarly = 5 * time.Minute
)

// proof is a JSON Web Token by which the App proves who it is: RFC 7519, signed by RS256.
func (a *App) proof(now time.Time) (string, error) {
	key, err := a.key()
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{"iat": now.Add(-clockSkew).Unix(), "exp": now.Add(proofTime).Unix(), "iss": a.ID})
	if err != nil {
		return "", err
	}

	code := base64.RawURLEncoding.EncodeToString
	text := code([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + code(claims)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("sign with the key of the GitHub App: %w", err)
	}

	return text + "." + code(signature), nil
}

// An installation is an App on one repo: it logs in by a token that it renews.
type installation struct {
	app         *App
	web         *rest.Client // logs in by the proof
	owner, name string

	mu      sync.Mutex
	id      int64 // of the installation; 0: not asked for yet
	token   string
	expires time.Time
}

func newInstallation(base *url.URL, app *App, owner, name string) *installation {
	prove := func() (string, error) { return app.proof(time.Now()) }
	return &installation{app: app, web: rest.New(base, rest.Header("Authorization", "Bearer ", prove)), owner: owner, name: name}
}

// login adds a token that is good for a while.
func (i *installation) login(ctx context.Context, h http.Header) error {
	i.mu.Lock()
	defer i.mu.Unlock()

	if time.Until(i.expires) < renewEarly {
		if err := i.renew(ctx); err != nil {
			return fmt.Errorf("log in as the GitHub App: %w", err)
		}
	}

	h.Set("Authorization", "Bearer "+i.token)
	return nil
}

// author is as whom the App writes. No person's login can end in [bot].
func (i *installation) author(ctx context.Context) (author, error) {
	var app struct {
		Slug string `json:"slug"`
	}
	err := i.web.Ask(ctx, http.MethodGet, "app", nil, &app)
	if err != nil || app.Slug == "" {
		return author{}, err
	}
	return author{Login: app.Slug + "[bot]"}, nil
}

// renew asks for a token of this repo alone: https://docs.github.com/en/rest/apps/apps.
func (i *installation) renew(ctx context.Context) error {
	if i.id == 0 {
		var found struct {
			ID int64 `json:"id"`
		}
		path := "repos/" + url.PathEscape(i.owner) + "/" + url.PathEscape(i.name) + "/installation"
		if err := i.web.Ask(ctx, http.MethodGet, path, nil, &found); err != nil {
			return err
		}
		i.id = found.ID
	}

	var got struct {
		Token   string    `json:"token"`
		Expires time.Time `json:"expires_at"`
	}
	body := map[string][]string{"repositories": {i.name}}
	if err := i.web.Ask(ctx, http.MethodPost, fmt.Sprintf("app/installations/%d/access_tokens", i.id), body, &got); err != nil {
		i.id = 0 // it may have been installed anew
		return err
	}
	if got.Token == "" {
		return errors.New("the forge gave no token")
	}

	i.token, i.expires = got.Token, got.Expires
	return nil
}
