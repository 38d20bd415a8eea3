package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bellhop/internal/history"
	"bellhop/internal/lab"
	"bellhop/server"
)

// A listening is a server of a repo without hosts, and what a person asks it.
type listening struct {
	t      *testing.T
	s      *serving
	remote *lab.Remote
	state  string
}

func listenFor(t *testing.T, edit func(*serveOptions)) *listening {
	t.Helper()
	dir := t.TempDir()
	l := &listening{t: t, state: filepath.Join(dir, "state"), remote: lab.NewRemote(filepath.Join(dir, "config.git"))}
	l.remote.Commit(map[string]string{"bellhop.yaml": "network: hexagone\n"}, "nothing yet", "Cadey <c@example.com>")
	o := serveOptions{gap: time.Millisecond, listen: "127.0.0.1:0", admin: "127.0.0.1:0", poll: 30 * time.Second,
		deployerFlags: deployerFlags{stateDir: l.state, repo: l.remote.URL(), branch: "main", path: ".", rewritten: "follow"}}
	if edit != nil {
		edit(&o)
	}
	var err error
	l.s, err = o.start(t.Context(), &Env{Getenv: func(string) string { return "" }}, quietLog())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.s.stop() })
	l.waitTop(l.remote.Head())
	return l
}

// waitTop waits until history's top commit is that one.
func (l *listening) waitTop(commit string) {
	l.t.Helper()
	for end := time.Now().Add(2 * time.Minute); l.s.app.history.Top() != commit; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			l.t.Fatalf("the top commit is %s, want %s", l.s.app.history.Top(), commit)
		}
	}
}

func (l *listening) deliver(repo, after string) delivered {
	l.t.Helper()
	d, err := deliver(l.t.Context(), l.s.address, l.s.secret, server.Push{Ref: "refs/heads/main", After: after, Repo: repo}, l.s.forge.kind)
	if err != nil {
		l.t.Fatal(err)
	}
	return d
}

// run is what a verb prints.
func (l *listening) run(args ...string) string {
	l.t.Helper()
	var out bytes.Buffer
	vars := map[string]string{"BELLHOP_STATE_DIR": l.state, "HOME": l.state}
	(&Env{Args: args, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out, Getenv: func(k string) string { return vars[k] }}).Run(l.t.Context())
	return out.String()
}

// A delivery that is faster than the git server leads to a deploy, though nothing is polled.
func TestDeliveryBeforeThePush(t *testing.T) {
	l := listenFor(t, func(o *serveOptions) { o.poll, o.pollByHand = 0, true })
	before := l.remote.Head()
	after := l.remote.Commit(map[string]string{"bellhop.yaml": "network: hexagone\n# changed\n"}, "a change", "Cadey <c@example.com>")
	l.remote.Reset(before) // it does not show yet

	if d := l.deliver("any/thing", after); d.status != http.StatusAccepted {
		t.Fatalf("delivery: %+v", d)
	}
	for end := time.Now().Add(2 * time.Minute); l.s.bell.Current() != "" || len(l.s.bell.Waiting()) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the look does not end")
		}
	}
	l.remote.Reset(after)
	l.waitTop(after)
	for end := time.Now().Add(2 * time.Minute); !strings.Contains(l.run("webhook", "list"), "the remote showed it after"); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("webhook list does not say what came of it:\n%s", l.run("webhook", "list"))
		}
	}
}

func TestStatusSaysHowOftenItPolls(t *testing.T) {
	l := listenFor(t, nil)
	poll := func() (time.Duration, string) {
		var s history.Status
		if err := json.Unmarshal([]byte(l.run("status", "--json")), &s); err != nil || s.Poll == nil {
			t.Fatalf("status --json: %v, %+v", err, s.Poll)
		}
		return time.Duration(s.Poll.IntervalMs) * time.Millisecond, s.Poll.Reason
	}
	if every, reason := poll(); every != 30*time.Second || !strings.Contains(reason, "0 of the 2") {
		t.Errorf("polls every %v: %s", every, reason)
	}
	for n := 1; ; n++ { // a poll may see a commit before its delivery comes, which then announced nothing
		every, reason := poll()
		if every == 10*time.Minute && n > 2 {
			break
		}
		if n > 20 || every != 30*time.Second && n <= 2 {
			t.Fatalf("after %d announced pushes it polls every %v: %s", n-1, every, reason)
		}
		commit := l.remote.Commit(map[string]string{"bellhop.yaml": fmt.Sprintf("network: hexagone\n# %d\n", n)}, "change", "Cadey <c@example.com>")
		l.deliver("any/thing", commit)
		l.waitTop(commit)
	}
	for _, verb := range []string{"status", "doctor"} {
		if out := l.run(verb); !strings.Contains(out, "every 10m0s: the webhook announces pushes") {
			t.Errorf("%s does not say how often it polls:\n%s", verb, out)
		}
	}
}

