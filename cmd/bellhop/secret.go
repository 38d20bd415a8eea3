package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"bellhop/secrets"
)

// The life of a secret in the repo. Plaintext is never an argument and never a file: it
// comes from stdin or an editor in RAM, and goes to a terminal, or where -o says.

func (e *Env) secretCmd() *cobra.Command {
	return group(groupSecrets, "secret", "The age files below secrets/",
		e.secretSetCmd(), e.secretShowCmd(), e.secretVerifyCmd(), e.secretTextconvCmd())
}

// A secretAt is a secret in a config repo on disk.
type secretAt struct {
	dir  string // config repo
	name string // secrets/withinbot.env.age
}

func (s secretAt) path() string { return filepath.Join(s.dir, filepath.FromSlash(s.name)) }

// findSecret understands a secret as people write it: a path from here, a path in the repo,
// or the name alone.
func findSecret(dir, arg string) (secretAt, error) {
	at, err := configDir(dir)
	if err != nil {
		return secretAt{}, err
	}
	name := filepath.ToSlash(arg)
	if root, err := filepath.Abs(at); err == nil {
		if abs, err := filepath.Abs(arg); err == nil {
			if rel, err := filepath.Rel(root, abs); err == nil && strings.HasPrefix(filepath.ToSlash(rel), secrets.Dir+"/") {
				name = filepath.ToSlash(rel)
			}
		}
	}
	if !strings.HasPrefix(name, secrets.Dir+"/") {
		name = secrets.Dir + "/" + name
	}
	if !strings.HasSuffix(name, ".age") {
		name += ".age"
	}
	if path.Clean(name) != name || !fs.ValidPath(name) || name == secrets.Dir+"/.age" {
		return secretAt{}, fmt.Errorf("%s: not a path below %s/", arg, secrets.Dir)
	}
	return secretAt{at, name}, nil
}

func (e *Env) secretSetCmd() *cobra.Command {
	var dir string
	var trim, armor bool
	c := &cobra.Command{
		Use: "set NAME < VALUE", Short: "Seal what stands on stdin", Args: cobra.ExactArgs(1),
		Long: `Seal what stands on stdin for the readers that the rules name. Every byte counts: a newline
at the end is part of the value, unless --trim drops one.`,
		Example: "  bellhop secret set withinbot.env < withinbot.env\n  openssl rand -hex 32 | bellhop secret set api-token --trim",
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := findSecret(dir, args[0])
			if err != nil {
				return err
			}
			return e.secretSet(s, trim, armor)
		},
	}
	dirFlag(c, &dir)
	c.Flags().BoolVar(&trim, "trim", false, "drop one newline at the end")
	c.Flags().BoolVarP(&armor, "armor", "a", false, "write text instead of bytes")
	c.ValidArgsFunction = completeSecrets
	return c
}

func (e *Env) secretSet(s secretAt, trim, armor bool) error {
	rules, err := rulesOf(s.dir)
	if err != nil {
		return err
	}
	value, err := e.readValue(s.name)
	if err != nil {
		return err
	}
	defer clear(value)
	newline := len(value) > 0 && value[len(value)-1] == '\n'
	if newline && trim {
		value = value[:len(value)-1]
	}
	if len(value) == 0 {
		return fmt.Errorf("set %s: the value is empty", s.name)
	}
	who, err := seal(s, rules, value, armor)
	if err != nil {
		return err
	}
	note := ""
	if newline && !trim {
		note = "; the newline at its end is part of it (--trim drops it)"
	}
	fmt.Fprintf(e.Stderr, "sealed %s for %s%s\n", s.name, strings.Join(who, ", "), note)
	return nil
}

// readValue reads stdin, or a line typed unseen at a terminal.
func (e *Env) readValue(name string) ([]byte, error) {
	if isTerminal(e.Stdin) {
		return e.askSecret("value of " + name)
	}
	value, err := io.ReadAll(io.LimitReader(e.Stdin, secrets.MaxValue+1))
	if err != nil {
		clear(value)
		return nil, fmt.Errorf("read the value of %s: %w", name, err)
	}
	return value, nil
}

