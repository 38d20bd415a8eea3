//go:build e2e

package e2e

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"strings"
	"testing"
	"time"
)

// A smtpSink takes mail and keeps it.
type smtpSink struct {
	net.Listener
	mails chan string
}

func newSMTPSink(t *testing.T) *smtpSink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &smtpSink{Listener: l, mails: make(chan string, 100)}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.take(c)
		}
	}()
	return s
}

// take speaks as much of RFC 5321 as a client without extensions needs.
func (s *smtpSink) take(c net.Conn) {
	defer c.Close()
	text := textproto.NewReader(bufio.NewReader(c))
	say := func(line string) { _, _ = io.WriteString(c, line+"\r\n") }

	say("220 sink")
	for {
		line, err := text.ReadLine()
		if err != nil {
			return
		}
		word, _, _ := strings.Cut(strings.ToUpper(line), " ")
		switch word {
		case "DATA":
			say("354 go on")
			body, err := text.ReadDotBytes()
			if err != nil {
				return
			}
			s.mails <- string(body)
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 fine")
		}
	}
}

// ntfyTexts are what the server on a host was sent, by its own API.
func ntfyTexts(t *testing.T, base string) (titles, texts string) {
	t.Helper()
	answer, err := http.Get(base + "/bellhop/json?poll=1")
	if err != nil {
		return "", ""
	}
	defer answer.Body.Close()
	lines := json.NewDecoder(answer.Body)
	for {
		var m struct {
			Title   string `json:"title"`
			Message string `json:"message"`
		}
		if lines.Decode(&m) != nil {
			return titles, texts
		}
		titles, texts = titles+m.Title+"\n", texts+m.Message+"\n"
	}
}

// A push that fails is told to Debian's own ntfy server on a host, by mail, and by a signed webhook.
func TestMessages(t *testing.T) {
	t.Setenv("BELLHOP_RIG_SUITE", "trixie")
	w := oneHost(t)
	on(t, "host1", "systemd-run -q --unit=messenger ntfy serve --listen-http :2586 --base-url http://ntfy.example.org --cache-file /root/ntfy.db")
	ntfy := "http://" + addr("host1") + ":2586"
	eventually(t, 20*time.Second, "ntfy answers", func() bool {
		answer, err := http.Get(ntfy + "/v1/health")
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})

	mail := newSMTPSink(t)
	posts := make(chan string, 100) // those that are signed
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		sum := hmac.New(sha256.New, []byte("signing-key"))
		sum.Write(body)
		if r.Header.Get("X-Bellhop-Signature-256") == "sha256="+hex.EncodeToString(sum.Sum(nil)) {
			posts <- string(body)
		}
	}))
	defer hook.Close()

	for name, url := range map[string]string{
		"phone": "ntfy://" + strings.TrimPrefix(ntfy, "http://") + "/bellhop?scheme=http",
		"mail":  "smtp://" + mail.Addr().String() + "/?from=bellhop@example.org&to=cadey@example.org&encryption=None&auth=None",
		"hook":  hook.URL + "#signing-key",
	} {
		if out, code := w.tryIn(strings.NewReader(url), "secret", "set", "notify/"+name); code != 0 {
			t.Fatal(out)
		}
	}
	w.edit("bellhop.yaml", "network:", "notify: { phone: { source: secrets/notify/phone.age }, mail: { source: secrets/notify/mail.age }, hook: { source: secrets/notify/hook.age } }\nnetwork:")
	w.write(map[string]string{"services/x/service.yaml": "settle: 500ms\n", "services/x/x.service": sleeper})
	w.deploy("it works", "current")

	w.write(map[string]string{"services/x/x.service": strings.Replace(sleeper, "ExecStart=", "ExecStart=/bin/false ", 1)})
	w.deploy("a slip", "rolled-back")
	eventually(t, 20*time.Second, "ntfy has the failure", func() bool {
		titles, texts := ntfyTexts(t, ntfy)
		return strings.Contains(titles+texts, "chrysalis: rolled-back") && strings.Contains(titles+texts, "a slip")
	})
	wantOf(t, mail.mails, "chrysalis: rolled-back")
	wantOf(t, posts, `"state":"rolled-back"`)
}

// wantOf waits for a message that holds text.
func wantOf(t *testing.T, from <-chan string, text string) {
	t.Helper()
	var all []string
	for {
		select {
		case one := <-from:
			if all = append(all, one); strings.Contains(one, text) {
				return
			}
		case <-time.After(90 * time.Second):
			t.Fatalf("no message holds %q; %d came: %q", text, len(all), all)
		}
	}
}
