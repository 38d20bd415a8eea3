package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"bellhop/internal/fleet"
	"bellhop/secrets"
)

// Which secrets there are, and who reads them.

func secretListCmd(e *Env) *cobra.Command {
	var f secretFlags
	var asJSON bool
	c := &cobra.Command{
		Use: "list", Short: "List the secrets of the repo, and whether each is encrypted for its readers", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := f.store(e)
			if err != nil {
				return err
			}

			items, err := s.List()
			if err != nil {
				return err
			}
			if asJSON {
				return e.writeJSON(map[string]any{"v": 1, "secrets": orEmpty(items)})
			}

			printSecrets(e, items)
			return nil
		},
	}
	dirFlag(c, &f.dir)
	jsonFlag(c, &asJSON)
	return c
}

func printSecrets(e *Env, items []secrets.Item) {
	p := e.outPaint()
	var t table
	t.painted(func(_ int, c string) string { return p.dim(c) }, "SECRET", "STATE", "READERS")
	for _, it := range items {
		t.painted(func(col int, c string) string {
			if col == 1 {
				return secretPaint(p, it.State, c)
			}
			return c
		}, it.File, string(it.State), readersText(it))
	}

	if len(items) == 0 {
		fmt.Fprintln(e.Stdout, "no secret yet")
		return
	}

	t.write(e.Stdout)
}

func secretPaint(p paint, s secrets.State, word string) string {
	switch s {
	case secrets.StateCurrent:
		return p.green(word)
	case secrets.StateStale, secrets.StateUnknown:
		return p.yellow(word)
	}
	return p.red(word)
}

func readersText(it secrets.Item) string {
	switch {
	case it.Problem != "":
		return it.Problem
	case len(it.Readers) == 0:
		return fmt.Sprintf("%s, sealed elsewhere (%s)", count(it.Stanzas, "reader"), strings.Join(it.Types, ", "))
	}

	text := strings.Join(it.Readers, ", ")
	if len(it.Missing) > 0 {
		text += "; not yet " + strings.Join(it.Missing, ", ")
	}
	if len(it.Extra) > 0 {
		text += "; no longer meant for " + strings.Join(it.Extra, ", ")
	}
	return text
}

func secretWhoCmd(e *Env) *cobra.Command {
	var f secretFlags
	var asJSON bool
	var reader string
	c := &cobra.Command{
		Use: "who [NAME...]", Short: "Show who can decrypt each secret, and who should",
		Long: `Show who can decrypt each secret, by its file, and who should, by the rules. No private key is
needed: files that bellhop encrypts list their readers in the authenticated header. --reader NAME
lists what one reader can decrypt.`,
		RunE: func(c *cobra.Command, args []string) error {
			s, err := f.store(e)
			if err != nil {
				return err
			}

			items, err := whoItems(c.Context(), s, args, reader)
			if err != nil {
				return err
			}

			uses := usesOf(c.Context(), s)
			if asJSON {
				return e.writeJSON(map[string]any{"v": 1, "secrets": withUses(items, uses)})
			}

			printWho(e, items, uses)
			return nil
		},
	}
	dirFlag(c, &f.dir)
	jsonFlag(c, &asJSON)
	c.Flags().StringVar(&reader, "reader", "", "list what this reader can decrypt")
	c.ValidArgsFunction = completeSecrets
	return c
}

func whoItems(ctx context.Context, s *secrets.Store, args []string, reader string) (items []secrets.Item, err error) {
	if len(args) == 0 {
		items, err = s.List()
	}

	names, nerr := secretNames(ctx, s, args)
	if nerr != nil {
		return nil, nerr
	}

	for _, n := range names {
		it, err := s.Who(n)
		if err != nil {
			return nil, err
		}
		items = append(items, *it)
	}

	if reader != "" {
		items = secrets.ReadableBy(items, reader)
	}

	return items, err
}

func printWho(e *Env, items []secrets.Item, uses map[string][]fleet.KeyFile) {
	p := e.outPaint()
	for _, it := range items {
		fmt.Fprintf(e.Stdout, "%s  %s\n", p.bold(it.File), secretPaint(p, it.State, string(it.State)))
		fmt.Fprintf(e.Stdout, "  can read:    %s\n", readersText(secrets.Item{Readers: it.Readers, Stanzas: it.Stanzas, Types: it.Types, Problem: it.Problem}))
		rule := it.Rule
		if rule == "" {
			rule = "no rule: everybody"
		}

		fmt.Fprintf(e.Stdout, "  should read: %s  %s\n", strings.Join(it.Wanted, ", "), p.dim("("+rule+")"))
		if len(uses[it.File]) > 0 {
			fmt.Fprintf(e.Stdout, "  used:        %s\n", usedBy(uses[it.File]))
		}
	}
	if len(items) == 0 {
		fmt.Fprintln(e.Stdout, "no secret")
	}
}
