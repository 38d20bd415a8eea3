package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

func (e *Env) hookCmd() *cobra.Command {
	var dir string
	var force bool
	install := &cobra.Command{
		Use: "install", Short: "Install git's pre-commit hook and the readable diff of secrets", Args: cobra.NoArgs,
		Long: `Install git's pre-commit hook, which runs bellhop secret verify --staged, and tell git to
show sealed files opened in git diff (to those who can open them).`,
		RunE: func(*cobra.Command, []string) error {
			at, err := configDir(dir)
			if err != nil {
				return err
			}
			return e.installHook(at, force)
		},
	}
	dirFlag(install, &dir)
	install.Flags().BoolVar(&force, "force", false, "replace a hook that is not bellhop's")
	return group(groupRepo, "hook", "Git hooks", install)
}

const hookMark = "# Written by bellhop hook install."

// installHook writes the hook where git looks for it, and sets how *.age files are shown.
func (e *Env) installHook(dir string, force bool) error {
	hooks, err := git(dir, "rev-parse", "--git-path", "hooks")
	if err != nil {
		return hint(errors.New("this folder is not in a git repository"), "git init && bellhop hook install")
	}
	if !filepath.IsAbs(hooks) {
		hooks = filepath.Join(dir, hooks)
	}
	prefix, err := git(dir, "rev-parse", "--show-prefix")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(hooks, 0o755); err != nil {
		return err
	}
	path := filepath.Join(hooks, "pre-commit")
	if old, err := os.ReadFile(path); err == nil && !strings.Contains(string(old), hookMark) && !force {
		return hint(fmt.Errorf("write %s: another hook stands there", path),
			"add this line to it: bellhop secret verify --staged   (or: bellhop hook install --force)")
	}
	if err := os.WriteFile(path, []byte(hookText(prefix)), 0o755); err != nil {
		return err
	}
	if err := os.Chmod(path, 0o755); err != nil {
		return err
	}
	if _, err := git(dir, "config", "diff.bellhop.textconv", "bellhop secret textconv"); err != nil {
		return err
	}
	e.wrote("git's pre-commit hook", true)
	return nil
}

func hookText(prefix string) string {
	at := ""
	if prefix != "" {
		at = " --dir '" + strings.ReplaceAll(strings.TrimSuffix(prefix, "/"), "'", `'\''`) + "'"
	}
	return `#!/bin/sh
` + hookMark + ` What it refuses must not get into git's history.
if ! command -v bellhop >/dev/null; then
	echo 'pre-commit: bellhop is not on PATH, so nobody looked for plaintext secrets (git commit --no-verify goes on without)' >&2
	exit 1
fi
exec bellhop secret verify --staged` + at + `
`
}
