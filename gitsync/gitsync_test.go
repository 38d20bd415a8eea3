package gitsync_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/crypto/ssh"

	"bellhop/gitsync"
	"bellhop/internal/lab"
)

// open opens a Repo for tests.
func open(t testing.TB, cfg gitsync.Config) *gitsync.Repo {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(t.TempDir(), "repo.git")
	}
	r, err := gitsync.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func sync1(t testing.TB, r *gitsync.Repo) gitsync.Snapshot {
	t.Helper()
	s, err := r.Sync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func remote(t testing.TB) *lab.Remote { return lab.NewRemote(filepath.Join(t.TempDir(), "remote.git")) }

func TestTree(t *testing.T) {
	rem := remote(t)
	rem.Submodule("vendor/sub", strings.Repeat("ab", 20))
	head := rem.Commit(map[string]string{
		"bellhop.yaml":                "network: hexagone\n",
		"+services/bot/run.sh":        "#!/bin/sh\n",
		"services/bot.yaml":           "x: 1\n",
		"services/bot/files/etc/conf": "a=b\n",
		"@services/bot/files/link":    "etc/conf",
		"@services/up":                "../bellhop.yaml",
		"empty":                       "",
	}, "bot: arrive\n\nBellhop-Allow: prune web1\nSigned-off-by: x\n", "Cadey Ratio <cadey@example.com>")
	r := open(t, gitsync.Config{URL: rem.URL()})
	s := sync1(t, r)
	if s.Commit != head || s.Author != "Cadey Ratio" || s.Email != "cadey@example.com" || s.Subject != "bot: arrive" || s.Parent != "" || s.Rewritten {
		t.Errorf("Sync() = %+v, want commit %s by Cadey", s, head)
	}
	if got := gitsync.Trailers(s.Message, "bellhop-allow"); len(got) != 1 || got[0] != "prune web1" {
		t.Errorf("Trailers = %q, want [prune web1]", got)
	}
	tree := s.Tree.(*gitsync.Tree)
	infos := func() {
		fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
			if err == nil {
				_, err = d.Info()
			}
			if err != nil {
				t.Errorf("walk %s: %v", name, err)
			}
			tree.Stat(name)
			f, err := tree.Open(name)
			if err == nil {
				f.Stat()
			}
			return nil
		})
	}
	if infos(); tree.BlobsRead() != 0 {
		t.Errorf("walk, Stat and Open read %d blobs, want 0", tree.BlobsRead())
	}
	if err := fstest.TestFS(tree, "bellhop.yaml", "services/bot/run.sh", "services/bot/files/link", "empty", "vendor/sub"); err != nil {
		t.Error(err)
	}
	if i, err := tree.Lstat("vendor/sub"); err != nil || i.Mode().Type() != fs.ModeIrregular {
		t.Errorf("Lstat(submodule) = %v, %v, want ModeIrregular", i, err)
	}
	if i, _ := tree.Stat("services/bot/run.sh"); i.Mode() != 0o755 || i.Size() != 10 {
		t.Errorf("Stat(run.sh) = %v %d, want 0755 and 10 bytes", i.Mode(), i.Size())
	}
	if l, err := fs.ReadLink(tree, "services/up"); err != nil || l != "../bellhop.yaml" {
		t.Errorf("ReadLink = %q, %v", l, err)
	}
	if b, err := fs.ReadFile(tree, "services/up"); err != nil || string(b) != "network: hexagone\n" {
		t.Errorf("ReadFile through link = %q, %v", b, err)
	}
	a, _ := tree.Hash("services/bot")
	rem.Commit(map[string]string{"README.md": "hello"}, "readme", "")
	next := sync1(t, r)
	if b, ok := next.Tree.(*gitsync.Tree).Hash("services/bot"); !ok || a != b {
		t.Errorf("Hash of an untouched folder moved: %s, %s", a, b)
	}
	if next.Parent != head {
		t.Errorf("Parent = %s, want %s", next.Parent, head)
	}
	sub := open(t, gitsync.Config{URL: rem.URL(), Path: "services"})
	st := sync1(t, sub)
	if err := fstest.TestFS(must(fs.Sub(st.Tree, "bot")), "run.sh"); err != nil {
		t.Error(err)
	}
	if _, err := fs.ReadFile(st.Tree, "up"); err == nil {
		t.Error("a link out of --path was followed")
	}
	if _, err := sync2(open(t, gitsync.Config{URL: rem.URL(), Path: "nowhere"})); err == nil || !strings.Contains(err.Error(), "--path") {
		t.Errorf("Sync with a missing --path: %v, want a hint", err)
	}
}

