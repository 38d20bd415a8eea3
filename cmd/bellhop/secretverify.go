package main

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"bellhop/internal/fleet"
	"bellhop/secrets"
	"bellhop/secrets/agefile"
	"bellhop/secrets/precommit"
)

func secretVerifyCmd(e *Env) *cobra.Command {
	var dir string
	var staged, open, asJSON bool
	var ids identityFlags
	c := &cobra.Command{
		Use: "verify", Short: "Check the secrets and list every problem", Args: cobra.NoArgs,
		Long: `Check the secrets and list every problem: plaintext below secrets/, private keys in files, damaged
files, missing and extra readers. No private key is needed. It exits 1 when a push would be refused,
and 0 when there are only warnings.

--staged checks what git is about to commit, as the pre-commit hook does. --open also tries to
decrypt each file with the identities that you have.`,
		RunE: func(c *cobra.Command, _ []string) error {
			check := secrets.Check{Staged: staged}
			if open {
				var err error
				if check.IDs, err = ids.open(e, e.passphrase); err != nil {
					return err
				}
			}
			return secretVerify(e, c.Context(), dir, check, asJSON)
		},
	}
	dirFlag(c, &dir)
	ids.flags(c)
	c.Flags().BoolVar(&staged, "staged", false, "check what git is about to commit")
	c.Flags().BoolVar(&open, "open", false, "try to decrypt each file too")
	jsonFlag(c, &asJSON)
	return c
}

func secretVerify(e *Env, ctx context.Context, dir string, check secrets.Check, asJSON bool) error {
	dirs, err := verifyDirs(dir, check.Staged)
	if err != nil {
		return err
	}

	var findings []secrets.Finding
	for _, at := range dirs {
		found, err := verifyIn(ctx, at, check)
		if err != nil {
			return err
		}
		findings = append(findings, found...)
	}

	if asJSON {
		err = e.writeJSON(map[string]any{"v": 1, "findings": orEmpty(findings)})
	} else {
		printFindings(e, findings)
	}

	if err == nil && secrets.Refused(findings) {
		return exit(exitError)
	}

	return err
}

// verifyDirs finds the config, or, for a hook that git runs at the top of a larger repo, all
// configs that git knows of.
func verifyDirs(dir string, staged bool) ([]string, error) {
	at, err := configDir(dir)
	if err == nil || dir != "" || !staged {
		return []string{at}, err
	}

	out, gitErr := git(".", "ls-files", "-z", fleetFile, "*/"+fleetFile)
	if gitErr != nil {
		return nil, err
	}

	var dirs []string
	for name := range strings.SplitSeq(out, "\x00") {
		if name != "" {
			dirs = append(dirs, filepath.Dir(name))
		}
	}

	return dirs, nil
}

func verifyIn(ctx context.Context, dir string, check secrets.Check) ([]secrets.Finding, error) {
	tree, _, err := readWorkTree(ctx, dir)
	if err != nil {
		return nil, err
	}

	if check.Staged {
		staged, err := precommit.Staged(dir)
		if err != nil {
			return nil, err
		}

		head, err := precommit.Committed(dir, "HEAD")
		if err != nil {
			return nil, err
		}
		if head != nil {
			check.Old = head
		}

		tree = staged
	}

	readers, err := fleet.ReadReaders(ctx, tree)
	if err != nil {
		return nil, err
	}

	check.Rules, check.Used = asRules(readers), usedSecrets(ctx, tree)
	check.Rules.Past = sync.OnceValue(func() map[agefile.Fingerprint]string { return formerReaders(ctx, dir) })
	return secrets.Verify(ctx, tree, check), nil
}

func printFindings(e *Env, findings []secrets.Finding) {
	p := e.outPaint()
	refuse := 0
	for _, f := range findings {
		word := p.yellow("warning")
		if f.Refuses {
			word = p.red("refused")
			refuse++
		}
		fmt.Fprintf(e.Stdout, "%s: %s\n", word, f)
	}

	switch warn := len(findings) - refuse; {
	case refuse > 0:
		fmt.Fprintf(e.Stdout, "%s, %s\n", p.red(count(refuse, "thing")+" would refuse a push"), count(warn, "warning"))
	case warn > 0:
		fmt.Fprintln(e.Stdout, count(warn, "warning"))
	default:
		fmt.Fprintln(e.Stdout, p.green("ok"), "every secret is encrypted for its readers")
	}
}

// usedSecrets lists the files that services name; nil when the config has problems, so that
// nothing is called unused for a mistake elsewhere.
func usedSecrets(ctx context.Context, tree fs.FS) []string {
	f, err := (&fleet.Loader{}).Load(ctx, tree)
	if err != nil || f == nil {
		return nil
	}
	return secretsInUse(f)
}

// secretsInUse are the secrets that the services of f use. With a NixOS host it is nil, which asks nobody: which
// secrets its configuration names is known when Nix has evaluated it.
func secretsInUse(f *fleet.Fleet) []string {
	if f.HasNixOS() {
		return nil
	}
	return orEmpty(f.Secrets())
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// findingProblems gives findings the form of the config's other problems.
func findingProblems(findings []secrets.Finding) fleet.Problems {
	var ps fleet.Problems
	for _, f := range findings {
		ps = append(ps, &fleet.Problem{File: f.File, Line: f.Line, Message: f.Message, Warning: !f.Refuses})
	}
	return ps
}
