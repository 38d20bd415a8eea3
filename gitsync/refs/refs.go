package refs

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"

	"bellhop/internal/plain"
)

// A Set is what a remote has, by the name behind refs/heads/ and refs/tags/.
type Set struct {
	Heads  map[string]plumbing.Hash
	Tags   map[string]plumbing.Hash // what the ref holds: a commit, or a tag object
	Peeled map[string]plumbing.Hash // of a tag object: its commit
}

func New() Set {
	return Set{map[string]plumbing.Hash{}, map[string]plumbing.Hash{}, map[string]plumbing.Hash{}}
}

// Add takes one ref by its full name; those that are neither branch nor tag are left out.
func (r Set) Add(name string, h plumbing.Hash) {
	if h.IsZero() { // what git says of a ref that it can't read
		return
	}

	if branch, ok := strings.CutPrefix(name, "refs/heads/"); ok {
		r.Heads[branch] = h
		return
	}

	tag, ok := strings.CutPrefix(name, "refs/tags/")
	if !ok {
		return
	}

	if tag, ok := strings.CutSuffix(tag, "^{}"); ok {
		r.Peeled[tag] = h
		return
	}

	r.Tags[tag] = h
}

// Digest changes when a branch comes, goes or moves.
func (r Set) Digest() string {
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(r.Heads)) {
		fmt.Fprintln(sum, name, r.Heads[name])
	}
	return string(sum.Sum(nil))
}

// Few lists the first names of a map.
func Few(m map[string]plumbing.Hash) string {
	const few = 5
	names := slices.Sorted(maps.Keys(m))
	for i := range names {
		names[i] = plain.Line(names[i], 80)
	}

	if len(names) > few {
		names = append(names[:few], "…")
	}

	return strings.Join(names, ", ")
}

// CheckName holds a branch to git's own grammar for refs, and to a bit less.
func CheckName(name string) error {
	bad := func(why string) error { return fmt.Errorf("branch %q: %s", name, why) }
	switch {
	case name == "" || len(name) > 200:
		return bad("has no usable length")
	case strings.HasPrefix(name, "-"):
		return bad("starts with a dash")
	case name == "@" || strings.Contains(name, "@{") || strings.Contains(name, ".."):
		return bad("is not a name that git allows")
	case strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c == 0x7f || strings.ContainsRune(`~^:?*[\`, c) }):
		return bad("holds a byte that git does not allow")
	}

	for part := range strings.SplitSeq(name, "/") {
		hasDot := strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".")
		if part == "" || hasDot || strings.HasSuffix(part, ".lock") {
			return bad("is not a name that git allows")
		}
	}

	return nil
}
