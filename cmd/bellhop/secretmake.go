package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"bellhop/secrets"
	"bellhop/secrets/edit"
)

// New values: typed into an editor, or made at random and seen by nobody.

func secretEditCmd(e *Env) *cobra.Command {
	var f secretFlags
	var armor bool
	var editor string
	c := &cobra.Command{
		Use: "edit NAME", Short: "Edit a secret in your editor", Args: cobra.ExactArgs(1),
		Long: `Edit a secret, an existing or a new one, in --editor, $VISUAL or $EDITOR, and encrypt the result. The
plaintext is kept in RAM only, and removed when the editor ends, also when it is killed. A value
that did not change leaves the file as it is.`,
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := f.store(e)
			if err != nil {
				return err
			}

			s.Armor = armor
			w, err := s.Edit(secretName(s.Dir, args[0]), edit.Editor{Command: editor, Stdin: e.Stdin, Stdout: direct(e.Stdout), Stderr: direct(e.Stderr)})
			if err != nil {
				return err
			}

			e.tellWritten(w)
			return nil
		},
	}
	f.flags(c)
	c.Flags().BoolVarP(&armor, "armor", "a", false, "write a new file as text instead of bytes")
	c.Flags().StringVar(&editor, "editor", "", "the editor's command line")
	c.ValidArgsFunction = completeSecrets
	return c
}

func secretGenerateCmd(e *Env) *cobra.Command {
	var f secretFlags
	var opt secrets.GenerateOptions
	c := &cobra.Command{
		Use: "generate NAME", Short: "Make a random secret", Args: cobra.ExactArgs(1),
		Long: `Make a random value and encrypt it; it is not printed. The public key of an ssh or wireguard pair is
written beside the secret, as NAME.pub.`,
		Example: "  bellhop secret generate db --kind password\n  bellhop secret generate wg0 --kind wireguard",
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := f.store(e)
			if err != nil {
				return err
			}

			w, err := s.Generate(secretName(s.Dir, args[0]), opt)
			if err != nil {
				return err
			}

			e.tellWritten(w)
			return nil
		},
	}
	dirFlag(c, &f.dir)
	c.Flags().StringVarP(&opt.Kind, "kind", "k", "password", strings.Join(secrets.Kinds, ", "))
	c.Flags().IntVar(&opt.Length, "length", 0, "characters of a password, bytes of hex and base64 (default 32)")
	c.Flags().StringVar(&opt.Comment, "comment", "", "comment of an SSH key (default: the secret's name)")
	c.Flags().BoolVar(&opt.Newline, "newline", false, "end the value with a newline")
	c.Flags().BoolVarP(&opt.Force, "force", "f", false, "replace a secret that exists")
	_ = c.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(secrets.Kinds, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// tellWritten says on stderr what became of a file.
func (e *Env) tellWritten(w *secrets.Written) {
	if !w.Changed {
		fmt.Fprintf(e.Stderr, "%s: the value did not change, and neither did the file\n", w.File)
		return
	}

	note := ""
	switch {
	case w.TrimmedNewline:
		note = "; dropped the newline at its end"
	case w.EndsInNewline:
		note = "; it ends in a newline"
	}

	if w.Public != "" {
		note += "; public half in " + w.Public
	}
	fmt.Fprintf(e.Stderr, "sealed %s for %s%s\n", w.File, strings.Join(w.Readers, ", "), note)
}
