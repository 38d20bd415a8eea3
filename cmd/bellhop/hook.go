package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"bellhop/secrets"
)

func (e *Env) hookCmd() *cobra.Command {
	var dir string
	install := &cobra.Command{
		Use: "install", Short: "Install git's pre-commit hook and the readable diff of secrets", Args: cobra.NoArgs,
		Long: `Install git's pre-commit hook, which runs bellhop secret verify --staged, and tell git to
show sealed files opened in git diff (to those who can open them). A hook of someone else is
left as it is.`,
		RunE: func(*cobra.Command, []string) error {
			at, err := configDir(dir)
			if err != nil {
				return err
			}
			return e.installHook(at)
		},
	}
	dirFlag(install, &dir)
	return group(groupRepo, "hook", "Git hooks", install)
}

// installHook puts the hook where git looks for it, and sets how *.age files are shown.
func (e *Env) installHook(dir string) error {
	if _, err := git(dir, "rev-parse", "--git-dir"); err != nil {
		return noRepo(err)
	}
	path, err := secrets.InstallHook(dir)
	if errors.Is(err, secrets.ErrHookStands) {
		return hint(fmt.Errorf("install %s: another hook stands there", path), "add this line to it: bellhop secret verify --staged || exit 1")
	} else if err != nil {
		return err
	}
	if _, err := git(dir, "config", "diff.bellhop.textconv", "bellhop secret textconv"); err != nil {
		return err
	}
	e.wrote("git's pre-commit hook", true)
	return nil
}
