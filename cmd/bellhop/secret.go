package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bellhop/internal/fleet"
	"bellhop/secrets"
	"bellhop/secrets/agefile"
)

// The life of a secret in the repo. Plaintext is never an argument and never a file: it
// comes from stdin or an editor in RAM, and goes to a terminal, or where -o says.

// A secretFlags says which config repo's secrets are meant, and who opens them.
type secretFlags struct {
	dir string
	ids identityFlags
}

func (f *secretFlags) flags(c *cobra.Command) {
	dirFlag(c, &f.dir)
	f.ids.flags(c)
}

// store opens the secrets of the config repo; identities are looked for when one is needed.
func (f *secretFlags) store(e *Env) (*secrets.Store, error) {
	dir, err := configDir(f.dir)
	if err != nil {
		return nil, err
	}

	rules, err := rulesOf(dir)
	if err != nil {
		return nil, err
	}

	var ids *agefile.Identities
	return &secrets.Store{Dir: dir, Rules: rules, Plugins: e.plugins(), Identities: func() (*agefile.Identities, error) {
		if ids == nil {
			var err error
			if ids, err = f.ids.open(e, e.passphrase); err != nil {
				return nil, err
			}
		}
		return ids, nil
	}}, nil
}

func secretCmd(e *Env) *cobra.Command {
	return group(groupSecrets, "secret", "Work with the age files below secrets/",
		secretEditCmd(e), secretSetCmd(e), secretGenerateCmd(e), secretShowCmd(e), secretListCmd(e), secretWhoCmd(e), secretVerifyCmd(e), secretRekeyCmd(e), secretRemoveCmd(e), secretMoveCmd(e), secretTextconvCmd(e))
}

// secretName understands a secret as people write it: a path from here, as a shell
// completes it, or the name alone.
func secretName(dir, arg string) string {
	root, err1 := filepath.Abs(dir)
	abs, err2 := filepath.Abs(arg)
	if err1 != nil || err2 != nil {
		return arg
	}
	rel, err := filepath.Rel(root, abs)
	if err == nil && strings.HasPrefix(filepath.ToSlash(rel), secrets.Dir+"/") {
		return filepath.ToSlash(rel)
	}
	return arg
}

// secretNames understands several, and sources as service.yaml has them: secrets/wg/{host}.age is the
// file of each host that uses it.
func secretNames(ctx context.Context, s *secrets.Store, args []string) ([]string, error) {
	var names []string
	for _, arg := range args {
		if !strings.Contains(arg, "{") {
			names = append(names, secretName(s.Dir, arg))
			continue
		}

		files := filesOfSource(ctx, s, arg)
		if len(files) == 0 {
			return nil, hint(fmt.Errorf("no service uses the source %q", arg), "a source is written as service.yaml has it, as in secrets/wg/{host}.age")
		}
		names = append(names, files...)
	}
	return names, nil
}

// filesOfSource lists the files that a source with names in braces means.
func filesOfSource(ctx context.Context, s *secrets.Store, source string) (files []string) {
	full := sourcePath(source)
	for file, uses := range usesOf(ctx, s) {
		if slices.ContainsFunc(uses, func(k fleet.KeyFile) bool { return k.Source == full }) {
			files = append(files, file)
		}
	}
	slices.Sort(files)
	return files
}

func secretSetCmd(e *Env) *cobra.Command {
	var f secretFlags
	var trim, armor bool
	c := &cobra.Command{
		Use: "set NAME < VALUE", Short: "Encrypt a value from stdin as a secret", Args: cobra.ExactArgs(1),
		Long: `Encrypt the value on stdin for the readers that the rules name. A newline at the end is part of the
value, unless --trim removes it. At a terminal bellhop asks for the value and does not show it. No
private key is needed; if you have one, a value that did not change leaves the file as it is.`,
		Example: "  bellhop secret set withinbot.env < withinbot.env\n  openssl rand -hex 32 | bellhop secret set api-token --trim",
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := f.store(e)
			if err != nil {
				return err
			}
			s.Armor = armor
			s.Identities = func() (*agefile.Identities, error) { return f.ids.openQuietly() }
			return secretSet(e, s, args[0], trim)
		},
	}
	f.flags(c)
	c.Flags().BoolVar(&trim, "trim", false, "drop one newline at the end")
	c.Flags().BoolVarP(&armor, "armor", "a", false, "write a new file as text instead of bytes")
	c.ValidArgsFunction = completeSecrets
	return c
}

func secretSet(e *Env, s *secrets.Store, name string, trim bool) error {
	value, err := e.readValue(name)
	if err != nil {
		return err
	}
	defer clear(value)
	w, err := s.Set(secretName(s.Dir, name), value, secrets.SetOptions{TrimNewline: trim})
	if err != nil {
		return err
	}

	e.tellWritten(w)
	if w.Changed && w.EndsInNewline {
		fmt.Fprintln(e.Stderr, "(--trim drops the newline)")
	}

	return nil
}

