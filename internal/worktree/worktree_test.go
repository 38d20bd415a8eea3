package worktree_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"bellhop/internal/worktree"
)

// shell runs a script in a new folder, where git makes commits as somebody, and returns it.
func shell(t testing.TB, script string) string {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git here")
	}
	dir := t.TempDir()
	run(t, dir, script)
	return dir
}

func run(t testing.TB, dir, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=c", "GIT_COMMITTER_EMAIL=c@d")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
}

// names lists the files of a tree with their kinds.
func names(t testing.TB, tree fs.FS) []string {
	t.Helper()
	var all []string
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			name = "@" + name
		case d.Type()&fs.ModeIrregular != 0:
			name = "%" + name
		default:
			if i, err := d.Info(); err == nil && i.Mode()&0o100 != 0 {
				name = "+" + name
			}
		}
		all = append(all, name)
		return nil
	})
	if err != nil {
		t.Errorf("walk: %v", err)
	}
	return all
}

// A tree holds what `git add --all && git commit` would commit: it is held against git itself.
func TestRead(t *testing.T) {
	for name, c := range map[string]struct {
		script, dir string
		want        []string
	}{
		"changed, new, deleted, ignored": {`git init -q; echo 1 >kept; echo 1 >gone; mkdir -p services/a; echo 1 >services/a/b; echo '*.env' >.gitignore
			git add .; git commit -q -m x; rm gone; echo 2 >kept; echo n >new; echo s >services/a/x.env; mkdir empty; echo u >services/u; chmod +x new`, ".",
			[]string{".gitignore", "kept", "+new", "services/a/b", "services/u"}},
		"forced in": {`git init -q; echo '*' >.gitignore; echo 1 >a; git add -f a`, ".", []string{"a"}},
		"below a path": {`git init -q; mkdir -p infra/bellhop other; echo 1 >infra/bellhop/a; echo 1 >other/b; echo /infra/bellhop/x >.gitignore; echo x >infra/bellhop/x`,
			"infra/bellhop", []string{"a"}},
		"links":              {`git init -q; ln -s a l; ln -s /etc/passwd out; echo 1 >a`, ".", []string{"a", "@l", "@out"}},
		"a repo inside":      {`git init -q; git init -q sub; echo 1 >sub/f; (cd sub; git add f; git commit -q -m x); echo 1 >a`, ".", []string{"a", "%sub"}},
		"a linked work tree": {`git init -q m; cd m; echo 1 >a; git add a; git commit -q -m x; git worktree add -q ../w; echo 2 >../w/b`, "w", []string{"a", "b"}},
		"not committed yet":  {`git init -q; echo 1 >a`, ".", []string{"a"}},
		"a conflict": {`git init -q -b m; echo 1 >a; git add a; git commit -q -m x; git checkout -q -b o; echo 2 >a; git commit -qam y; git checkout -q m; echo 3 >a; git commit -qam z
			git merge -q o || true`, ".", []string{"a"}},
		"a file became a folder": {`git init -q; echo 1 >a; git add a; git commit -q -m x; rm a; mkdir a; echo 1 >a/b`, ".", []string{"a/b"}},
		"odd names":              {`git init -q; echo 1 >"$(printf 'a\nb')"; echo 1 >"$(printf 'caf\351')"; echo 1 >'x y "q" \z'`, ".", []string{"a\nb", "caf\xe9", `x y "q" \z`}},
		"excluded by the person": {`git init -q; echo junk >.git/info/exclude; echo 1 >junk; echo 1 >a`, ".", []string{"a"}},
		"through a link":         {`git init -q r; echo 1 >r/a; echo x >r/.gitignore; echo 1 >r/x; ln -s r l`, "l", []string{".gitignore", "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(shell(t, c.script), c.dir)
			tree, err := worktree.Read(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			if got := names(t, tree); !slices.Equal(got, c.want) {
				t.Errorf("Read = %q, want %q", got, c.want)
			}
			var wire bytes.Buffer
			if err := tree.Pack(&wire); err != nil {
				t.Fatal(err)
			}
			far, err := worktree.Unpack(&wire)
			if err != nil {
				t.Fatal(err)
			}
			if got := names(t, far); !slices.Equal(got, c.want) {
				t.Errorf("over the wire = %q, want %q", got, c.want)
			}
		})
	}
}

// A sparse checkout leaves files in the index; a commit has them.
func TestSparse(t *testing.T) {
	dir := shell(t, `git init -q s; cd s; mkdir in out; echo 1 >in/a; echo 2 >out/b; git add .; git commit -q -m x; git sparse-checkout set in`)
	tree, err := worktree.Read(t.Context(), filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := fs.ReadFile(tree, "out/b"); err != nil || string(b) != "2\n" {
		t.Errorf("ReadFile(out/b) = %q, %v", b, err)
	}
}

func TestIgnored(t *testing.T) {
	dir := shell(t, `git init -q; mkdir -p c/services/a/files/lib c/venv c/secrets; printf 'lib/\n*.env\nvenv/\n' >.gitignore
		echo 1 >c/services/a/files/lib/x; echo 1 >c/services/a/b.env; echo 1 >c/secrets/s.env; echo 1 >c/venv/k; echo 1 >c/bellhop.yaml`)
	tree, err := worktree.Read(t.Context(), filepath.Join(dir, "c"), "bellhop.yaml", "services", "secrets", "hosts")
	want := []string{"secrets/s.env", "services/a/b.env", "services/a/files/lib/"}
	if err != nil || !slices.Equal(tree.Ignored, want) {
		t.Errorf("Ignored = %q, %v, want %q", tree.Ignored, err, want)
	}
}

// Where git does not know a folder, the error says so, and it is taken as it is.
func TestNoGit(t *testing.T) {
	for name, c := range map[string]struct{ script, dir string }{
		"no repo":                 {`mkdir d; echo 1 >d/a`, "d"},
		"ignored by an outer one": {`git init -q; echo d >.gitignore; mkdir d; echo 1 >d/a`, "d"},
		"a bare one":              {`git init -q --bare d; echo 1 >d/a`, "d"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(shell(t, c.script), c.dir)
			if _, err := worktree.Read(t.Context(), dir); !errors.Is(err, worktree.ErrNoGit) {
				t.Errorf("Read = %v, want ErrNoGit", err)
			}
			if tree, err := worktree.ReadAll(dir); err != nil || !slices.Contains(names(t, tree), "a") {
				t.Errorf("ReadAll = %v, %v", tree, err)
			}
		})
	}
	t.Run("no git program", func(t *testing.T) {
		dir := shell(t, `git init -q; echo 1 >a`)
		t.Setenv("PATH", t.TempDir())
		if _, err := worktree.Read(t.Context(), dir); !errors.Is(err, worktree.ErrNoGit) {
			t.Errorf("Read = %v, want ErrNoGit", err)
		}
	})
}

func TestTreeIsAFileSystem(t *testing.T) {
	dir := shell(t, `git init -q; mkdir -p a/b; echo 1 >a/b/c; ln -s a/b link; echo 2 >d; ln -s /etc/passwd out; ln -s ../.. up; ln -s loop loop`)
	tree, err := worktree.Read(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := fs.ReadFile(tree, "link/c"); err != nil || string(b) != "1\n" {
		t.Errorf("ReadFile(link/c) = %q, %v", b, err)
	}
	for _, name := range []string{"out", "up", "loop", "nothing", "d/e"} {
		if b, err := fs.ReadFile(tree, name); err == nil {
			t.Errorf("ReadFile(%s) = %q, want an error", name, b)
		}
	}
	if id, ok := tree.Hash("d"); !ok || id != "0cfbf08886fca9a91cb753ec8734c84fcbe52c9f" {
		t.Errorf("Hash(d) = %s, %v, want git's", id, ok)
	}
	run(t, dir, `rm out up loop`)
	if tree, err = worktree.Read(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(tree, "a/b/c", "d"); err != nil {
		t.Error(err)
	}
}

// A tree has limits on the wire, and what is no tree is refused.
func TestStreamLimits(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, 30<<20), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(filepath.Join(dir, "c"), 100<<20); err != nil {
		t.Fatal(err)
	}
	tree, err := worktree.ReadAll(dir)
	if err != nil {
		t.Fatal(err)
	}
	var wire bytes.Buffer
	if err := tree.Pack(&wire); err != nil {
		t.Fatalf("60 MiB, and a file that nobody can read: %v", err)
	}
	far, err := worktree.Unpack(&wire)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fs.ReadFile(far, "c"); err == nil || !strings.Contains(err.Error(), "32 MiB") {
		t.Errorf("ReadFile of a large file = %v", err)
	}
	os.WriteFile(filepath.Join(dir, "d"), make([]byte, 5<<20), 0o644)
	if tree, err = worktree.ReadAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := tree.Pack(&bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "64 MiB") {
		t.Errorf("Pack of 65 MiB = %v", err)
	}
}

func FuzzUnpack(f *testing.F) {
	tree, err := worktree.ReadAll(".")
	if err != nil {
		f.Fatal(err)
	}
	var wire bytes.Buffer
	if err := tree.Pack(&wire); err != nil {
		f.Fatal(err)
	}
	f.Add(wire.Bytes())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, err := worktree.Unpack(bytes.NewReader(b))
		if err != nil {
			return
		}
		_ = fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
			if strings.HasPrefix(name, "/") || strings.Contains("/"+name+"/", "/../") {
				t.Errorf("a name leaves the tree: %q", name)
			}
			return nil
		})
	})
}
