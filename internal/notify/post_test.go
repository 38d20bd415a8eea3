package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"bellhop/internal/history"
	"bellhop/internal/lab/port"
)

func ptr[T any](v T) *T { return &v }

var sample = Message{V: 1, Network: "hexagone", Run: "r1", Commit: ptr("0123456789abcdef"), Author: ptr("cadey"), Subject: ptr("bot: raise the limit"),
	Outcome: ptr("partial"), TookMs: ptr(int64(12_340)), URL: ptr("https://bellhop.example.org/runs/r1"),
	Hosts: []Host{
		{Name: "kos-mos", Event: Failed, State: "rolled-back", Error: ptr("web.service failed: exit code 1")},
		{Name: "lufta", Event: Failed, State: "unconfirmed", Reason: ptr("cut-off")},
		{Name: "lap", Event: Away, State: "pending", Error: ptr("no route")},
		{Name: "chrysalis", Event: Recovered, State: "current"},
	},
	others: []history.RunResult{{Name: "pneuma", Outcome: ptr(history.OutcomeDone)}, {Name: "x", Outcome: ptr(history.OutcomeDone)}},
}

// What people read.
func TestText(t *testing.T) {
	want := `hexagone: 2 hosts failed, 1 host away, 1 host well again
kos-mos: rolled-back, web.service failed: exit code 1
lufta: unconfirmed (cut-off)
lap: away, no route
chrysalis: well again
done: pneuma, x
0123456 bot: raise the limit, by cadey, took 12.3s
https://bellhop.example.org/runs/r1`
	if got := sample.Title() + "\n" + sample.Body(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Hosts that failed alike share a line, and no message is longer than people read.
func TestManyHosts(t *testing.T) {
	var m Message
	for range 300 {
		m.Hosts = append(m.Hosts, Host{Name: "h", Event: Failed, State: "refused", Error: ptr("services/web: no such user")})
	}
	if got := m.Body(); got != "h, h, h, h and 296 more: refused, services/web: no such user" {
		t.Errorf("got %s", got)
	}
	for i := range m.Hosts {
		m.Hosts[i].Error = ptr(strings.Repeat("x", i))
	}
	if got := strings.Count(m.Body(), "\n"); got != maxLines {
		t.Errorf("%d lines", got)
	}
}

// The POST is the contract's JSON, signed under the fragment, which is not sent.
func TestSignedPost(t *testing.T) {
	var got Message
	var bad []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mac := hmac.New(sha256.New, []byte("s3cret key"))
		mac.Write(body)
		if r.Header.Get(SignatureHeader) != "sha256="+hex.EncodeToString(mac.Sum(nil)) {
			bad = append(bad, "signature "+r.Header.Get(SignatureHeader))
		}
		if r.Method != "POST" || r.URL.RawQuery != "q=1" || r.RequestURI != "/hook?q=1" || r.Header.Get("Content-Type") != "application/json" {
			bad = append(bad, r.Method+" "+r.RequestURI)
		}
		if err := json.Unmarshal(body, &got); err != nil {
			bad = append(bad, err.Error())
		}
		var fields map[string]any
		_ = json.Unmarshal(body, &fields)
		for _, name := range []string{"v", "network", "run", "commit", "author", "subject", "outcome", "hosts", "took_ms", "url"} {
			if _, ok := fields[name]; !ok {
				bad = append(bad, "no "+name)
			}
		}
	}))
	defer srv.Close()

	if err := Post(t.Context(), Target{Name: "x", URL: srv.URL + "/hook?q=1#s3cret%20key"}, sample); err != nil {
		t.Fatal(err)
	}
	if len(bad) > 0 || got.Hosts[0].Name != "kos-mos" || *got.Subject != *sample.Subject {
		t.Errorf("bad: %q, got %+v", bad, got)
	}
}

// A redirect is not followed, and is an error.
func TestNoRedirect(t *testing.T) {
	followed := false
	to := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed = true }))
	defer to.Close()
	srv := httptest.NewServer(http.RedirectHandler(to.URL, http.StatusTemporaryRedirect))
	defer srv.Close()

	err := Post(t.Context(), Target{URL: srv.URL + "/"}, sample)
	if err == nil || followed || !strings.Contains(err.Error(), "307") {
		t.Errorf("followed %v, err %v", followed, err)
	}
}

