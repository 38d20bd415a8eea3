package gitsync_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"

	"bellhop/gitsync"
)

// shell runs a script of git commands in a new folder and returns the folder.
func shell(t testing.TB, script string) string {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git here")
	}
	dir := t.TempDir()
	cmd := exec.Command("sh", "-ec", "commit() { echo $1 >file; git add file; git commit -q -m \"$1\"; }\n"+script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=c", "GIT_COMMITTER_EMAIL=c@d")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
	return dir
}

func revParse(t testing.TB, dir, rev string) string {
	t.Helper()
	out, err := exec.Command("git", "-C", dir, "rev-parse", rev).Output()
	if err != nil {
		t.Fatalf("rev-parse %s in %s: %v", rev, dir, err)
	}
	return strings.TrimSpace(string(out))
}

// Repositories as people have them work like any other, by path and over http, and are cloned
// once, however often one looks.
func TestOddRemotes(t *testing.T) {
	for name, script := range map[string]string{
		"branch is a symbolic ref": `git init -q -b trunk r; cd r; commit one; git symbolic-ref refs/heads/main refs/heads/trunk`,
		"HEAD is detached":         `git init -q -b main r; cd r; commit one; git checkout -q --detach; commit two`,
		"HEAD leads nowhere":       `git init -q -b main r; cd r; commit one; git symbolic-ref HEAD refs/heads/nowhere`,
		"shallow":                  `git init -q -b main s; cd s; commit one; commit two; commit three; cd ..; git clone -q --depth 1 file://$PWD/s r`,
		"objects are borrowed":     `git init -q -b main s; cd s; commit one; git gc -q; cd ..; git clone -q --shared s r; cd r; commit two`,
		"borrowed twice":           `git init -q -b main s; cd s; commit one; cd ..; git clone -q --shared s q; git clone -q --shared q r`,
		"only packed refs":         `git init -q -b main r; cd r; commit one; git pack-refs --all; git gc -q`,
		"packed ref is older":      `git init -q -b main r; cd r; commit one; git pack-refs --all; commit two`,
		"bare":                     `git init -q -b main s; cd s; commit one; cd ..; git clone -q --bare s r`,
		"a second worktree":        `git init -q -b main s; cd s; commit one; git worktree add -q -b side ../r`,
		"tags of tags":             `git init -q -b main r; cd r; commit one; git tag -a -m x v1; git tag -a -m y v2 v1`,
		"another git folder":       `git init -q -b main --separate-git-dir=elsewhere r; cd r; commit one`,
		"many branches":            `git init -q -b main r; cd r; commit one; for i in $(seq 200); do git branch b$i; done`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := shell(t, script)
			repo := filepath.Join(dir, "r")
			want := revParse(t, repo, "refs/heads/main")
			for _, url := range []string{repo, over(t, repo)} {
				clone := filepath.Join(t.TempDir(), "repo.git")
				r := open(t, gitsync.Config{URL: url, Dir: clone})
				for range 3 {
					if s := sync1(t, r); s.Commit != want || s.Rewritten {
						t.Errorf("%s: Sync = %s rewritten=%v, want %s", url, s.Commit, s.Rewritten, want)
					}
				}
				if n := countPacks(clone); n != 1 || len(glob(clone+".*")) > 0 {
					t.Errorf("%s: %d packs and %v after three looks, want 1 and none", url, n, glob(clone+".*"))
				}
				if out, err := exec.Command("git", "-C", clone, "fsck", "--strict").CombinedOutput(); err != nil {
					t.Errorf("%s: git fsck of the clone: %v: %s", url, err, out)
				}
			}
		})
	}
}

// A shallow remote moves on like any other: by a commit, and by a pull that cuts history again.
func TestShallowRemoteMovesOn(t *testing.T) {
	dir := shell(t, `git init -q -b main s; cd s; commit one; commit two; cd ..; git clone -q --depth 1 file://$PWD/s r; git -C r config user.name x; git -C r config user.email x@y`)
	repo := filepath.Join(dir, "r")
	for _, url := range []string{repo, over(t, repo)} {
		clone := filepath.Join(t.TempDir(), "repo.git")
		r := open(t, gitsync.Config{URL: url, Dir: clone, Rewritten: gitsync.Refuse})
		first := sync1(t, r)
		if out, err := exec.Command("git", "-C", repo, "commit", "-q", "--allow-empty", "-m", "more").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		s := sync1(t, r)
		if s.Commit != revParse(t, repo, "main") || s.Rewritten {
			t.Errorf("%s: Sync = %+v", url, s)
		}
		if held, err := r.Holds(t.Context(), s.Commit, first.Commit); err != nil || !held {
			t.Errorf("Holds = %v, %v", held, err)
		}
		if len(glob(clone+".damaged*")) > 0 {
			t.Errorf("%s: taken for damaged", url)
		}
	}
}

