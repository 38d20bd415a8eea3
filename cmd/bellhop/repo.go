package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// The config repo as a person has it on disk.

const fleetFile = "bellhop.yaml"

// configDir finds the config: dir if given, else the nearest folder at or above the current
// one that holds bellhop.yaml.
func configDir(dir string) (string, error) {
	if dir != "" {
		if _, err := os.Stat(filepath.Join(dir, fleetFile)); err != nil {
			return "", hint(fmt.Errorf("read the config: %w", err), "name the folder that holds %s; bellhop init starts one", fleetFile)
		}
		return dir, nil
	}
	wd, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for at := wd; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, fleetFile)); err == nil {
			if at == wd {
				return ".", nil
			}
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", hint(fmt.Errorf("no %s here or above", fleetFile), "cd to the config repo, or start one with: bellhop init")
		}
	}
}

// dirFlag lets a verb work on a config that is not here.
func dirFlag(c *cobra.Command, dir *string) {
	c.Flags().StringVarP(dir, "dir", "C", "", "the config repo's folder (default: here or above)")
	_ = c.MarkFlagDirname("dir")
}

// git runs the user's git in dir and returns what it said, less the last newline.
func git(dir string, args ...string) (string, error) {
	cmd := exec.Command("git", append([]string{"-C", dir}, args...)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	cmd.Env = append(os.Environ(), "LC_ALL=C") // its words are looked at
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(errs.String()))
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

// writeNew writes a file unless one stands there.
func writeNew(path, content string, mode fs.FileMode) (bool, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if _, err := f.WriteString(content); err != nil {
		f.Close()
		return false, err
	}
	return true, f.Close()
}

// replaceFile swaps a file's content by rename, keeping its mode.
func replaceFile(path string, content []byte) error {
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".bellhop-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := f.Chmod(fi.Mode().Perm()); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