// No error holds a piece of a URL, whichever way it can't be used.
func TestErrorsHideURL(t *testing.T) {
	addr, release, err := port.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	defer release()

	noNetwork(t)
	for _, raw := range []string{
		"http://" + addr + "/hooks/tokentoken?key=querysecret#fragmentsecret",
		"http://someuser:passwordpw@" + addr + "/hooks/tokentoken",
		"discord://tokentoken@",
		"nosuch://tokentoken@hostsecret/pathsecret",
		"ntfy://someuser:passwordpw@" + addr + "/tokentoken?scheme=http",
		"slack://hook:TAAAAAAAA-BBBBBBBBB-tokentokentokentokentoke@webhook",
		"zulip://bot%40example.org:passwordpw@127.0.0.1:1/?stream=x&topic=y",
		"teams+https://hostsecret.example.org/pathsecret/tokentoken",
		"generic+https://127.0.0.1:1/tokentoken?disabletls=maybe",
		"telegram://123:tokentoken@telegram",
		"smtp://someuser:passwordpw@" + addr + "/?from=a@example.org&to=b@example.org&encryption=None",
		"tokentoken passwordpw querysecret",
		"http://[::1/tokentoken",
		"",
	} {
		err := Post(t.Context(), Target{Name: "x", URL: raw}, sample)
		if err == nil {
			t.Errorf("%s: no error", raw)
			continue
		}
		for _, secret := range []string{"tokentoken", "querysecret", "fragmentsecret", "passwordpw", "hostsecret", "pathsecret", "someuser"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: %v", raw, err)
			}
		}
	}
}

// A target that never answers costs the time of one message and no more.
func TestHangs(t *testing.T) {
	held := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-held }))
	defer srv.Close()
	defer close(held)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for _, raw := range []string{srv.URL, "ntfy://" + strings.TrimPrefix(srv.URL, "http://") + "/topic?scheme=http"} {
		if err := Post(ctx, Target{URL: raw}, sample); err == nil {
			t.Errorf("%s: no error", raw)
		}
	}
}

// The text of a commit calls nobody in a chat, and reaches a messenger whole.
func TestMessenger(t *testing.T) {
	var got string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = r.URL.Path + "\n" + string(body)
		io.WriteString(w, `{"id":"x","time":1,"event":"message","topic":"bellhop"}`)
	}))
	defer srv.Close()

	m := sample
	m.Subject = ptr("hello @everyone")
	if err := Post(t.Context(), Target{URL: "ntfy://" + strings.TrimPrefix(srv.URL, "http://") + "/bellhop?scheme=http"}, m); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(got, "2 hosts failed") || !strings.Contains(got, "kos-mos: rolled-back") || strings.Contains(got, "@everyone") {
		t.Errorf("got %s", got)
	}
}

// noNetwork has every client of the standard library fail as one does whose network is gone.
func noNetwork(t *testing.T) {
	t.Helper()
	old := http.DefaultTransport
	http.DefaultTransport = refusing{}
	t.Cleanup(func() { http.DefaultTransport = old })
}

type refusing struct{}

func (refusing) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("network is unreachable")
}

// An error that a client made of a URL of its own shows nothing of it either.
func TestHideOtherURL(t *testing.T) {
	err := hide("slack://hook:T1-B1-secretsecret@webhook", errors.New(`Post "https://hooks.slack.com/services/T1/B1/secretsecret": no route`))
	if strings.Contains(err.Error(), "secretsecret") || !strings.Contains(err.Error(), "no route") {
		t.Error(err)
	}
}

// Only what Telegram itself says is good is good.
func TestTelegram(t *testing.T) {
	answer, code := `{"ok":true}`, 200
	var got []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m map[string]string
		_ = json.NewDecoder(r.Body).Decode(&m)
		got = append(got, r.URL.Path+" "+m["chat_id"])
		w.WriteHeader(code)
		io.WriteString(w, answer)
	}))
	defer srv.Close()
	defer func(old string) { telegramAPI = old }(telegramAPI)
	telegramAPI = srv.URL

	to := Target{URL: "telegram://123:abc@telegram?chats=@one,-42"}
	if err := Post(t.Context(), to, sample); err != nil {
		t.Fatal(err)
	}
	if want := []string{"/bot123:abc/sendMessage @one", "/bot123:abc/sendMessage -42"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	for _, bad := range []struct {
		answer string
		code   int
	}{{`{"ok":false}`, 200}, {`<html>`, 200}, {`{"ok":true}`, 502}, {``, 200}} {
		answer, code = bad.answer, bad.code
		if err := Post(t.Context(), to, sample); err == nil {
			t.Errorf("%q with %d is taken for success", bad.answer, bad.code)
		}
	}
}

// A text of strangers makes no message that a messenger refuses for its length.
func TestTextIsShort(t *testing.T) {
	if got := short(quiet(strings.Repeat("@", 5000))); len(got) > 4000 || !utf8.ValidString(got) {
		t.Errorf("%d bytes", len(got))
	}
}
