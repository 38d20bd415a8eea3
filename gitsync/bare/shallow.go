package bare

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"

	"bellhop/internal/durable"
)

// A shallow repository ends its history at some commits: the parents that these name are not
// there. Git lists them in the file "shallow", one id a line, and so does our clone of such a
// repository: whoever walks through history stops there instead of missing an object.

// readShallow reads the file of a repository; most have none.
func readShallow(dir string) map[plumbing.Hash]bool {
	b, err := os.ReadFile(filepath.Join(dir, "shallow"))
	if err != nil {
		return nil
	}

	ends := map[plumbing.Hash]bool{}
	for id := range strings.FieldsSeq(string(b)) {
		if IsID(id) {
			ends[plumbing.NewHash(id)] = true
		}
	}

	return ends
}

// AddShallow adds commits to the file of the clone in dir.
func AddShallow(dir string, ends map[plumbing.Hash]bool) error {
	all := readShallow(dir)
	before := len(all)
	if all == nil {
		all = map[plumbing.Hash]bool{}
	}

	maps.Copy(all, ends)
	if len(all) == before {
		return nil
	}

	var lines []string
	for id := range all {
		lines = append(lines, id.String()+"\n")
	}

	slices.Sort(lines)
	return durable.Write(filepath.Join(dir, "shallow"), []byte(strings.Join(lines, "")), 0o600)
}

// KeepShallow notes where the history that was fetched ends.
func (s *Store) KeepShallow(ends map[plumbing.Hash]bool) error {
	here := map[plumbing.Hash]bool{}
	for id := range ends {
		if s.Has(id) {
			here[id] = true
		}
	}

	return AddShallow(s.Dir, here)
}