// readValue reads stdin, or a line typed unseen at a terminal.
func (e *Env) readValue(name string) ([]byte, error) {
	if isTerminal(e.Stdin) {
		return e.askSecret("value of " + name)
	}
	value, err := io.ReadAll(io.LimitReader(e.Stdin, agefile.MaxValue+2))
	if err != nil {
		clear(value)
		return nil, fmt.Errorf("read the value of %s: %w", name, err)
	}
	return value, nil
}

func secretShowCmd(e *Env) *cobra.Command {
	var f secretFlags
	var out string
	c := &cobra.Command{
		Use: "show NAME", Short: "Decrypt a secret and print it to the terminal", Args: cobra.ExactArgs(1),
		Long: `Decrypt a secret and print it, to a terminal only. -o - prints it to a pipe too; -o FILE writes a
new file that only you can read.`,
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := f.store(e)
			if err != nil {
				return err
			}
			return secretShow(e, s, args[0], out)
		},
	}
	f.flags(c)
	c.Flags().StringVarP(&out, "output", "o", "", "write to this new file, or - for stdout, a pipe too")
	c.ValidArgsFunction = completeSecrets
	return c
}

func secretShow(e *Env, s *secrets.Store, name, out string) error {
	if out == "" && !isTerminal(e.Stdout) {
		return hint(errors.New("stdout is not a terminal, and a secret in a pipe often ends in a log"), "bellhop secret show %s -o -", name)
	}

	value, err := s.Show(secretName(s.Dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return hint(err, "bellhop secret list")
	} else if err != nil {
		return err
	}
	defer clear(value)
	if out != "" && out != "-" {
		f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(value)
		return errors.Join(err, f.Close())
	}

	_, err = raw(e.Stdout).Write(value)
	if out == "" && len(value) > 0 && value[len(value)-1] != '\n' {
		fmt.Fprintln(e.Stdout)
	}

	return err
}

func secretRekeyCmd(e *Env) *cobra.Command {
	var f secretFlags
	var check, dry, asJSON bool
	c := &cobra.Command{
		Use: "rekey [NAME...]", Short: "Encrypt secrets again for their current readers",
		Long: `Encrypt again the files whose readers changed, for the readers that the rules name now: all of
these files or none. Values do not change, so no host changes. --dry-run lists what would be done
and changes nothing; --check does the same and exits 1 when a file is stale.`,
		RunE: func(c *cobra.Command, args []string) error {
			s, err := f.store(e)
			if err != nil {
				return err
			}
			names, err := secretNames(c.Context(), s, args)
			if err != nil {
				return err
			}
			return secretRekey(e, s, names, check || dry, check, asJSON)
		},
	}
	f.flags(c)
	c.Flags().BoolVar(&dry, "dry-run", false, "change nothing; list stale files")
	c.Flags().BoolVar(&check, "check", false, "change nothing; exit 1 when a file is stale")
	jsonFlag(c, &asJSON)
	c.ValidArgsFunction = completeSecrets
	return c
}

func secretRekey(e *Env, s *secrets.Store, names []string, look, check, asJSON bool) error {
	do := s.Rekey
	if look {
		do = s.Stale
	}

	k, err := do(names...)
	if err != nil {
		return err
	}

	if asJSON {
		err = e.writeJSON(struct {
			V int `json:"v"`
			*secrets.Rekeying
		}{1, k})
	} else {
		printRekeying(e, k, look)
	}

	if err == nil && check && len(k.Files) > 0 {
		return exit(exitError)
	}

	return err
}

func printRekeying(e *Env, k *secrets.Rekeying, look bool) {
	p := e.outPaint()
	for _, it := range k.Files {
		word, why := "sealed", ""
		if look {
			word = string(it.State) // stale, or unknown
			if it.State == secrets.StateUnknown {
				why = ", who can open it: it was not sealed by bellhop"
			}
		}
		fmt.Fprintf(e.Stdout, "%s %s for %s%s\n", p.yellow(word), it.File, strings.Join(it.Wanted, ", "), why)
	}

	if len(k.Files) == 0 {
		fmt.Fprintf(e.Stdout, "nothing to do: %s encrypted for their current readers\n", areAll(k.Current, "secret"))
	}
	for _, file := range k.Rotate {
		fmt.Fprintf(e.Stdout, "%s the value of %s: a former reader could read it\n", p.red("rotate"), file)
	}
}

func areAll(n int, noun string) string {
	if n == 1 {
		return "the one " + noun + " is"
	}
	return fmt.Sprintf("all %d %ss are", n, noun)
}

// completeSecrets offers the secrets of the repo to a shell.
func completeSecrets(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	dir, _ := c.Flags().GetString("dir")
	at, err := configDir(dir)
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}

	var names []string
	_ = fs.WalkDir(os.DirFS(at), secrets.Dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(p, ".age") {
			names = append(names, strings.TrimSuffix(strings.TrimPrefix(p, secrets.Dir+"/"), ".age"))
		}
		return nil
	})
	return names, cobra.ShellCompDirectiveNoFileComp
}
