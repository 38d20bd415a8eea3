package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"bellhop/secrets/precommit"
)

func hookCmd(e *Env) *cobra.Command {
	var dir string
	install := &cobra.Command{
		Use: "install", Short: "Install git's pre-commit hook, and git diff for secrets", Args: cobra.NoArgs,
		Long: `Install git's pre-commit hook, which runs bellhop secret verify --staged and bellhop check, and
configure git diff to show decrypted secrets to those who can decrypt them. A hook of another program
is left as it is. If git takes the hooks of all your repositories from one folder (core.hooksPath),
bellhop asks whether this repository may have its own hooks.`,
		RunE: func(*cobra.Command, []string) error {
			at, err := configDir(dir)
			if err != nil {
				return err
			}
			return installHook(e, at)
		},
	}
	dirFlag(install, &dir)
	return group(groupRepo, "hook", "Install git hooks, and make the GitHub App", install, githubAppCmd(e))
}

// installHook puts the hook where git looks for it, and sets how *.age files are shown.
func installHook(e *Env, dir string) error {
	if _, err := git(dir, "rev-parse", "--git-dir"); err != nil {
		return noRepo(err)
	}

	hook, err := precommit.Install(dir)
	if errors.Is(err, precommit.ErrSharedHooks) {
		hook, err = installOwnHook(e, dir, filepath.Dir(hook.Path))
	}

	switch {
	case errors.Is(err, precommit.ErrOtherHook):
		return hint(fmt.Errorf("install %s: %w, and stays as it is", hook.Path, err), "%s", lineFor(dir, hook.Path))
	case err != nil:
		return err
	}

	if _, err := git(dir, "config", "diff.bellhop.textconv", "bellhop secret textconv"); err != nil {
		return err
	}

	e.wrote("git's pre-commit hook", hook.Fresh)
	return nil
}

// installOwnHook asks whether this repository may have hooks of its own, beside those of all others.
func installOwnHook(e *Env, dir, shared string) (precommit.Hook, error) {
	question := fmt.Sprintf("git takes the hooks of all your repositories from %s (core.hooksPath).\nShall this repository have hooks of its own? Those in %s do not run here then. [y/N] ", shared, shared)
	yes, err := e.confirm(question)
	if err == nil && !yes {
		err = precommit.ErrSharedHooks
	}
	if err != nil {
		return precommit.Hook{}, hint(precommit.ErrSharedHooks,
			"git config --local core.hooksPath \"$(git rev-parse --path-format=absolute --git-common-dir)/hooks\" && bellhop hook install; or add to %s/pre-commit: %s", shared, hookCall)
	}

	if _, err := precommit.OwnHooks(dir); err != nil {
		return precommit.Hook{}, err
	}

	return precommit.Install(dir)
}

// hookCall is what another's hook runs.
const hookCall = "bellhop secret verify --staged && bellhop check || exit 1"

// lineFor says where the call of bellhop goes, beside hooks of well-known makers.
func lineFor(dir, path string) string {
	text, _ := os.ReadFile(path)
	isHusky := filepath.Base(filepath.Dir(path)) == "_" && filepath.Base(filepath.Dir(filepath.Dir(path))) == ".husky"
	switch {
	case isHusky:
		return "add this line to .husky/pre-commit: " + hookCall
	case strings.Contains(string(text), "pre-commit.com"):
		return "add to .pre-commit-config.yaml: - {repo: local, hooks: [{id: bellhop, name: bellhop, language: system, pass_filenames: false, entry: sh -c '" + hookCall + "'}]}"
	}
	return "add this line to it: " + hookCall
}

// confirm asks a person at a terminal; without one it is errNoTerminal.
func (e *Env) confirm(question string) (bool, error) {
	if !isTerminal(e.Stdin) || !isTerminal(e.Stdout) {
		return false, errNoTerminal
	}
	fmt.Fprint(e.Stdout, question)
	line, err := bufio.NewReader(e.Stdin).ReadString('\n')
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes", err
}