// What can't work is told in one sentence that names the cause, and is not tried by cloning.
func TestRemotesThatCannotWork(t *testing.T) {
	for name, c := range map[string]struct{ script, want string }{
		"SHA-256":         {`git init -q -b main --object-format=sha256 r; cd r; commit one`, "SHA-256"},
		"empty":           {`git init -q -b main r`, "no branch at all"},
		"branch absent":   {`git init -q -b trunk r; cd r; commit one; git branch side`, "the remote has side, trunk"},
		"object missing":  {`git init -q -b main r; cd r; commit one; rm -f .git/objects/$(git rev-parse HEAD:file | sed 's|..|&/|')`, ""},
		"lender has left": {`git init -q -b main s; cd s; commit one; git gc -q; cd ..; git clone -q --shared s r; rm -r s`, ""},
		"branch is junk":  {`git init -q -b main r; cd r; commit one; echo junk >.git/refs/heads/main`, "no branch"},
	} {
		t.Run(name, func(t *testing.T) {
			repo := filepath.Join(shell(t, c.script), "r")
			for _, url := range []string{repo, over(t, repo)} {
				clone := filepath.Join(t.TempDir(), "repo.git")
				r := open(t, gitsync.Config{URL: url, Dir: clone})
				for range 2 {
					_, err := r.Sync(t.Context())
					if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "damaged") || strings.Contains(err.Error(), "\n") {
						t.Errorf("%s: Sync = %v, want one sentence with %q", url, err, c.want)
					}
				}
				if left := glob(clone + ".*"); len(left) > 0 {
					t.Errorf("%s: left %v", url, left)
				}
			}
		})
	}
}

// A branch, a tag or a commit is read without moving what the branch was seen at.
func TestRef(t *testing.T) {
	dir := shell(t, `git init -q -b main r; cd r; commit one; git checkout -q -b feature/x; commit two; git tag light; git tag -a -m x heavy; git tag -a -m y twice heavy
		git checkout -q main; git checkout -q --detach; commit three; git tag aside; git checkout -q main; git branch both light; git tag both main; git config uploadpack.allowAnySHA1InWant true`)
	repo := filepath.Join(dir, "r")
	for _, url := range []string{repo, over(t, repo)} {
		r := open(t, gitsync.Config{URL: url})
		head := sync1(t, r)
		for ref, want := range map[string]string{
			"feature/x": "feature/x", "refs/heads/feature/x": "feature/x", "light": "feature/x", "heavy": "feature/x", "twice": "feature/x",
			"aside": "aside", "refs/tags/aside": "aside", "main": "main", "both": "refs/heads/both", "refs/tags/both": "main",
			revParse(t, repo, "main"): "main", revParse(t, repo, "main")[:8]: "main", revParse(t, repo, "aside"): "aside",
		} {
			s, err := r.Ref(t.Context(), ref)
			if err != nil || s.Commit != revParse(t, repo, want+"^{commit}") || s.Rewritten {
				t.Errorf("%s: Ref(%s) = %s, %v, want that of %s", url, ref, s.Commit, err, want)
			}
		}
		for _, ref := range []string{"nothing", "", "-x", "../x", "refs/heads/nothing", "refs/tags/main", strings.Repeat("ab", 20), "abababab", "HEAD~1", "a b", "refs/heads/", "\x1b[2J"} {
			if s, err := r.Ref(t.Context(), ref); err == nil || strings.ContainsAny(err.Error(), "\x1b\n") {
				t.Errorf("%s: Ref(%q) = %s, %v, want an error", url, ref, s.Commit, err)
			}
		}
		if r.Last() != head.Commit {
			t.Errorf("%s: Ref moved the branch to %s", url, r.Last())
		}
		if s := sync1(t, r); s.Rewritten || s.Commit != head.Commit {
			t.Errorf("%s: the next Sync = %s rewritten=%v", url, s.Commit, s.Rewritten)
		}
	}
}

// The head of a request from a fork is on no branch: it is fetched by its id, which every server gives that names it.
func TestRefOfARequest(t *testing.T) {
	dir := shell(t, `git init -q -b main r; cd r; commit one; git checkout -q --detach; commit two; git update-ref refs/pull/8/head HEAD; git checkout -q main`)
	repo := filepath.Join(dir, "r")
	want := revParse(t, repo, "refs/pull/8/head")
	for _, url := range []string{repo, over(t, repo)} {
		s, err := open(t, gitsync.Config{URL: url}).Ref(t.Context(), want)
		if err != nil || s.Commit != want {
			t.Errorf("%s: Ref(%s) = %s, %v", url, want, s.Commit, err)
		}
	}
}

