package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"bellhop/internal/fleet"
	"bellhop/internal/worktree"
)

// configFolders are those whose files a deploy reads.
var configFolders = []string{fleetFile, "services", "secrets", "hosts", "shared"}

// readWorkTree is the config in a folder as git would commit it, and a problem for each file in
// it that git ignores: it looks as if it were deployed, and is not. Outside of a git work tree it
// is the folder as it is.
func readWorkTree(ctx context.Context, dir string) (fs.FS, fleet.Problems, error) {
	tree, err := worktree.Read(ctx, dir, configFolders...)
	if errors.Is(err, worktree.ErrNoGit) {
		return os.DirFS(dir), nil, nil
	}

	if err != nil {
		return nil, nil, fmt.Errorf("read the config: %w", err)
	}

	var problems fleet.Problems
	for _, name := range tree.Ignored {
		if isLitter(name) {
			continue
		}
		problems = append(problems, &fleet.Problem{File: name,
			Message: "git ignores it, so no deploy ever sees it: git add -f it, or remove it (git check-ignore -v shows the rule)"})
	}

	return tree, problems, nil
}

// litter is what programs leave in a folder: nobody expects it to be deployed.
var litter = []string{"__pycache__", "node_modules", "venv", ".venv", ".DS_Store", ".idea", ".vscode", ".directory", ".git", "Thumbs.db",
	"*~", "*.sw[a-p]", "*.pyc", "#*#", ".#*", ".nfs*", "*.tmp"}

// isLitter says whether an ignored file is of that kind, or a dotfile where bellhop reads none.
func isLitter(name string) bool {
	parts := strings.Split(strings.TrimSuffix(name, "/"), "/")
	for i, part := range parts {
		inFiles := i > 2 && parts[0] == "services" && parts[2] == "files"
		if strings.HasPrefix(part, ".") && !inFiles {
			return true
		}
		for _, pattern := range litter {
			if ok, err := path.Match(pattern, part); ok && err == nil {
				return true
			}
		}
	}

	return false
}
