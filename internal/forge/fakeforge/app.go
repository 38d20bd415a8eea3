package fakeforge

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// appSlug is what the App is called in addresses; its comments are those of NAME[bot].
const appSlug = "bellhop-of-cadey"

// An app is a GitHub App that is installed on the repo.
type app struct {
	id      string
	key     *rsa.PublicKey
	endSoon bool
	given   int
}

// App installs a GitHub App. Its tokens are Token.
func (f *Forge) App(id string, key *rsa.PublicKey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.app = &app{id: id, key: key}
}

// Tokens counts those that the App was given.
func (f *Forge) Tokens() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.app.given
}

// TokensEndSoon has further tokens live for a minute.
func (f *Forge) TokensEndSoon() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.app.endSoon = true
}

// answerApp answers what an App asks by its proof; false when the request is another.
func (f *Forge) answerApp(w http.ResponseWriter, r *http.Request) bool {
	f.mu.Lock()
	defer f.mu.Unlock()

	isFind := r.Method == http.MethodGet && r.URL.Path == "/repos/"+Repo+"/installation"
	isApp := r.Method == http.MethodGet && r.URL.Path == "/app"
	isToken := r.Method == http.MethodPost && r.URL.Path == "/app/installations/77/access_tokens"
	isOurs := isFind || isToken || isApp
	if f.app == nil || !isOurs {
		return false
	}
	if err := f.app.verify(r.Header.Get("Authorization")); err != nil {
		fail(w, http.StatusUnauthorized, err.Error()+": "+r.Header.Get("Authorization"))
		return true
	}

	answer := map[string]any{"id": 77, "slug": appSlug}
	code := http.StatusOK
	if isToken {
		var body struct {
			Repositories []string `json:"repositories"`
		}
		if err := decode(r, &body); err != nil || len(body.Repositories) != 1 || "cadey/"+body.Repositories[0] != Repo {
			f.faults = append(f.faults, fmt.Sprintf("a token for %q: %v", body.Repositories, err))
			fail(w, http.StatusUnprocessableEntity, "repositories")
			return true
		}

		life := time.Hour
		if f.app.endSoon {
			life = time.Minute
		}

		f.app.given++
		answer, code = map[string]any{"token": Token, "expires_at": time.Now().Add(life).UTC().Format(time.RFC3339)}, http.StatusCreated
	}

	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(answer)
	return true
}

// verify checks a proof as GitHub documents it.
func (a *app) verify(header string) error {
	token, ok := strings.CutPrefix(header, "Bearer ")
	parts := strings.Split(token, ".")
	if !ok || len(parts) != 3 {
		return fmt.Errorf("a JSON web token could not be decoded")
	}

	var head struct{ Alg, Typ string }
	var claims struct {
		Iat, Exp int64
		Iss      string
	}
	for i, into := range []any{&head, &claims} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || json.Unmarshal(raw, into) != nil {
			return fmt.Errorf("a JSON web token could not be decoded")
		}
	}

	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return err
	}

	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	now := time.Now().Unix()
	switch {
	case head.Alg != "RS256":
		return fmt.Errorf("alg is %q", head.Alg)
	case rsa.VerifyPKCS1v15(a.key, crypto.SHA256, sum[:], signature) != nil:
		return fmt.Errorf("the signature is wrong")
	case claims.Iat > now, claims.Exp <= now, claims.Exp > now+600:
		return fmt.Errorf("'Expiration time' claim ('exp') is too far in the future, or over")
	case claims.Iss != a.id:
		return fmt.Errorf("iss is %q", claims.Iss)
	}

	return nil
}