// Whoever waits for any branch to move asks what the newest look saw.
func TestBranches(t *testing.T) {
	dir := shell(t, `git init -q -b main r; cd r; commit one`)
	repo := filepath.Join(dir, "r")
	r := open(t, gitsync.Config{URL: repo})
	if got := r.Branches(); got != "" {
		t.Errorf("Branches before the first look = %q", got)
	}
	sync1(t, r)
	before := r.Branches()
	sync1(t, r)
	if r.Branches() != before {
		t.Error("Branches changed, and no branch moved")
	}
	if out, err := exec.Command("git", "-C", repo, "branch", "topic").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	sync1(t, r)
	if r.Branches() == before {
		t.Error("Branches stayed, and a branch came")
	}
}

// An address below a home is asked for as git asks.
func TestSSHPaths(t *testing.T) {
	rem := remote(t)
	rem.Commit(map[string]string{"a": "1"}, "one", "")
	key := signer(t)
	addr, pin, commands := sshServer(t, rem, key.PublicKey())
	for url, want := range map[string]string{
		"ssh://git@" + addr + "/~/x.git":        "~/x.git",
		"ssh://git@" + addr + "/~user/x.git":    "~user/x.git",
		"ssh://git@" + addr + "/srv/x.git":      "/srv/x.git",
		"ssh://git@" + addr + "/srv/a%20b.git":  "/srv/a b.git",
		"git+ssh://git@" + addr + "/~/deep/x":   "~/deep/x",
		"ssh://git@" + addr + "/srv/~/x.git":    "/srv/~/x.git",
		"ssh://git@" + addr + "/~user/it's.git": `~user/it'\''s.git`,
	} {
		*commands = nil
		sync1(t, open(t, gitsync.Config{URL: url, Signer: key, HostKeys: []string{pin}}))
		if got := (*commands)[0]; got != "git-upload-pack '"+want+"'" {
			t.Errorf("%s ran %s, want %s", url, got, want)
		}
	}
}

// A look that wants nothing ends the protocol with a flush, as git does: cut off, a server
// logs an error.
func TestLookEndsWithAFlush(t *testing.T) {
	rem := remote(t)
	rem.Commit(map[string]string{"a": "1"}, "one", "")
	key := signer(t)
	heard := make(chan string, 10)
	addr, pin := sshExec(t, key.PublicKey(), func(ch ssh.Channel) {
		rem.UploadPack(t.Context(), io.TeeReader(eofReader{ch, heard}, io.Discard), ch)
	})
	r := open(t, gitsync.Config{URL: "ssh://git@" + addr + "/x", Signer: key, HostKeys: []string{pin}})
	sync1(t, r)
	<-heard
	if _, err := r.Head(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-heard; got != "0000" {
		t.Errorf("a look said %q, want a flush", got)
	}
}

// ---- redirects

// A mover answers every request of git by a redirect.
func mover(t *testing.T, status int, to func(path string) string) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Location", to(req.URL.RequestURI()))
		w.WriteHeader(status)
	}))
}

// trusting makes the test servers' certificate known for the length of a test.
func trusting(t *testing.T) {
	t.Helper()
	tr := http.DefaultTransport.(*http.Transport)
	before := tr.TLSClientConfig
	tr.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	t.Cleanup(func() { tr.TLSClientConfig = before })
}

func TestRenamedRepo(t *testing.T) {
	trusting(t)
	for _, status := range []int{301, 302, 307, 308} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			rem := remote(t)
			rem.Token = "hunter2"
			rem.Commit(map[string]string{"a": "1"}, "one", "")
			// As GitHub does: the old name leads to the new one on the same host.
			var posts atomic.Int32
			srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if rest, ok := strings.CutPrefix(req.URL.RequestURI(), "/old"); ok {
					http.Redirect(w, req, "/new"+rest, status)
					return
				}
				if req.Method == http.MethodPost {
					posts.Add(1)
				}
				rem.ServeHTTP(w, req)
			}))
			defer srv.Close()
			r := open(t, gitsync.Config{URL: srv.URL + "/old", Token: "hunter2"})
			s := sync1(t, r)
			if s.Commit != rem.Head() || posts.Load() != 1 {
				t.Errorf("Sync = %s with %d posts, want %s with 1", s.Commit, posts.Load(), rem.Head())
			}
			if want := srv.URL + "/new"; s.Moved != want {
				t.Errorf("Moved = %q, want %q", s.Moved, want)
			}
		})
	}
}

