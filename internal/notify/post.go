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
	"regexp"
	"strings"
	"sync"

	"github.com/nicholas-fedor/shoutrrr/pkg/router"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"

	"bellhop/internal/mask"
	"bellhop/internal/plain"
)

// SignatureHeader has sha256= and the HMAC-SHA-256 of the body in hex, under the bytes of the URL's fragment.
const SignatureHeader = "X-Bellhop-Signature-256"

// checkWeb says what is wrong with a URL that is no messenger's, without a piece of it; nil when nothing is.
func checkWeb(u *url.URL, err error) error {
	switch {
	case err != nil, u.Scheme == "":
		return errors.New("it holds no URL: want one, as in ntfy://host/topic or https://host/path#signing-key")
	case u.Host == "":
		return errors.New("its URL names no host")
	}
	return nil
}

// locate makes the client of a messenger; that of some logs in at once.
func locate(raw string) (types.Service, error) {
	var r router.ServiceRouter
	return r.Locate(raw)
}

// safely turns a panic of a messenger's client into an error: a slip in it must not end the server.
func safely(do func() error) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("the messenger's client broke down")
		}
	}()
	return do()
}

func isWeb(u *url.URL) bool { return u.Scheme == "https" || u.Scheme == "http" }

// Post sends m to t. The error holds no piece of the target's URL.
func Post(ctx context.Context, t Target, m Message) error {
	if t.Find != nil {
		var err error
		if t.URL, err = t.Find(); err != nil {
			return err
		}
	}

	u, err := url.Parse(t.URL)
	isMessenger := err == nil && u.Scheme != "" && !isWeb(u)
	switch {
	case isMessenger && u.Scheme == "telegram":
		err = postTelegram(ctx, u, m)
	case isMessenger:
		err = postMessenger(ctx, u, m)
	default:
		if err = checkWeb(u, err); err == nil {
			err = postWeb(ctx, u, m)
		}
	}

	return hide(t.URL, err)
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

	_, err = answerTo(req)
	return err
}

// answerTo sends a request, and returns what was answered if that is good.
func answerTo(req *http.Request) ([]byte, error) {
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()

	body, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	if answer.StatusCode/100 != 2 {
		return nil, fmt.Errorf("answered %d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	}

	return body, err
}

// telegramAPI is where bots speak to Telegram; see https://core.telegram.org/bots/api#sendmessage.
var telegramAPI = "https://api.telegram.org"

// postTelegram sends to each chat of telegram://TOKEN@telegram?chats=A,B. The client of shoutrrr takes an answer that it
// can't read, and none at all, for a good one.
func postTelegram(ctx context.Context, u *url.URL, m Message) error {
	password, _ := u.User.Password()
	token := u.User.Username() + ":" + password
	chats := strings.FieldsFunc(u.Query().Get("chats")+","+u.Query().Get("channels"), func(r rune) bool { return r == ',' })
	if len(chats) == 0 {
		return errors.New("its URL names no chat: want telegram://TOKEN@telegram?chats=@channel")
	}

	for _, chat := range chats {
		body, err := json.Marshal(map[string]string{"chat_id": chat, "text": short(quiet(m.Title() + "\n" + m.Body()))})
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, telegramAPI+"/bot"+token+"/sendMessage", bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")

		answer, err := answerTo(req)
		if err != nil {
			return err
		}
		var said struct {
			OK bool `json:"ok"`
		}
		if err := json.Unmarshal(answer, &said); err != nil || !said.OK {
			return errors.New("what answered is not Telegram")
		}
	}

	return nil
}

// hanging are the URLs of messengers that have not answered yet.
var hanging sync.Map

// postMessenger sends the text by shoutrrr, whose calls know no context: one that hangs is left behind, and nothing else is
// sent there until it has ended.
func postMessenger(ctx context.Context, u *url.URL, m Message) error {
	text, params := m.Title()+"\n"+m.Body(), types.Params{}
	if u.Scheme == "smtp" {
		text = m.Body()
		params.SetTitle(m.Title()) // the subject of the mail
		params["usehtml"] = "No"
	} else {
		text = quiet(text)
	}

	raw := u.String()
	if _, hangs := hanging.LoadOrStore(raw, true); hangs {
		return errors.New("the message before was not answered yet")
	}

	done := make(chan error, 1)
	go func() {
		defer hanging.Delete(raw)
		done <- safely(func() error {
			service, err := locate(raw)
			if err != nil {
				return fmt.Errorf("its URL can't be used: %w", err)
			}
			return service.Send(short(text), &params)
		})
	}()

	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("no answer: %w", context.Cause(ctx))
	}
}

// quiet keeps the subject of a commit, or the words of a host, from calling everybody in a chat, and from making links there.
func quiet(s string) string {
	return strings.NewReplacer("@", "@\u200b", "<", "‹", ">", "›", "](", "]\u200b(").Replace(s)
}

// maxText is how much of a text every messenger takes, bytes.
const maxText = 3 << 10

// short is the beginning of a text, as much as every messenger takes.
func short(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + " …"
}

// anyURL is what looks like a URL. Some clients make another one of the target's, with the same secrets in it.
var anyURL = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"']+`)

// hide takes URLs, and the pieces of the target's, out of an error.
func hide(raw string, err error) error {
	if err == nil {
		return nil
	}

	var f mask.Filter
	for _, piece := range pieces(raw) {
		f.Add("url", []byte(strings.Trim(piece, "/")))
	}

	return errors.New(plain.Line(f.Text(anyURL.ReplaceAllString(err.Error(), "‹url›")), plain.MaxLine))
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
