package main

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"bellhop/secrets"
	"bellhop/secrets/agefile"
)

// secretTextconvCmd is called by git diff, with a blob that git put into a temporary file.
func secretTextconvCmd(e *Env) *cobra.Command {
	var ids identityFlags
	c := &cobra.Command{
		Use: "textconv FILE", Short: "Print a decrypted secret for git diff", Args: cobra.ExactArgs(1),
		Long: `Print a decrypted file for git diff (bellhop hook install sets that up). For a file that can't be
decrypted it prints one line that says so: a diff never fails, and never asks for a passphrase.`,
		RunE: func(_ *cobra.Command, args []string) error {
			sealed, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}

			list, err := ids.open(e, func(string) ([]byte, error) { return nil, errors.New("nobody is asked during a diff") })
			if err != nil {
				list = &agefile.Identities{}
			}

			var rules secrets.Rules
			if dir, err := configDir(""); err == nil {
				rules, _ = rulesOf(dir) // names are nicer, and a diff goes on without
			}

			return secrets.Textconv(raw(e.Stdout), filepath.Base(args[0]), sealed, list, rules)
		},
	}
	ids.flags(c)
	return c
}
