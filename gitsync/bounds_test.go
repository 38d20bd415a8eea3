package gitsync_test

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"bellhop/gitsync"
	"bellhop/gitsync/objects"
)

// A madeRepo is a repository whose objects are written by hand: git itself would refuse some.
type madeRepo struct {
	t   testing.TB
	dir string
}

func makeRepo(t testing.TB) madeRepo {
	t.Helper()
	m := madeRepo{t, filepath.Join(t.TempDir(), "made.git")}
	for _, d := range []string{"objects/pack", "refs/heads"} {
		if err := os.MkdirAll(filepath.Join(m.dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	m.file("HEAD", "ref: refs/heads/main\n")
	m.file("config", "[core]\n\tbare = true\n\trepositoryformatversion = 0\n")
	return m
}

func (m madeRepo) file(name, text string) {
	m.t.Helper()
	file := filepath.Join(m.dir, name)
	os.MkdirAll(filepath.Dir(file), 0o755)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// object writes a loose object of parts and as many bytes of fill, and returns its id.
func (m madeRepo) object(kind, text string, fill int64) string {
	m.t.Helper()
	f, err := os.CreateTemp(m.dir, "loose")
	if err != nil {
		m.t.Fatal(err)
	}
	h, z := sha1.New(), zlib.NewWriter(f)
	put := func(b []byte) { h.Write(b); z.Write(b) }
	put(fmt.Appendf(nil, "%s %d\x00%s", kind, int64(len(text))+fill, text))
	for chunk := bytes.Repeat([]byte{'y'}, 1<<20); fill > 0; fill -= int64(len(chunk)) {
		put(chunk[:min(fill, int64(len(chunk)))])
	}
	z.Close()
	f.Close()
	id := fmt.Sprintf("%x", h.Sum(nil))
	to := filepath.Join(m.dir, "objects", id[:2], id[2:])
	os.MkdirAll(filepath.Dir(to), 0o755)
	if err := os.Rename(f.Name(), to); err != nil {
		m.t.Fatal(err)
	}
	return id
}

// tree writes a folder of "mode name id" lines.
func (m madeRepo) tree(lines ...string) string {
	var b strings.Builder
	for _, l := range lines {
		mode, rest, _ := strings.Cut(l, " ")
		name, id := rest[:len(rest)-41], rest[len(rest)-40:]
		raw, err := hex.DecodeString(id)
		if err != nil {
			m.t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %s\x00%s", mode, name, raw)
	}
	return m.object("tree", b.String(), 0)
}

func (m madeRepo) commit(tree, author, message string, fill int64, parents ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "tree %s\n", tree)
	for _, p := range parents {
		fmt.Fprintf(&b, "parent %s\n", p)
	}
	fmt.Fprintf(&b, "author %s <a@b> 1 +0000\ncommitter c <c@d> 1 +0000\n\n%s", author, message)
	id := m.object("commit", b.String(), fill)
	m.file("refs/heads/main", id+"\n")
	return id
}

// plain is a tree as most are.
func (m madeRepo) plain(more ...string) string {
	return m.tree(append(more, "100644 bellhop.yaml "+m.object("blob", "network: x\n", 0))...)
}

// over serves a repository by git's own program over http.
func over(t testing.TB, dir string) string {
	t.Helper()
	srv := httptest.NewServer(gitBackend(t, dir))
	t.Cleanup(srv.Close)
	return srv.URL + "/" + filepath.Base(dir)
}

func peak(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A file that nobody reads may have any size: it costs no memory and stops nothing. Who reads
// it is told which file, and the limit.
func TestLargeFileThatNobodyUses(t *testing.T) {
	m := makeRepo(t)
	junk := m.object("blob", "", 100<<20)
	m.commit(m.plain("100644 a.iso "+junk), "a", "a disk image", 0)
	for _, url := range []string{m.dir, over(t, m.dir)} {
		var s gitsync.Snapshot
		cost := peak(func() { s = sync1(t, open(t, gitsync.Config{URL: url})) })
		if cost > 40<<20 {
			t.Errorf("%s: a file of 100 MiB allocated %d MiB", url, cost>>20)
		}
		if b, err := fs.ReadFile(s.Tree, "bellhop.yaml"); err != nil || string(b) != "network: x\n" {
			t.Errorf("ReadFile(bellhop.yaml) = %q, %v", b, err)
		}
		if i, err := fs.Stat(s.Tree, "a.iso"); err != nil || i.Size() != 100<<20 {
			t.Errorf("Stat(a.iso) = %v, %v", i, err)
		}
		_, err := fs.ReadFile(s.Tree, "a.iso")
		if err == nil || !strings.Contains(err.Error(), "a.iso") || !strings.Contains(err.Error(), "larger than 32 MiB") {
			t.Errorf("ReadFile(a.iso) = %v, want its name and the limit", err)
		}
	}
}

// A commit or a folder that is too large is refused with the reason, without memory, and the
// commit that mends it is read as ever.
func TestLargeCommitAndFolder(t *testing.T) {
	for name, c := range map[string]struct {
		make func(m madeRepo) string
		want string
	}{
		"message": {func(m madeRepo) string { return m.commit(m.plain(), "a", "x", 64<<20) }, "64 MiB: commits are read up to 1 MiB"},
		"author":  {func(m madeRepo) string { return m.commit(m.plain(), strings.Repeat("A", 3<<20), "x", 0) }, "commits are read up to 1 MiB"},
		"folder": {func(m madeRepo) string {
			var lines []string
			id := m.object("blob", "x", 0)
			for i := range 200_000 {
				lines = append(lines, fmt.Sprintf("100644 a-file-with-a-name-%06d %s", i, id))
			}
			return m.commit(m.tree(lines...), "a", "x", 0)
		}, "up to 8 MiB are read"},
	} {
		t.Run(name, func(t *testing.T) {
			m := makeRepo(t)
			first := m.commit(m.plain(), "a", "first", 0)
			urls := []string{m.dir, over(t, m.dir)}
			repos := []*gitsync.Repo{open(t, gitsync.Config{URL: urls[0]}), open(t, gitsync.Config{URL: urls[1]})}
			for _, r := range repos {
				sync1(t, r)
			}
			bad := c.make(m)
			for i, r := range repos {
				var err error
				cost := peak(func() { _, err = r.Sync(t.Context()) })
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: Sync = %v, want %q", urls[i], err, c.want)
				}
				if cost > 64<<20 {
					t.Errorf("%s: allocated %d MiB", urls[i], cost>>20)
				}
				if left := glob(filepath.Join(filepath.Dir(m.dir), "*damaged*")); len(left) > 0 {
					t.Errorf("the clone was taken for damaged: %v", left)
				}
			}
			good := m.commit(m.plain(), "a", "mended", 0, bad, first)
			for i, r := range repos {
				if s := sync1(t, r); s.Commit != good || s.Rewritten {
					t.Errorf("%s: Sync = %s rewritten=%v, want %s", urls[i], s.Commit, s.Rewritten, good)
				}
			}
		})
	}
}

// A large folder elsewhere matters to nobody.
func TestLargeFolderThatNobodyUses(t *testing.T) {
	m := makeRepo(t)
	id := m.object("blob", "x", 0)
	var lines []string
	for i := range 200_000 {
		lines = append(lines, fmt.Sprintf("100644 a-file-with-a-name-%06d %s", i, id))
	}
	m.commit(m.plain("40000 a "+m.tree(lines...)), "a", "x", 0)
	s := sync1(t, open(t, gitsync.Config{URL: m.dir}))
	if _, err := fs.ReadFile(s.Tree, "bellhop.yaml"); err != nil {
		t.Error(err)
	}
	if _, err := fs.ReadDir(s.Tree, "a"); err == nil || !strings.Contains(err.Error(), "8 MiB") {
		t.Errorf("ReadDir(a) = %v, want the limit", err)
	}
}

// What a commit says is shown on terminals.
func TestWhatACommitSays(t *testing.T) {
	m := makeRepo(t)
	m.commit(m.plain(), "A\u202Exof\x1b[2J"+strings.Repeat("é", 300), "fix\u202e\u2066 \x1b]0;x\a "+strings.Repeat("s", 500)+"\n\nBellhop-Allow: prune web1\n", 0)
	s := sync1(t, open(t, gitsync.Config{URL: m.dir}))
	for _, text := range []string{s.Author, s.Subject} {
		if len(text) > 200 || !utf8.ValidString(text) || strings.ContainsAny(text, "\u202e\u2066\x1b\a\n") {
			t.Errorf("%q has %d bytes", text, len(text))
		}
	}
	if !strings.HasPrefix(s.Author, "Axof[2J") || !strings.HasPrefix(s.Subject, "fix ") {
		t.Errorf("author %q, subject %q", s.Author, s.Subject)
	}
}

// A name that is no UTF-8 or leads elsewhere matters to who lists its folder, and to no other.
func TestOddNames(t *testing.T) {
	m := makeRepo(t)
	id := m.object("blob", "x", 0)
	latin := m.tree("100644 caf\xe9.txt "+id, "100644 ok "+id)
	evil := m.tree("100644 .. "+id, "100644 ok "+id)
	m.commit(m.tree("100644 \xff\xfe "+id, "40000 evil "+evil, "40000 latin "+latin, "40000 sub "+m.plain("40000 deep "+evil)), "a", "names", 0)
	s := sync1(t, open(t, gitsync.Config{URL: m.dir}))
	for _, name := range []string{"latin/ok", "evil/ok", "sub/bellhop.yaml"} {
		if _, err := fs.ReadFile(s.Tree, name); err != nil {
			t.Errorf("ReadFile(%s) = %v", name, err)
		}
	}
	if es, err := fs.ReadDir(s.Tree, "latin"); err != nil || len(es) != 2 || es[0].Name() != "caf\xe9.txt" {
		t.Errorf("ReadDir(latin) = %v, %v", es, err)
	}
	if _, err := fs.ReadDir(s.Tree, "evil"); err == nil || !strings.Contains(err.Error(), `".."`) {
		t.Errorf("ReadDir(evil) = %v, want an error that names it", err)
	}
	sub := sync1(t, open(t, gitsync.Config{URL: m.dir, Path: "sub"}))
	if _, err := fs.ReadFile(sub.Tree, "bellhop.yaml"); err != nil {
		t.Errorf("with --path: %v", err)
	}
}

// What somebody made by hand is no damage of the clone: it is told, and cloned once.
func TestMalformedObjects(t *testing.T) {
	for name, make := range map[string]func(m madeRepo){
		"a tree without modes": func(m madeRepo) { m.commit(m.object("tree", "a\x00"+strings.Repeat("x", 20), 0), "a", "x", 0) },
		"a tree that is cut":   func(m madeRepo) { m.commit(m.object("tree", "100644 a\x00abc", 0), "a", "x", 0) },
		"a commit without a tree": func(m madeRepo) {
			m.file("refs/heads/main", m.object("commit", "author a <a@b> 1 +0000\n\nx", 0)+"\n")
		},
		"a blob for a tree":   func(m madeRepo) { m.commit(m.object("blob", "x", 0), "a", "x", 0) },
		"a blob for a commit": func(m madeRepo) { m.file("refs/heads/main", m.object("blob", "x", 0)+"\n") },
	} {
		t.Run(name, func(t *testing.T) {
			m := makeRepo(t)
			make(m)
			for _, url := range []string{m.dir, over(t, m.dir)} {
				clone := filepath.Join(t.TempDir(), "repo.git")
				r := open(t, gitsync.Config{URL: url, Dir: clone})
				for range 3 {
					if _, err := r.Sync(t.Context()); err == nil || strings.ContainsAny(err.Error(), "\n\x00") {
						t.Errorf("%s: Sync = %v, want one sentence", url, err)
					}
				}
				if n := len(glob(clone + ".damaged*")); n > 1 {
					t.Errorf("%s: %d clones were put aside", url, n)
				}
			}
		})
	}
}

// Deep folders, many siblings and equal folders inside each other cost what their names do.
func TestManyFolders(t *testing.T) {
	m := makeRepo(t)
	id := m.object("blob", "x", 0)
	deep := m.tree("100644 file " + id)
	for range 4000 {
		deep = m.tree("40000 d " + deep)
	}
	bomb := m.tree("100644 file " + id)
	for range 12 {
		var ten []string
		for i := range 10 {
			ten = append(ten, fmt.Sprintf("40000 %d %s", i, bomb))
		}
		bomb = m.tree(ten...)
	}
	m.commit(m.plain("40000 a-bomb "+bomb, "40000 a-deep "+deep), "a", "folders", 0)
	s := sync1(t, open(t, gitsync.Config{URL: m.dir})) // a walk through the bomb would see 10^12 files
	if _, err := fs.ReadFile(s.Tree, "a-bomb/1/2/3/4/5/6/7/8/9/0/1/2/file"); err != nil {
		t.Error(err)
	}
	levels := 0
	err := fs.WalkDir(s.Tree, "a-deep", func(_ string, _ fs.DirEntry, err error) error {
		levels++
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "longer than 4096 bytes") || levels < 2000 {
		t.Errorf("walk of 4,000 levels: %d levels, %v; want the limit of a path", levels, err)
	}
}

// The budget of one fetch is told.
func TestFetchBudget(t *testing.T) {
	m := makeRepo(t)
	m.commit(m.plain("100644 a "+m.object("blob", "", 3<<20)), "a", "x", 0)
	_, err := open(t, gitsync.Config{URL: over(t, m.dir), MaxInflated: 2 << 20}).Sync(t.Context())
	if !errors.Is(err, objects.ErrLimit) || !strings.Contains(err.Error(), "2 MiB together") {
		t.Errorf("Sync = %v, want ErrLimit", err)
	}
}
