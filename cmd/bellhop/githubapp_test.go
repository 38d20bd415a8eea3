package main

import (
	"bufio"
	"html"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"bellhop/internal/forge/fakeforge"
)

var appForm = regexp.MustCompile(`action="([^"]*)".*name="manifest" value="([^"]*)"`)

// agree ARGS...: run bellhop hook github-app ARGS, open the page that it prints, and agree as a person in a browser does.
// $OUT is what it printed.
func cmdAgree(ts *testscript.TestScript, _ bool, args []string) {
	bellhop := filepath.Join(filepath.SplitList(ts.Getenv("PATH"))[0], "bellhop")
	c := exec.Command(bellhop, append([]string{"hook", "github-app"}, args...)...)
	c.Env = []string{"PATH=" + ts.Getenv("PATH"), "HOME=" + ts.Getenv("HOME"), "BELLHOP_STATE_DIR=" + ts.Getenv("BELLHOP_STATE_DIR")}
	out, err := c.StdoutPipe()
	ts.Check(err)
	ts.Check(c.Start())
	defer func() { _ = c.Process.Kill() }()

	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n')
	ts.Check(err)
	page := strings.TrimSpace(first[strings.Index(first, "http://"):])
	answer, err := http.Get(page)
	ts.Check(err)
	text, _ := io.ReadAll(answer.Body)
	answer.Body.Close()
	form := appForm.FindStringSubmatch(string(text))
	if form == nil {
		ts.Fatalf("%s has no form:\n%s", page, text)
	}

	answer, err = http.PostForm(html.UnescapeString(form[1]), url.Values{"manifest": {html.UnescapeString(form[2])}})
	ts.Check(err)
	text, _ = io.ReadAll(answer.Body)
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		ts.Fatalf("the browser came back: %d %s", answer.StatusCode, text)
	}
	rest, _ := io.ReadAll(lines)
	ts.Check(c.Wait())
	ts.Setenv("OUT", strings.ReplaceAll(string(rest), "\n", " "))
}

// hooked VAR ADDRESS FILE: the webhook of the App leads to that address, and has the secret that stands in a file.
func cmdHooked(ts *testscript.TestScript, _ bool, args []string) {
	f := ts.Value(forgeKey{}).(map[string]*fakeforge.Forge)[args[0]]
	_, hook := f.Manifest()
	if hook["url"] != args[1] || hook["secret"] != strings.TrimSpace(ts.ReadFile(args[2])) {
		ts.Fatalf("the webhook leads to %s, or its secret is not that of %s", hook["url"], args[2])
	}
}
