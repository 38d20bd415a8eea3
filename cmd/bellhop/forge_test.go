package main

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"bellhop/internal/forge/fakeforge"
)

type forgeKey struct{}

// fakeforge KIND VAR [hang]: start a forge; the variable is the base of its API. One that hangs takes requests and does not
// answer.
func cmdFakeForge(ts *testscript.TestScript, _ bool, args []string) {
	f := fakeforge.New(args[0])
	hangs := make(chan struct{})
	if len(args) > 2 {
		f.Answer = func(*http.Request) int { <-hangs; return http.StatusBadGateway }
	}
	ts.Defer(func() { close(hangs); f.Close() })
	ts.Check(os.WriteFile(ts.MkAbs("token"), []byte(fakeforge.Token+"\n"), 0o600))
	ts.Setenv(args[1], f.API())
	ts.Value(forgeKey{}).(map[string]*fakeforge.Forge)[args[1]] = f
}

// told VAR REV STATE TEXT: wait until the forge's last status of a commit of ./config is that. told VAR requests N: at most N
// requests came.
func cmdTold(ts *testscript.TestScript, _ bool, args []string) {
	f := ts.Value(forgeKey{}).(map[string]*fakeforge.Forge)[args[0]]
	if args[1] == "requests" {
		if got := fmt.Sprint(f.Requests()); got > args[2] {
			ts.Fatalf("%s requests came, want at most %s", got, args[2])
		}
		return
	}

	ts.Check(ts.Exec("git", "-C", ts.MkAbs("config"), "rev-parse", args[1]))
	commit := strings.TrimSpace(ts.ReadFile("stdout"))
	var got fakeforge.Status
	for late := time.Now().Add(2 * time.Minute); time.Now().Before(late); time.Sleep(50 * time.Millisecond) {
		got = f.Last(commit)
		if faults := f.Faults(); len(faults) > 0 {
			ts.Fatalf("the forge refused %q", faults)
		}
		if got.State == args[2] && strings.Contains(got.Description, args[3]) {
			return
		}
	}
	ts.Fatalf("the last status of %s is %+v, want %s with %q", commit, got, args[2], args[3])
}

// request VAR N REV BRANCH [fork|merged|into dev]: open request N, or move its head to a commit of ./config, or merge it as that commit.
// request VAR N closed: close it.
func cmdRequest(ts *testscript.TestScript, _ bool, args []string) {
	f := ts.Value(forgeKey{}).(map[string]*fakeforge.Forge)[args[0]]
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	if args[2] == "closed" {
		f.CloseRequest(n)
		return
	}
	ts.Check(ts.Exec("git", "-C", ts.MkAbs("config"), "rev-parse", args[2]))
	r := fakeforge.Request{Head: strings.TrimSpace(ts.ReadFile("stdout")), Branch: args[3]}
	switch strings.Join(args[4:], " ") {
	case "fork":
		r.IsFork = true
	case "merged":
		r.Merged = r.Head
	case "into dev":
		r.Into = "dev"
	}
	f.Open(n, r)
}

// commented VAR N TEXT...: wait until the one comment of request N holds each text. ! commented VAR N: it has none.
func cmdCommented(ts *testscript.TestScript, neg bool, args []string) {
	f := ts.Value(forgeKey{}).(map[string]*fakeforge.Forge)[args[0]]
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	if neg {
		if got := f.Comments(n); len(got) > 0 {
			ts.Fatalf("request %d has comments %+v, want none", n, got)
		}
		return
	}

	var got []fakeforge.Comment
	for late := time.Now().Add(2 * time.Minute); time.Now().Before(late); time.Sleep(50 * time.Millisecond) {
		got = f.Comments(n)
		if faults := f.Faults(); len(faults) > 0 {
			ts.Fatalf("the forge refused %q", faults)
		}
		hasAll := len(got) == 1
		for _, want := range args[2:] {
			hasAll = hasAll && strings.Contains(got[0].Body, want)
		}
		if hasAll {
			ts.Check(os.WriteFile(ts.MkAbs("comment"), []byte(got[0].Body), 0o600))
			return
		}
	}
	ts.Fatalf("request %d has comments %+v, want one with %q", n, got, args[2:])
}