// The messages since a commit are those of every commit that came in, by a merge too.
func TestMessagesSince(t *testing.T) {
	dir := shell(t, `git init -q -b main r; cd r; commit one; git checkout -q -b side; commit side-1; commit side-2; git checkout -q main; git commit -q --allow-empty -m two
		git merge -q --no-ff -m merge side; commit three`)
	repo := filepath.Join(dir, "r")
	r := open(t, gitsync.Config{URL: repo})
	head := sync1(t, r).Commit
	for last, want := range map[string]string{
		"main":                   "",
		"main~1":                 "three",
		"main~2":                 "merge side-1 side-2 three", // two, and what the merge brought
		"side":                   "merge three two",
		"main~3":                 "merge side-1 side-2 three two",
		strings.Repeat("ab", 20): "three", // a commit that is gone
	} {
		id := last
		if len(last) < 40 {
			id = revParse(t, repo, last)
		}
		got, err := r.Since(t.Context(), id, head)
		for i := range got {
			got[i] = strings.TrimSpace(got[i])
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want || err != nil {
			t.Errorf("Since(%s) = %q, %v, want %q", last, got, err, want)
		}
	}
}

func sync2(r *gitsync.Repo) (gitsync.Snapshot, error) { return r.Sync(context.Background()) }

// systemd escapes with backslashes, so names may have them; fstest alone frowns at it.
func TestEscapedUnitName(t *testing.T) {
	const name = `services/bot/srv-my\x2ddata.mount`
	rem := remote(t)
	rem.Commit(map[string]string{name: "[Mount]\n"}, "a mount", "")
	tree := sync1(t, open(t, gitsync.Config{URL: rem.URL()})).Tree
	if b, err := fs.ReadFile(tree, name); err != nil || string(b) != "[Mount]\n" {
		t.Errorf("ReadFile(%s) = %q, %v", name, b, err)
	}
	if es, err := fs.ReadDir(tree, "services/bot"); err != nil || len(es) != 1 {
		t.Errorf("ReadDir = %v, %v, want the mount alone", es, err)
	}
}

func TestLinksStayInside(t *testing.T) {
	rem := remote(t)
	rem.Commit(map[string]string{
		"@shadow": "/etc/shadow", "@up": "../../x", "@a": "b", "@b": "a", "@d/deep": "../../etc/passwd", "@dir": "d", "d/x": "1", "@chain": "dir/x",
	}, "links", "")
	s := sync1(t, open(t, gitsync.Config{URL: rem.URL()}))
	for _, name := range []string{"shadow", "up", "a", "d/deep"} {
		if b, err := fs.ReadFile(s.Tree, name); err == nil {
			t.Errorf("ReadFile(%s) = %q, want an error", name, b)
		}
	}
	if b, err := fs.ReadFile(s.Tree, "chain"); err != nil || string(b) != "1" {
		t.Errorf("ReadFile(chain) = %q, %v", b, err)
	}
}

func TestFetchOnlyWhenMoved(t *testing.T) {
	rem := remote(t)
	srv := httptest.NewServer(rem)
	defer srv.Close()
	rem.Commit(map[string]string{"a": "1"}, "one", "")
	r := open(t, gitsync.Config{URL: srv.URL + "/hexagone.git"})
	for range 5 {
		sync1(t, r)
	}
	if rem.PacksSent() != 1 || rem.RefsAsked() != 5 {
		t.Errorf("5 syncs of one commit: %d fetches, %d looks, want 1 and 5", rem.PacksSent(), rem.RefsAsked())
	}
	two := rem.Commit(map[string]string{"a": "2"}, "two", "")
	if s := sync1(t, r); s.Commit != two || rem.PacksSent() != 2 {
		t.Errorf("after a push: %s with %d fetches, want %s with 2", s.Commit, rem.PacksSent(), two)
	}
	if h, err := r.Head(t.Context()); err != nil || h != two {
		t.Errorf("Head() = %s, %v", h, err)
	}
}

func TestEmptyRemote(t *testing.T) {
	rem := remote(t)
	srv := httptest.NewServer(rem)
	defer srv.Close()
	for _, url := range []string{rem.URL(), srv.URL} {
		r := open(t, gitsync.Config{URL: url})
		if _, err := r.Sync(t.Context()); !errors.Is(err, gitsync.ErrNoBranch) {
			t.Errorf("Sync(%s, empty) = %v, want ErrNoBranch", url, err)
		}
	}
	rem.Commit(map[string]string{"a": "1"}, "one", "")
	r := open(t, gitsync.Config{URL: srv.URL, Branch: "trunk"})
	if _, err := r.Sync(t.Context()); !errors.Is(err, gitsync.ErrNoBranch) || !strings.Contains(err.Error(), "main") {
		t.Errorf("Sync(trunk) = %v, want ErrNoBranch that names main", err)
	}
}

func TestRewritten(t *testing.T) {
	rem := remote(t)
	first := rem.Commit(map[string]string{"a": "1"}, "one", "")
	follow := open(t, gitsync.Config{URL: rem.URL()})
	refuse := open(t, gitsync.Config{URL: rem.URL(), Rewritten: gitsync.Refuse})
	second := rem.Commit(map[string]string{"a": "2"}, "two", "")
	sync1(t, follow)
	kept := sync1(t, refuse)
	if err := follow.Keep([]string{second}); err != nil {
		t.Fatal(err)
	}
	fresh := rem.Rewrite(map[string]string{"a": "3"}, "anew")
	for range 2 { // who only looks takes nothing from who acts
		if s, err := follow.Look(t.Context()); err != nil || !s.Rewritten || s.Commit != fresh {
			t.Errorf("Look = %s rewritten=%v, %v, want %s, true", s.Commit, s.Rewritten, err, fresh)
		}
	}
	if _, err := follow.At(t.Context(), strings.Repeat("a", 40)); !errors.Is(err, gitsync.ErrUnknown) {
		t.Errorf("At(unknown) = %v", err)
	}
	if s := sync1(t, follow); !s.Rewritten || s.Commit != fresh {
		t.Errorf("follow: Sync = %s rewritten=%v, want %s, true", s.Commit, s.Rewritten, fresh)
	}
	for range 2 {
		if _, err := refuse.Sync(t.Context()); !errors.Is(err, gitsync.ErrRewritten) {
			t.Errorf("refuse: Sync = %v, want ErrRewritten", err)
		}
	}
	if refuse.Last() != second {
		t.Errorf("refuse: Last = %s, want %s", refuse.Last(), second)
	}
	if b, _ := fs.ReadFile(kept.Tree, "a"); string(b) != "2" {
		t.Errorf("the old snapshot reads %q", b)
	}
	rem.Reset(first) // a rewind is a rewrite too
	if _, err := refuse.Sync(t.Context()); !errors.Is(err, gitsync.ErrRewritten) {
		t.Errorf("rewind: Sync = %v, want ErrRewritten", err)
	}
	rem.Reset(second)
	if s := sync1(t, refuse); s.Commit != second || s.Rewritten {
		t.Errorf("after the old commit came back: %+v", s)
	}
	rem.Reset(first) // accepted once, it is the branch, and the next one is refused again
	if s, err := refuse.SyncRewritten(t.Context()); err != nil || s.Commit != first || !s.Rewritten {
		t.Errorf("SyncRewritten = %+v, %v", s, err)
	}
	if s := sync1(t, refuse); s.Commit != first || s.Rewritten {
		t.Errorf("after it was accepted: %+v", s)
	}
	rem.Reset(fresh)
	if _, err := refuse.Sync(t.Context()); !errors.Is(err, gitsync.ErrRewritten) && fresh != first {
		t.Errorf("another rewritten head: Sync = %v, want ErrRewritten", err)
	}
}

func TestAt(t *testing.T) {
	rem := remote(t)
	first := rem.Commit(map[string]string{"a": "1"}, "one", "")
	r := open(t, gitsync.Config{URL: rem.URL()})
	second := rem.Commit(map[string]string{"a": "2"}, "two", "")
	for _, id := range []string{first, first[:7], first[:8], second} {
		s, err := r.At(t.Context(), id)
		if err != nil || !strings.HasPrefix(s.Commit, id) {
			t.Errorf("At(%s) = %s, %v", id, s.Commit, err)
		}
	}
	for _, id := range []string{strings.Repeat("0", 40), "main", "-x", "", "../../etc", first[:5]} {
		if _, err := r.At(t.Context(), id); !errors.Is(err, gitsync.ErrUnknown) {
			t.Errorf("At(%q) = %v, want ErrUnknown", id, err)
		}
	}
}

func TestHolds(t *testing.T) {
	rem := remote(t)
	first := rem.Commit(map[string]string{"a": "1"}, "one", "")
	second := rem.Commit(map[string]string{"a": "2"}, "two", "")
	r := open(t, gitsync.Config{URL: rem.URL()})
	sync1(t, r)
	for _, c := range []struct {
		commit, old string
		want        bool
	}{
		{second, first, true},
		{second, second, true},
		{first, second, false},
		{second, strings.Repeat("ab", 20), false}, // the remote does not show it yet
	} {
		if got, err := r.Holds(t.Context(), c.commit, c.old); err != nil || got != c.want {
			t.Errorf("Holds(%.7s, %.7s) = %v, %v, want %v", c.commit, c.old, got, err, c.want)
		}
	}
	if _, err := r.Holds(t.Context(), second, "main"); !errors.Is(err, gitsync.ErrUnknown) {
		t.Errorf("Holds(main) = %v, want ErrUnknown", err)
	}
}

// Branches beside the one that is followed are known since the newest look, and fetched when they are asked for.
func TestHeads(t *testing.T) {
	rem := remote(t)
	first := rem.Commit(map[string]string{"a": "1"}, "first", "")
	r := open(t, gitsync.Config{URL: rem.URL()})
	sync1(t, r)
	if got := r.Heads("testing-"); len(got) != 0 {
		t.Errorf("before there is one: %v", got)
	}

	deployed := rem.Branch
	rem.Branch = "testing-lufta"
	try := rem.Commit(map[string]string{"a": "2"}, "try", "")
	rem.Branch = deployed
	sync1(t, r)
	if got := r.Heads("testing-"); len(got) != 1 || got["lufta"] != try {
		t.Errorf("Heads = %v, want lufta at %s", got, try)
	}
	s, err := r.OfBranch(t.Context(), "testing-lufta", try)
	if err != nil || s.Commit != try || s.Subject != "try" {
		t.Fatalf("OfBranch = %+v, %v", s, err)
	}
	asked := r.Asked()
	if s, err = r.OfBranch(t.Context(), "testing-lufta", try); err != nil || s.Commit != try || r.Asked() != asked {
		t.Errorf("a second time: %v, asked the remote %d times", err, r.Asked()-asked)
	}
	if r.Last() != first {
		t.Errorf("the branch that is followed moved to %s", r.Last())
	}
	if _, err := r.OfBranch(t.Context(), "testing-lufta", "--upload-pack=x"); err == nil {
		t.Error("what is no commit id was looked for")
	}
}

// Kept commits outlive the branch, many fetches, a renewed clone and a damaged one.
func TestKeepSurvivesRenewal(t *testing.T) {
	rem := remote(t)
	kept := rem.Commit(map[string]string{"a": "kept"}, "kept", "")
	cfg := gitsync.Config{URL: rem.URL(), Dir: filepath.Join(t.TempDir(), "repo.git"), MaxPacks: 5}
	r := open(t, cfg)
	old := sync1(t, r)
	if err := r.Keep([]string{kept, strings.Repeat("0", 40)}); err == nil {
		t.Error("Keep of a commit that is not there: no error")
	}
	rem.Rewrite(map[string]string{"b": "0"}, "anew")
	for i := range 20 {
		rem.Commit(map[string]string{"b": fmt.Sprint(i)}, "push", "")
		sync1(t, r)
	}
	if n := countPacks(cfg.Dir); n > 9 {
		t.Errorf("%d packs after 20 fetches with MaxPacks 5", n)
	}
	s, err := r.At(t.Context(), kept)
	if err != nil {
		t.Fatal(err)
	}
	for _, tree := range []fs.FS{s.Tree, old.Tree} {
		if b, err := fs.ReadFile(tree, "a"); err != nil || string(b) != "kept" {
			t.Errorf("ReadFile of a kept commit = %q, %v", b, err)
		}
	}
	if err := r.Keep(nil); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(cfg.Dir + "/refs/bellhop/*"); len(left) != 0 {
		t.Errorf("Keep(nil) left %v", left)
	}
}

func countPacks(dir string) int {
	all, _ := filepath.Glob(filepath.Join(dir, "objects/pack/pack-*.pack"))
	return len(all)
}

func TestDamage(t *testing.T) {
	hurt := map[string]func(t *testing.T, dir string){
		"pack cut": func(t *testing.T, dir string) {
			for _, f := range glob(dir + "/objects/pack/*.pack") {
				os.Chmod(f, 0o600)
				i, _ := os.Stat(f)
				os.Truncate(f, i.Size()/3)
			}
		},
		"pack flipped": func(t *testing.T, dir string) {
			for _, f := range glob(dir + "/objects/pack/*.pack") {
				os.Chmod(f, 0o600)
				b, _ := os.ReadFile(f)
				for i := 14; i < len(b); i++ {
					b[i] ^= 0x55
				}
				os.WriteFile(f, b, 0o600)
			}
		},
		"index gone":    func(t *testing.T, dir string) { rm(glob(dir + "/objects/pack/*.idx")) },
		"index flipped": func(t *testing.T, dir string) { flip(glob(dir + "/objects/pack/*.idx")) },
		"packs gone":    func(t *testing.T, dir string) { rm(glob(dir + "/objects/pack/*")) },
		"ref garbled":   func(t *testing.T, dir string) { os.WriteFile(dir+"/refs/heads/main", []byte("\x00\x00"), 0o600) },
		"all gone":      func(t *testing.T, dir string) { os.RemoveAll(dir) },
	}
	for name, f := range hurt {
		t.Run(name, func(t *testing.T) {
			rem := remote(t)
			files := map[string]string{}
			for i := range 50 {
				files[fmt.Sprintf("d%d/f%d", i%5, i)] = strings.Repeat(fmt.Sprint(i, " "), 50)
			}
			head := rem.Commit(files, "one", "")
			cfg := gitsync.Config{URL: rem.URL(), Dir: filepath.Join(t.TempDir(), "repo.git")}
			before := open(t, cfg)
			sync1(t, before)
			before.Close()
			f(t, cfg.Dir)
			s := sync1(t, open(t, cfg)) // a restart finds it
			readAll(t, s.Tree)
			if s.Commit != head {
				t.Errorf("commit %s, want %s", s.Commit, head)
			}
			f(t, cfg.Dir) // under a running server: the tree heals while it is read
			r := open(t, cfg)
			s = sync1(t, r)
			r.Close()
			f(t, cfg.Dir)
			readAll(t, s.Tree)
		})
	}
}

func TestDamagedCloneIsPutAside(t *testing.T) {
	rem := remote(t)
	rem.Commit(map[string]string{"a": "1"}, "one", "")
	cfg := gitsync.Config{URL: rem.URL(), Dir: filepath.Join(t.TempDir(), "repo.git")}
	for range 4 {
		r := open(t, cfg)
		sync1(t, r)
		r.Close()
		flip(glob(cfg.Dir + "/objects/pack/*.pack"))
		sync1(t, open(t, cfg))
	}
	if n := len(glob(cfg.Dir + ".damaged-*")); n == 0 || n > 2 {
		t.Errorf("%d damaged clones lie aside, want 1 or 2", n)
	}
}

func glob(pattern string) []string { all, _ := filepath.Glob(pattern); return all }

func rm(files []string) {
	for _, f := range files {
		os.Remove(f)
	}
}

func flip(files []string) {
	for _, f := range files {
		os.Chmod(f, 0o600)
		b, _ := os.ReadFile(f)
		for i := 4; i < len(b); i++ {
			b[i] ^= 0x55
		}
		os.WriteFile(f, b, 0o600)
	}
}

func readAll(t *testing.T, tree fs.FS) {
	t.Helper()
	n := 0
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			_, err = fs.ReadFile(tree, name)
			n++
		}
		return err
	})
	if err != nil || n == 0 {
		t.Errorf("read all: %d files, %v", n, err)
	}
}