// seal writes a value for the readers of its rule, by rename, and says who they are.
func seal(s secretAt, rules secrets.Rules, value []byte, armor bool) ([]string, error) {
	readers, err := rules.Readers(s.name)
	if err != nil {
		return nil, err
	}
	var to []secrets.Recipient
	var names []string
	for _, r := range readers {
		to = append(to, r.Recipient)
		names = append(names, r.Name)
	}
	sealed, err := secrets.Seal(value, to, secrets.SealOptions{Armor: armor, Plugins: secrets.Plugins{Path: true}})
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", s.name, err)
	}
	return names, writeSealed(s.path(), sealed)
}

// writeSealed puts a sealed file into its place whole.
func writeSealed(path string, sealed []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if _, err := writeNew(path, "", 0o644); err != nil {
		return err
	}
	return replaceFile(path, sealed)
}

func (e *Env) secretShowCmd() *cobra.Command {
	var dir, out string
	var ids identityFlags
	c := &cobra.Command{
		Use: "show NAME", Short: "Open a secret and print it to the terminal", Args: cobra.ExactArgs(1),
		Long: `Open a secret and print it. It goes to a terminal alone; -o - sends it into a pipe, and
-o FILE into a new file that only you can read.`,
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := findSecret(dir, args[0])
			if err != nil {
				return err
			}
			return e.secretShow(s, &ids, out)
		},
	}
	dirFlag(c, &dir)
	ids.flags(c)
	c.Flags().StringVarP(&out, "output", "o", "", "a new file, or - for stdout whatever it is")
	c.ValidArgsFunction = completeSecrets
	return c
}

func (e *Env) secretShow(s secretAt, flags *identityFlags, out string) error {
	if out == "" && !isTerminal(e.Stdout) {
		return hint(errors.New("stdout is not a terminal, and a secret in a pipe often ends in a log"), "bellhop secret show %s -o -", s.name)
	}
	value, err := e.openSecret(s, flags)
	if err != nil {
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
	_, err = e.Stdout.Write(value)
	if out == "" && len(value) > 0 && value[len(value)-1] != '\n' {
		fmt.Fprintln(e.Stdout)
	}
	return err
}

// openSecret opens one secret of the repo on disk; a failure says what the rules know.
func (e *Env) openSecret(s secretAt, flags *identityFlags) ([]byte, error) {
	sealed, err := os.ReadFile(s.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, hint(fmt.Errorf("open %s: no such secret", s.name), "bellhop secret list")
	} else if err != nil {
		return nil, err
	}
	ids, err := flags.open(e, e.passphrase)
	if err != nil {
		return nil, err
	}
	value, err := ids.Open(s.name, sealed)
	if err != nil {
		if rules, rerr := rulesOf(s.dir); rerr == nil {
			err = rules.Explain(err)
		}
		return nil, err
	}
	return value, nil
}

// textconv is called by git diff, with the path of a blob that git put into a temporary file.
// One that does not open is shown as itself, so that a diff never fails.
func (e *Env) secretTextconvCmd() *cobra.Command {
	var ids identityFlags
	c := &cobra.Command{
		Use: "textconv FILE", Short: "Print a sealed file for git diff", Args: cobra.ExactArgs(1),
		Long: `Print a sealed file opened, as git diff wants it (bellhop hook install sets that up). What
does not open is told in one line: a diff never fails, and nobody is asked for a passphrase.`,
		RunE: func(_ *cobra.Command, args []string) error {
			sealed, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			list, err := ids.open(e, func(string) ([]byte, error) { return nil, errors.New("nobody is asked during a diff") })
			if err == nil {
				var value []byte
				if value, err = list.Open(filepath.Base(args[0]), sealed); err == nil {
					defer clear(value)
					_, err = e.Stdout.Write(value)
					return err
				}
			}
			fmt.Fprintf(e.Stdout, "(sealed, %d bytes: not opened here)\n", len(sealed))
			return nil
		},
	}
	ids.flags(c)
	return c
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