func TestDoctorTellsOfIgnoredDeliveries(t *testing.T) {
	l := listenFor(t, func(o *serveOptions) { o.webhookRepo = "cadey/conf" })
	if out := l.run("doctor"); !strings.Contains(out, "webhook: 127.0.0.1:") {
		t.Errorf("doctor does not tell of the webhook:\n%s", out)
	}
	if d := l.deliver("git/Cadey/Conf", "x"); d.status != http.StatusAccepted {
		t.Errorf("a delivery of a forge below a path: %+v", d)
	}
	if d := l.deliver("cadey/other\x1b[31m", "x"); d.status != http.StatusOK || d.Run != "" {
		t.Errorf("a delivery of another repo: %+v", d)
	}
	out := l.run("doctor")
	if !strings.Contains(out, "name the repo") || !strings.Contains(out, "--webhook-repo cadey/other") || strings.Contains(out, "\x1b[31m") {
		t.Errorf("doctor does not tell of the delivery that was ignored:\n%s", out)
	}
}

// The admin listener's token is made once, asked for on loopback, and told where a person looks.
func TestAdminTokenOfAServer(t *testing.T) {
	l := listenFor(t, nil)
	file := filepath.Join(l.state, "admin-token")
	fi, err := os.Stat(file)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatalf("admin-token: %v, %v", fi, err)
	}
	get := func(url string) (int, string) {
		res, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b)
	}
	at := "http://" + l.s.adminAddress
	if code, body := get(at + "/v1/history"); code != 401 || strings.Contains(body, "nothing yet") {
		t.Errorf("history without the token: %d %s", code, body)
	}
	if code, _ := get(at + "/readyz"); code != 200 {
		t.Errorf("/readyz without the token: %d", code)
	}
	client, err := server.Dial(l.state)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	lines, err := server.Call[pasting](t.Context(), client, "paste", struct{}{}, nil)
	if err != nil || !strings.HasPrefix(lines.Page, at+"/?token=") {
		t.Fatalf("paste names the page %q, %v", lines.Page, err)
	}
	page := lines.Page
	req, _ := http.NewRequest("GET", page, nil)
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil || res.StatusCode != 303 || res.Header.Get("Location") != "/" {
		t.Errorf("GET %s: %v, %v", page, res, err)
	}
}

// A token that somebody chose may hold what means something in an address.
func TestPageURLKeepsTheToken(t *testing.T) {
	for _, c := range []struct{ address, token, want string }{
		{"127.0.0.1:8081", "a b&c+d%e#f", "http://127.0.0.1:8081/?token=a+b%26c%2Bd%25e%23f"},
		{":8081", "", "http://127.0.0.1:8081/"},
		{"off", "x", ""},
	} {
		if got := pageURL(c.address, c.token); got != c.want {
			t.Errorf("pageURL(%q, %q) = %q, want %q", c.address, c.token, got, c.want)
		}
	}
}

func TestAdminTokenFlags(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil { // whatever the umask
			t.Fatal(err)
		}
		return path
	}
	s := &serving{app: &app{state: newState(dir)}}
	first, err := s.readAdminToken(&serveOptions{})
	if err != nil || len(first) < 32 {
		t.Fatalf("the token that is made: %d characters, %v", len(first), err)
	}
	if again, err := s.readAdminToken(&serveOptions{}); err != nil || again != first {
		t.Errorf("it is made anew: %v", err)
	}
	if got, err := s.readAdminToken(&serveOptions{adminToken: write("own", "  sixteen and more\n", 0o600)}); got != "sixteen and more" {
		t.Errorf("a token of one's own = %q, %v", got, err)
	}
	if got, err := s.readAdminToken(&serveOptions{adminOpen: true}); got != "" || err != nil {
		t.Errorf("--admin-open = %q, %v", got, err)
	}
	for name, o := range map[string]serveOptions{
		"missing":   {adminToken: filepath.Join(dir, "none")},
		"empty":     {adminToken: write("empty", "\n", 0o600)},
		"short":     {adminToken: write("short", "fifteen bytes!!", 0o600)},
		"open":      {adminToken: write("open", "sixteen and more", 0o644)},
		"both ways": {adminToken: write("both", "sixteen and more", 0o600), adminOpen: true},
	} {
		if got, err := s.readAdminToken(&o); err == nil {
			t.Errorf("%s: readAdminToken = %q, want an error", name, got)
		} else if strings.Contains(err.Error(), "fifteen") || strings.Contains(err.Error(), "sixteen") {
			t.Errorf("%s: the error tells the token: %v", name, err)
		}
	}
}

func TestParseProxies(t *testing.T) {
	got, err := parseProxies([]string{"172.18.5.6/16", " 10.0.0.9", "2001:db8::1", "fd00::/8", "::ffff:10.0.0.8"})
	want := "[172.18.0.0/16 10.0.0.9/32 2001:db8::1/128 fd00::/8 10.0.0.8/32]"
	if err != nil || fmt.Sprint(got) != want {
		t.Errorf("parseProxies = %v, %v, want %s", got, err, want)
	}
	for _, bad := range []string{"", "proxy", "10.0.0.0/33", "10.0.0.1:80", "10.0.0.0/8/8", "fe80::1%eth0/64"} {
		if _, err := parseProxies([]string{bad}); err == nil {
			t.Errorf("parseProxies(%q) was accepted", bad)
		}
	}
}
