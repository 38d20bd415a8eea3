package server

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
)

// The admin listener asks for a token, since on loopback every user of the machine can reach it.
// The token comes as a bearer, as the password of basic authentication, or once as ?token= in
// the address that a person opens: then it is changed for a cookie, so that it stays neither in
// the address bar nor in the history of the browser.

const adminCookie = "bellhop_admin"

// mayAdmin says whether the request proves to know the token.
func (s *Server) mayAdmin(r *http.Request) bool {
	if s.cfg.AdminToken == "" {
		return s.cfg.AdminOpen
	}
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && s.isToken(bearer) {
		return true
	}
	if _, password, ok := r.BasicAuth(); ok && s.isToken(password) {
		return true
	}
	c, err := r.Cookie(adminCookie)
	return err == nil && equal(c.Value, s.cookieValue())
}

func (s *Server) isToken(got string) bool {
	return s.cfg.AdminToken != "" && equal(got, s.cfg.AdminToken)
}

// equal compares in a time that tells nothing, not even a length.
func equal(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// cookieValue stands for the token in a browser: the token cannot be found from it.
func (s *Server) cookieValue() string {
	mac := hmac.New(sha256.New, []byte(s.cfg.AdminToken))
	mac.Write([]byte("bellhop admin cookie"))
	return hex.EncodeToString(mac.Sum(nil))
}

// exchangeToken changes ?token= for a cookie, and sends the browser to the same path without it.
// It says whether it answered.
func (s *Server) exchangeToken(w http.ResponseWriter, r *http.Request) bool {
	query := r.URL.Query()
	tokens := query["token"]
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	if !reads || len(tokens) != 1 || !s.isToken(tokens[0]) {
		return false
	}

	query.Del("token")
	http.SetCookie(w, &http.Cookie{Name: adminCookie, Value: s.cookieValue(), Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
	here := url.URL{Path: "/" + strings.TrimLeft(r.URL.Path, `/\`), RawQuery: query.Encode()} // "//x" would be another host
	w.Header().Set("Location", here.String())
	w.WriteHeader(http.StatusSeeOther)
	return true
}

// AdminPage is the address that a person opens, with the token in it: where the admin listener
// listens, as 127.0.0.1:8081. It is for the terminal of who runs the server, and for nothing else.
func AdminPage(address, token string) string {
	page := url.URL{Scheme: "http", Host: address, Path: "/"}
	if token != "" {
		page.RawQuery = url.Values{"token": {token}}.Encode()
	}
	return page.String()
}
