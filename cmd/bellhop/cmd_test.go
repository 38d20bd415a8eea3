package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bellhop/deploy/follow"
	"bellhop/internal/history"
	"bellhop/internal/link"
	"bellhop/server"
)

func TestSelectHosts(t *testing.T) {
	all := map[string]history.Host{}
	for name, tags := range map[string][]string{"chrysalis": {"bots"}, "kos-mos": {"bots", "arm"}, "lufta": nil, "luna": nil} {
		all[name] = history.Host{Name: name, Reach: history.Reach{Tags: tags}}
	}
	for expr, want := range map[string]string{
		"":               "chrysalis kos-mos lufta luna",
		"lu*":            "lufta luna",
		"lu*,!luna":      "lufta",
		"!luna,lu*":      "lufta",
		"!kos-mos":       "chrysalis lufta luna",
		"luna, kos-mos":  "kos-mos luna",
		"chrysalis,lu?a": "chrysalis luna",
		"@bots,!kos-mos": "chrysalis",
		"@b*":            "chrysalis kos-mos",
		"!@bots":         "lufta luna",
	} {
		got, err := selectHosts(all, expr)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("selectHosts(%q) = %v, %v, want %s", expr, got, err, want)
		}
	}
	for _, expr := range []string{"nobody", "@bot", "@bots,!nobody", "[", "!*"} {
		if got, err := selectHosts(all, expr); err == nil {
			t.Errorf("selectHosts(%q) = %v, want an error", expr, got)
		}
	}
}

func TestShellLine(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, ""},
		{[]string{"ps | grep x"}, "ps | grep x"},
		{[]string{"echo", "a b", "it's", "", "x=1"}, `echo 'a b' 'it'\''s' '' x=1`},
		{[]string{"rm", "$HOME"}, `rm '$HOME'`},
	} {
		if got := shellLine(tt.args); got != tt.want {
			t.Errorf("shellLine(%q) = %s, want %s", tt.args, got, tt.want)
		}
	}
}

func TestErrorsCrossTheSocket(t *testing.T) {
	err := overSocket(&codeError{exitRefused, hint(errors.New("push refused"), "bellhop check")})
	var over *socketError
	if !errors.As(err, &over) || over.ExitCode() != exitRefused || over.Hint() != "bellhop check" || err.Error() != "push refused" {
		t.Fatalf("overSocket = %#v, want exit code %d, the hint and the text, each by itself", err, exitRefused)
	}

	back := fromSocket(&server.Error{Message: err.Error(), Hint: over.Hint(), Exit: over.ExitCode()})
	var c *codeError
	if !errors.As(back, &c) || c.code != exitRefused || hintFor(back) != "bellhop check" || back.Error() != "push refused" {
		t.Errorf("fromSocket = %#v, want what went over the socket", back)
	}
}

func TestReport(t *testing.T) {
	for _, tt := range []struct {
		err  error
		code int
		text string
	}{
		{nil, 0, ""},
		{errors.New("it broke"), 1, "bellhop: it broke\n"},
		{hint(errors.New("it broke"), "mend %s", "it"), 1, "bellhop: it broke\nhint: mend it\n"},
		{exit(3), 3, ""},
		{&codeError{4, errors.New("no")}, 4, "bellhop: no\n"},
		{&link.HostKeyError{Host: "a", Address: "b", Pinned: []string{"c"}, Got: "d", Line: "ssh-ed25519 AAAA"}, 1,
			"bellhop: host key changed: b shows d, pinned is c\nhint: if you know why it changed, pin the new one in bellhop.yaml: host_key: ssh-ed25519 AAAA\n"},
		{hint(&codeError{4, errors.New("no")}, "ask"), 4, "bellhop: no\nhint: ask\n"},
	} {
		var errs bytes.Buffer
		e := &Env{Stderr: &errs, Getenv: func(string) string { return "" }}
		if got := e.report(tt.err); got != tt.code || errs.String() != tt.text {
			t.Errorf("report(%v) = %d, %q; want %d, %q", tt.err, got, errs.String(), tt.code, tt.text)
		}
	}
}

// One main serves tests too: nothing reaches beside Env.
func TestRunInProcess(t *testing.T) {
	var out, errs bytes.Buffer
	e := &Env{Args: []string{"version"}, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Getenv: func(string) string { return "" }}
	if code := e.Run(context.Background()); code != 0 || !strings.HasPrefix(out.String(), "bellhop ") || errs.Len() > 0 {
		t.Errorf("Run(version) = %d, %q, %q", code, out.String(), errs.String())
	}
}

// A script that redirects to a full disk must hear of it.
func TestLostOutputIsAnError(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("there is no /dev/full: ", err)
	}
	defer full.Close()
	for _, args := range [][]string{{"version"}, {"--help"}, {"schema"}} {
		var errs bytes.Buffer
		e := &Env{Args: args, Stdin: strings.NewReader(""), Stdout: full, Stderr: &errs, Getenv: func(string) string { return "" }}
		if code := e.Run(t.Context()); code != exitError || !strings.Contains(errs.String(), "no space left on device") {
			t.Errorf("Run(%v) on a full disk = %d, %q; want 1 and the reason", args, code, errs.String())
		}
	}
}

