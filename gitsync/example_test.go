package gitsync_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"bellhop/gitsync"
	"bellhop/internal/lab"
)

// A repo is opened once; each Sync returns the branch's head as a read-only tree.
func Example() {
	dir, err := os.MkdirTemp("", "gitsync")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	remote := lab.NewRemote(filepath.Join(dir, "config.git"))
	remote.Commit(map[string]string{"bellhop.yaml": "network: hexagone\n"}, "first day", "")

	repo, err := gitsync.Open(gitsync.Config{URL: remote.URL(), Dir: filepath.Join(dir, "clone.git")})
	if err != nil {
		panic(err)
	}
	defer repo.Close()
	head, err := repo.Sync(context.Background())
	if err != nil {
		panic(err)
	}
	config, err := fs.ReadFile(head.Tree, "bellhop.yaml")
	fmt.Printf("%s: %s%v\n", head.Subject, config, err)
	// Output:
	// first day: network: hexagone
	// <nil>
}

// Holds answers whether a commit that somebody told of has arrived.
func ExampleRepo_Holds() {
	dir, err := os.MkdirTemp("", "gitsync")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	remote := lab.NewRemote(filepath.Join(dir, "config.git"))
	told := remote.Commit(map[string]string{"a": "1"}, "one", "")
	remote.Commit(map[string]string{"a": "2"}, "two", "")

	repo, err := gitsync.Open(gitsync.Config{URL: remote.URL(), Dir: filepath.Join(dir, "clone.git")})
	if err != nil {
		panic(err)
	}
	defer repo.Close()
	head, err := repo.Sync(context.Background())
	if err != nil {
		panic(err)
	}
	fmt.Println(repo.Holds(context.Background(), head.Commit, told))
	// Output: true <nil>
}

func ExampleTrailers() {
	message := "drop the old bots\n\nBellhop-Allow: prune web1\nSigned-off-by: Cadey"
	fmt.Println(gitsync.Trailers(message, "Bellhop-Allow"))
	// Output: [prune web1]
}