// Fetches beside reads, from many goroutines; -race is the judge.
func TestReadWhileFetching(t *testing.T) {
	rem := remote(t)
	files := map[string]string{}
	for i := range 30 {
		files[fmt.Sprintf("f%d", i)] = fmt.Sprint(i)
	}
	rem.Commit(files, "one", "")
	r := open(t, gitsync.Config{URL: rem.URL(), MaxPacks: 3})
	s := sync1(t, r)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for range 10 {
				readAll(t, s.Tree)
			}
		})
	}
	for i := range 10 {
		rem.Commit(map[string]string{"f1": fmt.Sprint("new", i)}, "push", "")
		sync1(t, r)
	}
	wg.Wait()
}

func TestTokenStaysHome(t *testing.T) {
	rem := remote(t)
	rem.Token = "hunter2hunter2"
	rem.Commit(map[string]string{"a": "1"}, "one", "")
	home := httptest.NewServer(rem)
	defer home.Close()
	if s := sync1(t, open(t, gitsync.Config{URL: home.URL, Token: rem.Token})); s.Commit != rem.Head() {
		t.Errorf("with the token: %s", s.Commit)
	}
	for _, token := range []string{"", "wrong"} {
		_, err := open(t, gitsync.Config{URL: home.URL, Token: token}).Sync(t.Context())
		if !errors.Is(err, gitsync.ErrAuth) || !strings.Contains(err.Error(), "BELLHOP_REPO_TOKEN") {
			t.Errorf("Sync(token %q) = %v, want ErrAuth with a hint", token, err)
		}
	}
	var heard []string
	stranger := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		heard = append(heard, req.Header.Get("Authorization"))
		rem.ServeHTTP(w, req)
	}))
	defer stranger.Close()
	mover := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, stranger.URL+req.URL.String(), http.StatusFound)
	}))
	defer mover.Close()
	_, err := open(t, gitsync.Config{URL: mover.URL, Token: rem.Token}).Sync(t.Context())
	if err == nil || !strings.Contains(err.Error(), "has moved to") || strings.Contains(err.Error(), rem.Token) {
		t.Errorf("Sync over a redirect to another host: %v, want a refusal that says where it moved", err)
	}
	if len(heard) != 0 {
		t.Errorf("the other host was asked: %q", heard)
	}
	same := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasPrefix(req.URL.Path, "/old/info") {
			http.Redirect(w, req, "/new/info/refs?"+req.URL.RawQuery, http.StatusMovedPermanently)
			return
		}
		rem.ServeHTTP(w, req)
	}))
	defer same.Close()
	if s := sync1(t, open(t, gitsync.Config{URL: same.URL + "/old", Token: rem.Token})); s.Commit != rem.Head() {
		t.Errorf("over a redirect at home: %s", s.Commit)
	}
}

