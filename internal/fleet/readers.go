package fleet

import (
	"context"
	"io/fs"
)

// ReadReaders reads readers: and verify: of bellhop.yaml, and nothing else of tree.
func ReadReaders(ctx context.Context, tree fs.FS) (Readers, error) {
	b := newBudget(ctx)
	data, err := readBlob(tree, "bellhop.yaml")
	if err != nil {
		return Readers{}, err
	}
	t := &text{file: "bellhop.yaml", data: data}
	f := &fleetFile{}
	decodeYAML(t, f, b)
	if len(t.problems) > 0 {
		return Readers{}, t.problems.sort()
	}
	r, ps := readersOf(t, f)
	return r, ps.sort().err()
}
