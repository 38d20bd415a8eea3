package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bellhop/internal/fleet"
	"bellhop/secrets"
)

// Secrets that leave, or get another name: what names them in the config is told, since a comment, a
// pattern or another secret may mean the same words.

func secretRemoveCmd(e *Env) *cobra.Command {
	var f secretFlags
	var force bool
	c := &cobra.Command{
		Use: "rm NAME...", Aliases: []string{"remove"}, Short: "Remove secrets from the repo", Args: cobra.MinimumNArgs(1),
		Long: `Remove the files of secrets, and the public keys beside them. A secret that a service uses is kept,
unless --force is given. Lines of the config that name it are listed. The value stays in git's
history: replace it where it is used.`,
		RunE: func(c *cobra.Command, args []string) error {
			s, err := f.store(e)
			if err != nil {
				return err
			}
			names, err := secretNames(c.Context(), s, args)
			if err != nil {
				return err
			}
			for _, name := range names {
				if err := secretRemove(e, c.Context(), s, name, force); err != nil {
					return err
				}
			}
			return nil
		},
	}
	dirFlag(c, &f.dir)
	c.Flags().BoolVarP(&force, "force", "f", false, "remove secrets that a service uses too")
	c.ValidArgsFunction = completeSecrets
	return c
}

func secretRemove(e *Env, ctx context.Context, s *secrets.Store, name string, force bool) error {
	file, err := secrets.Path(name)
	if err != nil {
		return err
	}
	if uses := usesOf(ctx, s)[file]; len(uses) > 0 && !force {
		return hint(fmt.Errorf("remove %s: %s", file, usedBy(uses)), "take it out of the service first, or: bellhop secret rm --force %s", name)
	}

	gone, err := s.Remove(name)
	for _, one := range gone {
		fmt.Fprintf(e.Stderr, "removed %s\n", one)
	}
	if err != nil {
		return err
	}
	tellMentions(e, s, file, "is gone")
	commit, err := git(s.Dir, "log", "--all", "--max-count=1", "--format=%h", "--", file)
	wasNeverCommitted := err == nil && commit == ""
	if !wasNeverCommitted {
		fmt.Fprintf(e.Stderr, "its value is in git's history: rotate it where it is used\n")
	}
	return nil
}

func secretMoveCmd(e *Env) *cobra.Command {
	var f secretFlags
	c := &cobra.Command{
		Use: "mv NAME NEW-NAME", Aliases: []string{"move"}, Short: "Rename a secret", Args: cobra.ExactArgs(2),
		Long: `Rename a secret, and its public key with it. If another rule of readers: applies to the new name, the
file is encrypted for those readers, which needs your private key. Lines of the config that name
the old file, and services that found it by its name, are listed.`,
		RunE: func(c *cobra.Command, args []string) error {
			s, err := f.store(e)
			if err != nil {
				return err
			}
			return secretMove(e, c.Context(), s, secretName(s.Dir, args[0]), secretName(s.Dir, args[1]))
		},
	}
	f.flags(c)
	c.ValidArgsFunction = completeSecrets
	return c
}

func secretMove(e *Env, ctx context.Context, s *secrets.Store, from, to string) error {
	before := usesOf(ctx, s)
	m, err := s.Move(from, to)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.Stderr, "moved %s to %s\n", m.From, m.To)
	tellMentions(e, s, m.From, "is "+m.To+" now")
	for _, use := range before[m.From] {
		if !slices.ContainsFunc(s.Mentions(m.From), func(place string) bool { return strings.HasPrefix(place, "services/"+use.Service+"/") }) {
			fmt.Fprintf(e.Stderr, "services/%s found it by the name of its key %s: give that key source: %s\n", use.Service, use.Key, m.To)
		}
	}
	if !m.Stale {
		return nil
	}

	k, err := s.Rekey(m.To)
	if err != nil {
		return hint(fmt.Errorf("%s was moved, but not encrypted for the readers of its new rule: %w", m.To, err), "bellhop secret rekey %s, by somebody who can open it", m.To)
	}
	printRekeying(e, k, false)
	return nil
}

// tellMentions names the lines of the config in which a file is still named.
func tellMentions(e *Env, s *secrets.Store, file, what string) {
	for _, place := range s.Mentions(file) {
		fmt.Fprintf(e.Stderr, "%s names %s, which %s\n", place, file, what)
	}
}

// usesOf lists which keys of which services come from each file; empty when the config has problems.
func usesOf(ctx context.Context, s *secrets.Store) map[string][]fleet.KeyFile {
	uses := map[string][]fleet.KeyFile{}
	f, _ := (&fleet.Loader{}).Load(ctx, os.DirFS(s.Dir))
	if f == nil {
		return uses
	}
	for _, k := range f.KeyFiles() {
		uses[k.File] = append(uses[k.File], k)
	}
	return uses
}

// usedBy says which services use a file, and where.
func usedBy(uses []fleet.KeyFile) string {
	var parts []string
	for _, u := range uses {
		part := fmt.Sprintf("service %s uses it as its key %s", u.Service, u.Key)
		if len(u.Hosts) > 0 {
			part += " on " + strings.Join(u.Hosts, ", ")
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "; ")
}

// An itemInUse is a secret with the keys that are made of it.
type itemInUse struct {
	secrets.Item
	UsedBy []useJSON `json:"used_by"`
}

type useJSON struct {
	Service string   `json:"service"`
	Key     string   `json:"key"`
	Hosts   []string `json:"hosts"`
}

func withUses(items []secrets.Item, uses map[string][]fleet.KeyFile) []itemInUse {
	out := []itemInUse{}
	for _, it := range items {
		used := []useJSON{}
		for _, u := range uses[it.File] {
			used = append(used, useJSON{u.Service, u.Key, orEmpty(u.Hosts)})
		}
		out = append(out, itemInUse{it, used})
	}
	return out
}