func TestCapsAndDeadlines(t *testing.T) {
	rem := remote(t)
	rem.Commit(map[string]string{"big": strings.Repeat("x", 1<<20) + randText(1<<20)}, "big", "")
	srv := httptest.NewServer(rem)
	defer srv.Close()
	if _, err := open(t, gitsync.Config{URL: srv.URL, MaxPack: 1 << 16}).Sync(t.Context()); err == nil || !strings.Contains(err.Error(), "more than 64 KiB in one fetch") {
		t.Errorf("Sync of 1 MiB with a cap of 64 KiB: %v", err)
	}
	stall := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { <-req.Context().Done() }))
	defer stall.Close()
	if _, err := open(t, gitsync.Config{URL: stall.URL, Timeout: 200 * time.Millisecond}).Sync(t.Context()); err == nil {
		t.Error("Sync with a stalled remote ended well")
	}
	over := remote(t)
	over.Commit(map[string]string{"huge": strings.Repeat("0", gitsync.MaxFile+1), "ok": "1"}, "huge", "")
	s := sync1(t, open(t, gitsync.Config{URL: over.URL()}))
	if _, err := fs.ReadFile(s.Tree, "huge"); err == nil || !strings.Contains(err.Error(), "use a package") {
		t.Errorf("ReadFile of 32 MiB + 1: %v", err)
	}
	if i, err := fs.Stat(s.Tree, "huge"); err != nil || i.Size() != gitsync.MaxFile+1 {
		t.Errorf("Stat(huge) = %v, %v", i, err)
	}
}