// Every verb has a short word, and those that take a state directory take it from the
// environment.
func TestVerbs(t *testing.T) {
	var names []string
	for _, c := range verbs((&Env{Getenv: func(string) string { return "" }})) {
		if c.Short == "" {
			t.Errorf("bellhop %s has no short word", c.Name())
		}
		names = append(names, c.Name())
	}
	for _, want := range strings.Fields("init check plan deploy rollback pause resume status history serve ring ssh exec logs host secret schema demo hook key reboot restart service webhook") {
		if !slices.Contains(names, want) {
			t.Errorf("verbs() lacks %s", want)
		}
	}
}

func TestProgressPlain(t *testing.T) {
	var out bytes.Buffer
	g := &progress{w: &out}
	now := time.Now()
	for _, ev := range []follow.Event{
		{Run: "r", At: now, Step: "plan", Text: "2 of 2 hosts change"},
		{Run: "r", At: now, Host: "b", Step: "files", Text: "1 of 2"},
		{Run: "r", At: now, Host: "a", Step: "undo", Text: "health failed"},
		{Run: "r", At: now, Host: "a", Step: "end", Outcome: "rolled-back", Text: "unit x:\nfailed"},
		{Run: "r", At: now, Host: "b", Step: "note", Text: "stays on the host: user x"},
		{Run: "r", At: now, Host: "b", Step: "end", Outcome: "done"},
		{Run: "r", At: now, Host: "c", Step: "detached", Text: "slower than its peers"},
		{Run: "r", At: now, Host: "d", Step: "deploying", Text: "an earlier run"},
	} {
		g.event(ev)
	}
	want := "2 of 2 hosts change\na: undo: health failed\na: rolled-back\nb: stays on the host: user x\nb: done\n" +
		"c: detached: slower than its peers\nd: deploying: an earlier run\n"
	if out.String() != want {
		t.Errorf("progress in a pipe:\n%s\nwant:\n%s", out.String(), want)
	}
}

// A live screen is never taller or wider than the terminal, so that it can be taken back.
func TestProgressLive(t *testing.T) {
	var out bytes.Buffer
	g := &progress{w: &out, live: true}
	for i := range 100 {
		host := "host" + string(rune('a'+i/26)) + string(rune('a'+i%26))
		g.event(follow.Event{Run: "r", At: time.Now(), Host: host, Step: "files", Text: strings.Repeat("x", 500)})
		if i%2 == 0 {
			g.event(follow.Event{Run: "r", At: time.Now(), Host: host, Step: "end", Outcome: "done"})
		}
		lines := strings.Split(strings.TrimSuffix(g.lines(), "\n"), "\n")
		if len(lines) > 23 {
			t.Fatalf("%d live lines for 24 rows", len(lines))
		}
		for _, l := range lines {
			if n := len([]rune(l)); n > 80 {
				t.Fatalf("a live line of %d columns: %q", n, l)
			}
		}
	}
}

func TestHostFields(t *testing.T) {
	got := hostFields(link.Target{Addresses: []string{"192.168.0.12:22"}, HostKeys: []string{"ssh-ed25519 AAAA"}, User: "root", Arch: "amd64"}, "")
	if want := []string{"address", "192.168.0.12", "host_key", "ssh-ed25519 AAAA", "arch", "amd64"}; !slices.Equal(got, want) {
		t.Errorf("hostFields = %q, want %q", got, want)
	}
	got = hostFields(link.Target{Addresses: []string{"[fe80::1]:2222"}, HostKeys: []string{"ssh-rsa AAAA"}, User: "cadey"}, "lufta")
	if want := []string{"address", "[fe80::1]:2222", "host_key", "ssh-rsa AAAA", "user", "cadey", "jump", "lufta"}; !slices.Equal(got, want) {
		t.Errorf("hostFields = %q, want %q", got, want)
	}
}

// Ctrl-C ends exec as it ends a command, on one host as on many, and no host is blamed.
func TestExecInterrupted(t *testing.T) {
	t.Chdir(t.TempDir())
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKq0xoQZL6pFM8qYcF1CTYvWb8hQ3a1Qpi6oK4pjcCLe"
	text := "network: n\nhosts:\n  h1: { address: '127.0.0.1:1', host_key: " + key + " }\n  h2: { address: '127.0.0.1:2', host_key: " + key + " }\n"
	if err := os.WriteFile("bellhop.yaml", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, on := range []string{"h1", "h1,h2"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("interrupt signal received"))
		var out, errs bytes.Buffer
		e := &Env{Args: []string{"exec", "--on", on, "--state-dir", t.TempDir(), "--", "true"}, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Getenv: func(string) string { return "" }}
		if code := e.Run(ctx); code != 130 || out.Len()+errs.Len() > 0 {
			t.Errorf("exec on %s, interrupted = %d, said %q %q; want 130 and nothing", on, code, &out, &errs)
		}
	}
}

// Who watches a run and presses Ctrl-C is told that it goes on.
func TestWatchingInterrupted(t *testing.T) {
	for _, args := range [][]string{{"ring", "--follow"}, {"deploy"}} {
		dir := t.TempDir()
		l, err := net.Listen("unix", filepath.Join(dir, server.SocketName))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			if c, err := l.Accept(); err == nil {
				bufio.NewReader(c).ReadByte() // it was asked
			}
			cancel()
		}()
		var errs bytes.Buffer
		e := &Env{Args: append(args, "--state-dir", dir), Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: &errs, Getenv: func(string) string { return "" }}
		if code := e.Run(ctx); code != 1 || !strings.Contains(errs.String(), "no longer watching: the run goes on in the server\nhint: bellhop history") {
			t.Errorf("%v, interrupted = %d, said %q", args, code, &errs)
		}
	}
}
