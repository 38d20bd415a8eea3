package secrets

import (
	"bytes"
	"io"
	"io/fs"
	"path"
	"strings"

	"bellhop/internal/limits"
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

// maxBlob is the largest file that is looked through; the config repo may hold none larger.
const maxBlob = limits.RepoFile

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
