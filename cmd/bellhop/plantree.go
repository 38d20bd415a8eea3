package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"bellhop/internal/plain"
	"bellhop/internal/worktree"
)

// The tree of plan --tree on its way: it is packed here, once, and read by whoever plans.

// fromStdin is the --tree of a plan that another bellhop asks for over ssh: the packed tree comes
// on standard input.
const fromStdin = "-"

// readPlanTree packs the work tree of --tree.
func readPlanTree(e *Env, ctx context.Context, f *deployerFlags, p *planFlags) ([]byte, error) {
	if p.tree == fromStdin {
		b, err := io.ReadAll(io.LimitReader(e.Stdin, worktree.MaxStream+1))
		if err != nil {
			return nil, fmt.Errorf("read the tree from standard input: %w", err)
		}
		return b, nil
	}

	dir := p.tree
	if _, err := os.Stat(filepath.Join(dir, fleetFile)); err != nil && f.path != "." {
		dir = filepath.Join(dir, filepath.FromSlash(f.path))
	}

	dir, err := configDir(dir)
	if err != nil {
		return nil, err
	}

	tree, err := worktree.Read(ctx, dir, configFolders...)
	switch {
	case errors.Is(err, worktree.ErrNoGit) && p.allFiles:
		tree, err = worktree.ReadAll(dir)
	case errors.Is(err, worktree.ErrNoGit):
		return nil, hint(fmt.Errorf("read %s: %w", dir, err), "git init there, or take all files in it: --all-files")
	}

	if err != nil {
		return nil, fmt.Errorf("read %s: %w", dir, err)
	}

	for _, name := range tree.Ignored {
		if !isLitter(name) {
			fmt.Fprintf(e.Stderr, "bellhop: git ignores %s, so it is not in the plan\n", plain.Line(name, 200))
		}
	}

	var wire bytes.Buffer
	if err := tree.Pack(&wire); err != nil {
		return nil, fmt.Errorf("read %s: %w", dir, err)
	}

	return wire.Bytes(), nil
}

// planOverSSH has the plan made on another machine. A tree of this one goes along on standard
// input.
func planOverSSH(e *Env, c *cobra.Command, tree []byte) error {
	if len(tree) == 0 {
		return overSSH(e, c)
	}

	there := *e
	there.Args = withTreeFromStdin(e.Args)
	there.Stdin = bytes.NewReader(tree)
	return overSSH(&there, c)
}

// withTreeFromStdin replaces the --tree of a command line.
func withTreeFromStdin(args []string) []string {
	var out []string
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--":
			return append(append(out, "--tree="+fromStdin), args[i:]...)
		case args[i] == "--tree":
			i++
		case strings.HasPrefix(args[i], "--tree="), strings.HasPrefix(args[i], "--all-files"):
		default:
			out = append(out, args[i])
		}
	}

	return append(out, "--tree="+fromStdin)
}
