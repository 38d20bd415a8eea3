package main

import (
	"fmt"
	"path/filepath"
	"testing"

	"bellhop/gitsync"
	"bellhop/internal/fleet"
	"bellhop/internal/lab"
	"bellhop/secrets"
)

// A README inside a service folder, in a repo of 2,000 files: what looks at a commit on its way to a
// plan reads at most one blob more than what changed.
func TestReadmeReadsNextToNothing(t *testing.T) {
	rem := lab.NewRemote(filepath.Join(t.TempDir(), "remote.git"))
	const services, each = 100, 20
	files := map[string]string{}
	y := "network: n\nhosts:\n"
	for i := range services {
		y += fmt.Sprintf("  h%d:\n    address: 10.0.0.%d\n    host_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n    services: { s%d: true }\n", i, i+1, i)
		for j := range each {
			files[fmt.Sprintf("services/s%d/files/etc/s%d/%d", i, i, j)] = fmt.Sprint(i, " ", j)
		}
	}
	files["bellhop.yaml"] = y
	rem.Commit(files, "all", "")
	r, err := gitsync.Open(gitsync.Config{URL: rem.URL(), Dir: filepath.Join(t.TempDir(), "repo.git")})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var loader fleet.Loader
	look := func() *gitsync.Tree {
		t.Helper()
		snap, err := r.Sync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		f, err := loader.Load(t.Context(), snap.Tree)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range f.Hosts {
			if _, err := f.Bundle(h.Name); err != nil {
				t.Fatal(err)
			}
		}
		return snap.Tree.(*gitsync.Tree)
	}
	old := look()
	before := old.BlobsRead()
	if before < services*each {
		t.Errorf("the first look read %d blobs, want all %d", before, services*each)
	}
	rem.Commit(map[string]string{"services/s7/README.md": "read me"}, "readme", "")
	tree := look()
	if found := secrets.CheckPush(t.Context(), old, tree, secrets.Rules{}); len(found) > 0 {
		t.Errorf("the README is found fault with: %v", found)
	}
	if n := tree.BlobsRead() + old.BlobsRead() - before; n > 2 {
		t.Errorf("%d blobs were read for one README, want at most 2", n)
	}
}
