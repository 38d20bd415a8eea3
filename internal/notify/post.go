package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/nicholas-fedor/shoutrrr"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"

	"bellhop/internal/mask"
	"bellhop/internal/plain"
)

// SignatureHeader has sha256= and the HMAC-SHA-256 of the body in hex, under the bytes of the URL's fragment.
const SignatureHeader = "X-Bellhop-Signature-256"

// CheckURL says what is wrong with the URL of a target, without a piece of it; nil when nothing is.
func CheckURL(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil, u.Scheme == "":
		return errors.New("it holds no URL: want one, as in ntfy://host/topic or https://host/path#signing-key")
	case isWeb(u) && u.Host == "":
		return errors.New("its URL names no host")
	case isWeb(u):
		return nil
	}

	if _, err := shoutrrr.CreateSender(raw); err != nil {
		return hide(raw, fmt.Errorf("its URL can't be used: %w", err))
	}
	return nil
}

func isWeb(u *url.URL) bool { return u.Scheme == "https" || u.Scheme == "http" }

// Post sends m to t. The error holds no piece of the target's URL.
func Post(ctx context.Context, t Target, m Message) error {
	if t.Broken != nil {
		return t.Broken
	}
	if err := CheckURL(t.URL); err != nil {
		return err
	}

	u, _ := url.Parse(t.URL) // CheckURL has read it
	err := postWeb
	if !isWeb(u) {
		err = postMessenger
	}
	return hide(t.URL, err(ctx, u, m))
}

// postWeb POSTs the message as JSON. A redirect is not followed: it would carry the message, and
// its signature, to somebody who was not chosen.
func postWeb(ctx context.Context, u *url.URL, m Message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}

	to := *u
	to.Fragment, to.RawFragment = "", ""
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "bellhop")
	if u.Fragment != "" {
		mac := hmac.New(sha256.New, []byte(u.Fragment))
		mac.Write(body)
		req.Header.Set(SignatureHeader, "sha256="+hex.EncodeToString(mac.Sum(nil)))
	}

	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := client.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10)) // so that the connection can be used again

	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("answered %d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	}
	return nil
}

// postMessenger sends the text by shoutrrr, whose calls know no context: one that hangs is left behind, and
// ends by deadlines of its own.
func postMessenger(ctx context.Context, u *url.URL, m Message) error {
	sender, err := shoutrrr.CreateSender(u.String())
	if err != nil {
		return err
	}

	text := m.Title() + "\n" + m.Body()
	params := types.Params{}
	if u.Scheme == "smtp" {
		text = m.Body()
		params.SetTitle(m.Title()) // the subject of the mail
	} else {
		text = quietMentions(text)
	}

	done := make(chan error, 1)
	go func() { done <- errors.Join(sender.Send(text, &params)...) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("no answer: %w", context.Cause(ctx))
	}
}

// quietMentions keeps the subject of a commit from calling everybody in a chat.
func quietMentions(s string) string { return strings.ReplaceAll(s, "@", "@\u200b") }

// hide takes the pieces of a URL out of an error.
func hide(raw string, err error) error {
	if err == nil {
		return nil
	}

	var f mask.Filter
	for _, piece := range pieces(raw) {
		f.Add("url", []byte(strings.Trim(piece, "/")))
	}
	return errors.New(plain.Line(f.Text(err.Error()), plain.MaxLine))
}

// pieces are the parts of a URL that may be secret. The scheme is none; a host is one where a messenger keeps a
// token there.
func pieces(raw string) []string {
	all := []string{raw}
	u, err := url.Parse(raw)
	if err != nil {
		return all
	}

	password, _ := u.User.Password()
	all = append(all, u.User.Username(), password, u.Fragment, u.RawQuery, u.EscapedPath())
	all = append(all, strings.Split(u.Path, "/")...)
	for _, values := range u.Query() {
		all = append(all, values...)
	}
	if !isWeb(u) {
		all = append(all, u.Host)
	}
	return all
}
