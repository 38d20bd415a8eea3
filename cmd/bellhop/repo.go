package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bellhop/internal/child"
	"bellhop/internal/durable"
	"bellhop/internal/owner"
	"bellhop/internal/plain"
	"bellhop/secrets"
)

// The config repo as a person has it on disk.

const fleetFile = "bellhop.yaml"

// configDir finds the config: dir if given, else the nearest folder at or above the current
// one that holds bellhop.yaml. The search ends at the top of the git work tree. A config that
// another user wrote or can write to is refused: its readers could open what is sealed for
// them, and its hosts are where commands go.
func configDir(dir string) (string, error) {
	found := dir
	if dir == "" {
		var err error
		if found, err = searchConfig(); err != nil {
			return "", err
		}
	} else if _, err := os.Stat(filepath.Join(dir, fleetFile)); err != nil {
		if other := otherSpelling(dir); other != "" {
			return "", hint(fmt.Errorf("%s is not read: this file is called %s", other, fleetFile), "mv %s %s", other, filepath.Join(dir, fleetFile))
		}
		return "", hint(fmt.Errorf("read the config: %w", err), "name the folder that holds %s; bellhop init starts one", fleetFile)
	}
	return found, checkOwners(found)
}

// searchConfig looks for bellhop.yaml in the current folder and above.
func searchConfig() (string, error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", err
	}

	misnamed := ""
	for at := wd; ; at = filepath.Dir(at) {
		if _, err := os.Lstat(filepath.Join(at, fleetFile)); err == nil {
			if at == wd {
				return ".", nil
			}
			return at, nil
		}

		if other := otherSpelling(at); misnamed == "" {
			misnamed = other
		}

		_, err := os.Lstat(filepath.Join(at, ".git")) // a folder, or the file of a linked work tree
		isTop := err == nil || at == filepath.Dir(at)
		if isTop && misnamed != "" {
			return "", hint(fmt.Errorf("%s is not read: this file is called %s", misnamed, fleetFile), "mv %s %s", misnamed, filepath.Join(filepath.Dir(misnamed), fleetFile))
		}
		if isTop {
			return "", hint(fmt.Errorf("no %s here or above, up to %s", fleetFile, at), "cd to the config repo, or start one with: bellhop init")
		}
	}
}

// otherSpelling is a file of dir that is meant as bellhop.yaml; "" is none.
func otherSpelling(dir string) string {
	for _, name := range []string{"bellhop.yml", "Bellhop.yaml", "Bellhop.yml"} {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); err == nil {
			return path
		}
	}
	return ""
}

// checkOwners refuses a config of which another user could have written a part that decides who
// reads a secret or where a command goes.
func checkOwners(dir string) error {
	err := checkParts(dir)
	if !owner.IsUntrusted(err) {
		return err
	}
	if isSafeDirectory(dir) {
		return nil
	}

	abs, absErr := filepath.Abs(dir)
	if absErr != nil {
		abs = dir
	}

	return hint(fmt.Errorf("read the config: %w", err),
		"whoever wrote it could read your secrets. If you trust it, say so as to git: git config --global --add safe.directory %s", shellQuote(abs))
}

// checkParts looks at the folder, bellhop.yaml, hosts/ with its files, and the folders of secrets/.
func checkParts(dir string) error {
	for _, name := range []string{".", fleetFile} {
		if err := owner.Check(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	for _, top := range []string{"hosts", secrets.Dir} {
		err := filepath.WalkDir(filepath.Join(dir, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() || top == "hosts" {
				return owner.Check(path)
			}
			return nil // a sealed file says itself who reads it
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// isSafeDirectory says whether the person told git that they trust a folder: in the system's or
// their own configuration, never in that of a repository.
func isSafeDirectory(dir string) bool {
	top, err := filepath.Abs(dir)
	if err != nil {
		return false
	}
	var safe []string
	for _, scope := range []string{"--system", "--global"} {
		if out, err := git("/", "config", scope, "--get-all", "safe.directory"); err == nil {
			safe = append(safe, strings.Split(out, "\n")...)
		}
	}

	for ; ; top = filepath.Dir(top) { // the config may be in a folder of the repository
		if slices.Contains(safe, top) || slices.Contains(safe, "*") {
			return true
		}
		if top == filepath.Dir(top) {
			return false
		}
	}
}

// dirFlag lets a verb work on a config that is not here.
func dirFlag(c *cobra.Command, dir *string) {
	c.Flags().StringVarP(dir, "dir", "C", "", "folder of the config repo (default: the current one or above)")
	_ = c.MarkFlagDirname("dir")
}

// git runs the user's git in dir and returns what it said, less the last newline.
func git(dir string, args ...string) (string, error) {
	cmd := child.Git(context.Background(), dir, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, plain.Line(strings.TrimSpace(errs.String()), 0))
	}
	return strings.TrimSuffix(string(out), "\n"), nil
}

// noRepo tells why git does not work in a folder.
func noRepo(err error) error {
	if strings.Contains(err.Error(), "not a git repository") {
		return hint(errors.New("this folder is not in a git repository"), "git init && bellhop hook install")
	}
	return err
}

// replaceFile swaps the content of a file that is there, and keeps its mode.
func replaceFile(path string, content []byte) error {
	path, err := filepath.EvalSymlinks(path) // a link stays one
	if err != nil {
		return err
	}
	return durable.Write(path, content, 0o644)
}