func randText(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return string(b)
}

func TestAddresses(t *testing.T) {
	key := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
	for url, ok := range map[string]bool{
		"https://github.com/within/hexagone.git":    true,
		"git@github.com:within/hexagone.git":        true,
		"ssh://git@github.com/within/hexagone.git":  true,
		"ssh://git@forge.example:2222/within/h.git": true,
		"/srv/git/hexagone.git":                     true,
		"./hexagone":                                true,
		"file:///srv/git/hexagone.git":              true,
		"":                                          false,
		"-oProxyCommand=touch /tmp/x":               false,
		"ext::sh -c touch% /tmp/x":                  false,
		"git://github.com/within/hexagone.git":      false,
		"ftp://x/y":                                 false,
		"ssh://-oProxyCommand=x/y":                  false,
		"-x@host:path":                              false,
		"https://user:hunter2@github.com/within/h":  false,
		"https:///nowhere":                          false,
		"javascript:alert(1)//\x00":                 false,
		"https://github.com/with\nin/hexagone":      false,
	} {
		_, err := gitsync.Open(gitsync.Config{URL: url, Dir: filepath.Join(t.TempDir(), "r"), HostKeys: []string{key}})
		if (err == nil) != ok {
			t.Errorf("Open(%q) = %v, want ok %v", url, err, ok)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error repeats the password: %v", err)
		}
	}
	if _, err := gitsync.Open(gitsync.Config{URL: "http://forge.example/x", Token: "t", Dir: t.TempDir()}); err == nil {
		t.Error("a token over plain http was accepted")
	}
	unpinned := open(t, gitsync.Config{URL: "git@forge.example:x", Signer: signer(t)})
	var noPin *gitsync.NoPinError
	if _, err := unpinned.Sync(t.Context()); !errors.As(err, &noPin) || noPin.Host != "forge.example" {
		t.Errorf("ssh without a pin: %v, want NoPinError, before anything is dialled", err)
	}
	for _, branch := range []string{"-x", "a..b", "../../x", "a b", "a/", "/a", "a//b", ".a", "a.lock", "a@{1}", "a\x00", "a~1", "a:b", "@", "refs/heads/../../x"} {
		if _, err := gitsync.Open(gitsync.Config{URL: "/x", Branch: branch, Dir: t.TempDir()}); err == nil {
			t.Errorf("branch %q was accepted", branch)
		}
	}
	for _, path := range []string{"..", "/etc", "a/../../b"} {
		if _, err := gitsync.Open(gitsync.Config{URL: "/x", Path: path, Dir: t.TempDir()}); err == nil {
			t.Errorf("path %q was accepted", path)
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add("https://github.com/a/b", "main")
	f.Add("git@github.com:a/b", "feature/x")
	f.Add("-x", "-y")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, url, branch string) {
		_, err := gitsync.Open(gitsync.Config{URL: url, Branch: branch, Dir: filepath.Join(dir, "r"), HostKeys: []string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"}})
		if err != nil || branch == "" {
			return
		}
		if strings.HasPrefix(url, "-") || strings.HasPrefix(branch, "-") || !filepath.IsLocal("refs/heads/"+branch) || strings.Contains(branch, "..") {
			t.Errorf("Open(%q, %q) was accepted", url, branch)
		}
	})
}

// ---- ssh

// sshServer serves rem over SSH and returns its address and host key line.
func sshServer(t *testing.T, rem *lab.Remote, client ssh.PublicKey) (addr, hostKey string, commands *[]string) {
	t.Helper()
	commands = &[]string{}
	addr, hostKey = sshExec(t, client, func(ch ssh.Channel) { rem.UploadPack(context.Background(), ch, ch) }, commands)
	return addr, hostKey, commands
}

// sshExec is an SSH server that answers every command by serve.
func sshExec(t *testing.T, client ssh.PublicKey, serve func(ssh.Channel), commands ...*[]string) (addr, hostKey string) {
	t.Helper()
	host := signer(t)
	cfg := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if string(key.Marshal()) != string(client.Marshal()) {
			return nil, errors.New("unknown key")
		}
		return nil, nil
	}}
	cfg.AddHostKey(host)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go serveSSH(nc, cfg, serve, commands)
		}
	}()
	return l.Addr().String(), string(ssh.MarshalAuthorizedKey(host.PublicKey()))
}

