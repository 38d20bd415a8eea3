package bundle_test

import (
	"fmt"

	"bellhop/internal/bundle"
)

// The difference of two manifests is what a plan prints.
func ExampleDiff() {
	old := bundle.Manifest{Files: []bundle.File{{Path: "/etc/a", Digest: "1", Mode: 0o644, User: "root", Group: "root"}, {Path: "/etc/b", Digest: "2"}}}
	wanted := bundle.Manifest{Files: []bundle.File{{Path: "/etc/a", Digest: "3", Mode: 0o644, User: "root", Group: "root"}}, Links: []bundle.Link{{Path: "/etc/c", Target: "a"}}}

	for _, c := range bundle.Diff(old, wanted) {
		fmt.Println(c.Action, c.Kind, c.Name)
	}
	// Output:
	// change file /etc/a
	// remove file /etc/b
	// add link /etc/c
}