// Another host is followed over https alone, and never gets the token.
func TestRedirectToAnotherHost(t *testing.T) {
	trusting(t)
	rem := remote(t)
	rem.Commit(map[string]string{"a": "1"}, "one", "")
	var heard atomic.Value
	heard.Store("")
	note := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		heard.Store(heard.Load().(string) + req.Header.Get("Authorization"))
		rem.ServeHTTP(w, req)
	})
	secure, open1 := httptest.NewTLSServer(note), httptest.NewServer(note)
	defer secure.Close()
	defer open1.Close()

	from := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		to := secure.URL
		if strings.HasPrefix(req.URL.Path, "/down") {
			to = open1.URL
		}
		http.Redirect(w, req, to+req.URL.RequestURI(), http.StatusMovedPermanently)
	}))
	defer from.Close()
	s := sync1(t, open(t, gitsync.Config{URL: from.URL + "/x", Token: "hunter2"}))
	if s.Commit != rem.Head() || s.Moved != secure.URL+"/x" {
		t.Errorf("Sync = %s, moved to %q", s.Commit, s.Moved)
	}
	_, err := open(t, gitsync.Config{URL: from.URL + "/down", Token: "hunter2"}).Sync(t.Context())
	if err == nil || !strings.Contains(err.Error(), "it has moved to "+open1.URL) || !strings.Contains(err.Error(), "--repo") {
		t.Errorf("from https to http: Sync = %v, want a refusal that names both", err)
	}
	if heard.Load() != "" {
		t.Errorf("another host heard %q", heard.Load())
	}
}

func TestRedirectsThatAreNotFollowed(t *testing.T) {
	rem := remote(t)
	rem.Commit(map[string]string{"a": "1"}, "one", "")
	home := httptest.NewServer(rem)
	defer home.Close()
	for name, c := range map[string]struct {
		to   func(path string) string
		want string
	}{
		"loop":              {func(path string) string { return path }, "too often"},
		"another port":      {func(path string) string { return home.URL + path }, "not followed"},
		"file":              {func(string) string { return "file:///etc/passwd" }, "not followed"},
		"ftp":               {func(path string) string { return "ftp://127.0.0.1" + path }, "not followed"},
		"no repo's address": {func(string) string { return "/login" }, ""},
		"escape sequence":   {func(string) string { return "http://x.example/%1b%5b2J" }, "not followed"},
		"no place":          {func(string) string { return "" }, "without a place"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := mover(t, http.StatusFound, c.to)
			defer srv.Close()
			_, err := open(t, gitsync.Config{URL: srv.URL + "/x"}).Sync(t.Context())
			if !errors.Is(err, gitsync.ErrUnreachable) || !strings.Contains(err.Error(), c.want) || strings.ContainsAny(err.Error(), "\x1b\n") {
				t.Errorf("Sync = %v, want ErrUnreachable with %q", err, c.want)
			}
		})
	}
}

// What is no git server says so.
func TestNotAGitServer(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"a page":     func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>sign in</html>") },
		"a dumb one": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "%040d\trefs/heads/main\n", 1) },
		"version 2": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
			fmt.Fprint(w, "001e# service=git-upload-pack\n0000000eversion 2\n0000")
		},
		"an error": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
			fmt.Fprint(w, "0015ERR access denied")
		},
		"nothing": func(http.ResponseWriter, *http.Request) {},
		"cut off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
			fmt.Fprintf(w, "001e# service=git-upload-pack\n0000003d%040d refs/heads/main", 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(answer)
			defer srv.Close()
			_, err := open(t, gitsync.Config{URL: srv.URL}).Sync(t.Context())
			if err == nil || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "damaged") {
				t.Errorf("Sync = %v, want one sentence", err)
			}
			t.Log(err)
		})
	}
}

// A server that hangs up in the middle leaves nothing behind, and the next look is good.
func TestRemoteResets(t *testing.T) {
	rem := remote(t)
	rem.Commit(map[string]string{"a": strings.Repeat("x", 100_000)}, "one", "")
	var cut atomic.Bool
	cut.Store(true)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodPost && cut.Load() {
			rem.ServeHTTP(&cutWriter{ResponseWriter: w, left: 120}, req)
			panic(http.ErrAbortHandler)
		}
		rem.ServeHTTP(w, req)
	}))
	defer srv.Close()
	clone := filepath.Join(t.TempDir(), "repo.git")
	r := open(t, gitsync.Config{URL: srv.URL, Dir: clone})
	if _, err := r.Sync(t.Context()); err == nil || strings.Contains(err.Error(), "damaged") {
		t.Errorf("Sync = %v, want an error that says nothing of damage", err)
	}
	if left := glob(clone + "/objects/pack/*"); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	cut.Store(false)
	sync1(t, r)
}

type cutWriter struct {
	http.ResponseWriter
	left int
}

func (c *cutWriter) Write(p []byte) (int, error) {
	n := min(len(p), c.left)
	c.left -= n
	c.ResponseWriter.Write(p[:n])
	return len(p), nil
}

// eofReader tells what was read once it ends.
type eofReader struct {
	r     io.Reader
	heard chan<- string
}

func (e eofReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if n > 0 {
		e.heard <- string(p[:min(n, 4)])
	}
	return n, err
}