func serveSSH(nc net.Conn, cfg *ssh.ServerConfig, serve func(ssh.Channel), commands []*[]string) {
	_, chans, reqs, err := ssh.NewServerConn(nc, cfg)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(reqs)
	for c := range chans {
		ch, reqs, err := c.Accept()
		if err != nil {
			return
		}
		go func() {
			for req := range reqs {
				if req.Type != "exec" {
					req.Reply(false, nil)
					continue
				}
				for _, list := range commands {
					*list = append(*list, string(req.Payload[4:]))
				}
				req.Reply(true, nil)
				serve(ch)
				ch.SendRequest("exit-status", false, binary.BigEndian.AppendUint32(nil, 0))
				ch.Close()
			}
		}()
	}
}

func signer(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSSH(t *testing.T) {
	rem := remote(t)
	rem.Commit(map[string]string{"a": "1"}, "one", "")
	key := signer(t)
	addr, pin, commands := sshServer(t, rem, key.PublicKey())
	url := "ssh://git@" + addr + "/it's/hexagone.git"
	r := open(t, gitsync.Config{URL: url, Signer: key, HostKeys: []string{pin}})
	sync1(t, r)
	two := rem.Commit(map[string]string{"a": "2"}, "two", "")
	if s := sync1(t, r); s.Commit != two {
		t.Errorf("Sync over ssh = %s, want %s", s.Commit, two)
	}
	sync1(t, r)
	if rem.PacksSent() != 2 {
		t.Errorf("%d fetches over ssh, want 2", rem.PacksSent())
	}
	if want := `git-upload-pack '/it'\''s/hexagone.git'`; (*commands)[0] != want {
		t.Errorf("ran %q, want %q", (*commands)[0], want)
	}
	if _, err := open(t, gitsync.Config{URL: url, Signer: signer(t), HostKeys: []string{pin}}).Sync(t.Context()); !errors.Is(err, gitsync.ErrAuth) {
		t.Errorf("with an unknown deploy key: %v, want ErrAuth", err)
	}
	other := string(ssh.MarshalAuthorizedKey(signer(t).PublicKey()))
	before := len(*commands)
	if _, err := open(t, gitsync.Config{URL: url, Signer: key, HostKeys: []string{other}}).Sync(t.Context()); !errors.Is(err, gitsync.ErrHostKey) {
		t.Errorf("with another host key: %v, want ErrHostKey", err)
	}
	if len(*commands) != before {
		t.Error("a command ran on a host that is not the pinned one")
	}
}

// A server that accepts and says nothing must not hold a Sync.
func TestSSHStall(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	pin := string(ssh.MarshalAuthorizedKey(signer(t).PublicKey()))
	r := open(t, gitsync.Config{URL: "ssh://git@" + l.Addr().String() + "/x", Signer: signer(t), HostKeys: []string{pin}, Timeout: 300 * time.Millisecond})
	if _, err := r.Sync(t.Context()); !errors.Is(err, gitsync.ErrUnreachable) {
		t.Errorf("Sync = %v, want ErrUnreachable", err)
	}
}

// What git itself makes and serves is read as well: packed refs, packs, a work tree.
func TestRealGit(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git here")
	}
	dir := filepath.Join(t.TempDir(), "work")
	script := `git init -q -b main . && git config user.name x && git config user.email x@y && mkdir d && echo 1 >d/a && git add . && git commit -q -m one &&
		echo 2 >d/a && git commit -q -a -m two && git pack-refs --all && git gc -q`
	os.MkdirAll(dir, 0o755)
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git: %v: %s", err, out)
	}
	cfg := gitsync.Config{URL: dir, Dir: filepath.Join(t.TempDir(), "repo.git")}
	s := sync1(t, open(t, cfg))
	if b, err := fs.ReadFile(s.Tree, "d/a"); err != nil || string(b) != "2\n" {
		t.Errorf("ReadFile = %q, %v", b, err)
	}
	if out, err := exec.Command("git", "-C", cfg.Dir, "fsck", "--strict").CombinedOutput(); err != nil {
		t.Errorf("git fsck of our clone: %v: %s", err, out)
	}
}

func must(f fs.FS, err error) fs.FS {
	if err != nil {
		panic(err)
	}
	return f
}
