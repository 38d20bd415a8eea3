package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
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
		Long: `Rename a secret, and its public key with it; with a source as service.yaml has it (wg/{host} to
vpn/{host}) the file of each host. If another rule of readers: applies to the new name, the
file is encrypted for those readers, which needs your private key. Lines of the config that name
the old file, and services that found it by its name, are listed.`,
		RunE: func(c *cobra.Command, args []string) error {
			s, err := f.store(e)
			if err != nil {
				return err
			}
			if strings.Contains(args[0], "{") {
				return secretMoveAll(e, c.Context(), s, args[0], args[1])
			}
			return secretMove(e, c.Context(), s, secretName(s.Dir, args[0]), secretName(s.Dir, args[1]))
		},
	}
	f.flags(c)
	c.ValidArgsFunction = completeSecrets
	return c
}

// secretMoveAll renames the files of a source, host by host.
func secretMoveAll(e *Env, ctx context.Context, s *secrets.Store, from, to string) error {
	files, err := secretNames(ctx, s, []string{from})
	if err != nil {
		return err
	}

	moves, err := movesOf(files, from, to)
	if err != nil {
		return err
	}

	for _, m := range moves {
		if _, err := os.Lstat(filepath.Join(s.Dir, filepath.FromSlash(m[0]))); errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintf(e.Stderr, "%s is not there, and is passed over\n", m[0])
			continue
		}
		if err := secretMove(e, ctx, s, m[0], m[1]); err != nil {
			return err
		}
	}

	return nil
}

// braces are the names in a source that stand for a host or a setting.
var braces = regexp.MustCompile(`\{([A-Za-z0-9_]+)\}`)

// movesOf pairs each file that the source from means with its new name: what stood for a name in
// braces stands for the same name in to.
func movesOf(files []string, from, to string) ([][2]string, error) {
	from, to = sourcePath(from), sourcePath(to)
	var names []string
	pattern := "^"
	rest := from
	for _, m := range braces.FindAllStringSubmatchIndex(from, -1) {
		before := from[len(from)-len(rest) : m[0]]
		names = append(names, from[m[2]:m[3]])
		pattern += regexp.QuoteMeta(before) + "([^/]+)"
		rest = from[m[1]:]
	}

	match, err := regexp.Compile(pattern + regexp.QuoteMeta(rest) + "$")
	if err != nil {
		return nil, err
	}

	for _, m := range braces.FindAllStringSubmatch(to, -1) {
		if !slices.Contains(names, m[1]) {
			return nil, fmt.Errorf("move to %s: {%s} is not in %s", to, m[1], from)
		}
	}

	var moves [][2]string
	taken := map[string]string{}
	for _, file := range files {
		values := match.FindStringSubmatch(file)
		if values == nil {
			return nil, fmt.Errorf("move %s: %s does not fit it", from, file)
		}

		target := to
		for i, name := range names {
			target = strings.ReplaceAll(target, "{"+name+"}", values[i+1])
		}

		if other, ok := taken[target]; ok {
			return nil, fmt.Errorf("move to %s: %s and %s would both be %s", to, other, file, target)
		}

		taken[target] = file
		moves = append(moves, [2]string{file, target})
	}

	return moves, nil
}

// sourcePath is a source as service.yaml has it, with its folder and ending.
func sourcePath(source string) string {
	return secrets.Dir + "/" + strings.TrimSuffix(strings.TrimPrefix(source, secrets.Dir+"/"), ".age") + ".age"
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
		if u.Service == "" {
			part = "bellhop.yaml uses it as the login at a registry"
		}
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
