package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strings"
)

// A Push is what a forge tells of a push, as far as a server reads it.
type Push struct {
	Ref   string // refs/heads/main
	After string // commit that the ref holds now; "": it is not told
	Repo  string // OWNER/NAME
}

// NewDelivery makes the request by which a forge, named as in Config.Forge, tells the webhook at url of a push. It is
// how a webhook is tried out: secret signs the request, or stands in it where the forge does not sign. The error is
// that no such forge is known, or that url is none.
func NewDelivery(ctx context.Context, forge, url string, secret []byte, p Push) (*http.Request, error) {
	f, err := forgeNamed(forge)
	if err != nil {
		return nil, err
	}

	body, err := json.Marshal(f.word(p))
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}

	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "bellhop")
	f.sign(req.Header, strings.ToLower(rand.Text()), body, secret)
	return req, nil
}
