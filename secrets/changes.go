package secrets

import (
	"bytes"
	"io"
	"io/fs"
	"path"
	"strings"
)

// A hasher is a tree that knows the git object id of its files and folders. With it, what is the
// same in two commits is neither read nor listed.
type hasher interface {
	Hash(name string) (string, bool)
}

func hashOf(tree fs.FS, name string) string {
	if h, ok := tree.(hasher); ok {
		if id, ok := h.Hash(name); ok {
			return id
		}
	}
	return ""
}

// changed calls visit for every file of tree that is not the same in old at the same path, in
// order. It goes on after a folder that cannot be read, which fail is told of. old may be nil.
func changed(old, tree fs.FS, visit func(name string, d fs.DirEntry), fail func(name string, err error)) {
	var walk func(dir string)
	walk = func(dir string) {
		if same(old, tree, dir) {
			return
		}
		entries, err := fs.ReadDir(tree, dir)
		if err != nil {
			fail(dir, err)
			return
		}
		for _, e := range entries {
			name := path.Join(dir, e.Name())
			switch {
			case e.IsDir() && e.Name() == ".git":
			case e.IsDir():
				walk(name)
			case !same(old, tree, name) && !(e.Type().IsRegular() && equalBytes(old, tree, name)):
				visit(name, e)
			}
		}
	}
	walk(".")
}

// same is true if both trees give one object id for a name.
func same(old, tree fs.FS, name string) bool {
	if old == nil {
		return false
	}
	id := hashOf(tree, name)
	return id != "" && id == hashOf(old, name)
}

// equalBytes compares files of trees that know no object ids.
func equalBytes(old, tree fs.FS, name string) bool {
	if old == nil || hashOf(tree, name) != "" && hashOf(old, name) != "" {
		return false
	}
	a, err := readFile(old, name)
	if err != nil {
		return false
	}
	defer clear(a)
	b, err := readFile(tree, name)
	defer clear(b)
	return err == nil && bytes.Equal(a, b)
}

// holds says whether a blob stands anywhere in old: a file that was moved is not new. It is asked
// only about a file that would be refused, so its cost is nobody's daily bread.
func holds(old fs.FS, id string, data []byte) bool {
	if old == nil {
		return false
	}
	found := false
	_ = fs.WalkDir(old, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || found || !d.Type().IsRegular() {
			return nil
		}
		if o := hashOf(old, name); o != "" && id != "" {
			found = o == id
			return nil
		}
		if info, err := d.Info(); err == nil && info.Size() != int64(len(data)) {
			return nil
		}
		b, err := readFile(old, name)
		found = err == nil && bytes.Equal(b, data)
		clear(b)
		return nil
	})
	return found
}

// maxBlob is the largest file that is looked through; the config repo may hold none larger.
const maxBlob = 32 << 20

func readFile(tree fs.FS, name string) ([]byte, error) { return readHead(tree, name, maxBlob) }

// readHead reads at most limit bytes of a file.
func readHead(tree fs.FS, name string, limit int64) ([]byte, error) {
	f, err := tree.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// inSecrets says whether a file must be sealed: all below secrets/, but public halves, notes and
// dotfiles (an editor's .gitignore, a .gitkeep).
func inSecrets(name string) bool {
	rest, ok := strings.CutPrefix(name, Dir+"/")
	if !ok {
		return false
	}
	for part := range strings.SplitSeq(rest, "/") {
		if strings.HasPrefix(part, ".") {
			return false
		}
	}
	base := path.Base(name)
	return !strings.HasSuffix(base, ".pub") && !strings.HasPrefix(base, "README")
}

// isSecret says whether a file is one that rules and readers are about.
func isSecret(name string) bool { return inSecrets(name) || strings.HasSuffix(name, ".age") }
