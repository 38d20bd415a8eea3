package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bellhop/internal/fleet/inventory"
	"bellhop/internal/history"
)

// Which hosts a verb means. Every verb that works on hosts takes them as arguments and by --on, in
// the same words: names, globs, @tag, and ! to exclude. inventory.Choose is the one place that reads them.

const hostWords = "hosts: names, globs, @tag, ! to exclude"

// onFlag chooses hosts; without it a verb means all of them.
func onFlag(c *cobra.Command, on *string) {
	c.Flags().StringVar(on, "on", "", hostWords+" (default: all)")
	_ = c.RegisterFlagCompletionFunc("on", completeHosts)
}

// onFlagNeeded is onFlag of a verb that does nothing unless hosts are named.
func onFlagNeeded(c *cobra.Command, on *string) {
	onFlag(c, on)
	c.Flags().Lookup("on").Usage = hostWords
}

// errEmptyHost stops a script whose variable is not set: an empty word would mean all hosts.
var errEmptyHost = hint(errors.New("the name of a host is empty"), "is a variable of your script not set? All hosts are named by '*', or by no name where a verb allows that")

// chosen joins --on and the hosts given as arguments to one selector. "" means all hosts.
func chosen(c *cobra.Command, on string, args []string) (string, error) {
	words := slices.Clone(args)
	if on != "" || c.Flags().Changed("on") {
		words = slices.Insert(words, 0, on)
	}
	for _, word := range words {
		if strings.TrimSpace(word) == "" {
			return "", errEmptyHost
		}
	}
	return strings.Join(words, ","), nil
}

// chosenSome is chosen for a verb that does nothing unless hosts are named. example is how it is
// written for one host.
func chosenSome(c *cobra.Command, on string, args []string, example string) (string, error) {
	expr, err := chosen(c, on, args)
	if err == nil && expr == "" {
		err = hint(fmt.Errorf("%s: no host is named", c.Name()), "%s; all hosts are '*'", example)
	}
	return expr, err
}

// selectHosts lists the hosts that expr names among those that history knows, by name.
func selectHosts(all map[string]history.Host, expr string) ([]string, error) {
	names := slices.Sorted(maps.Keys(all))
	known := make([]inventory.Named, len(names))
	for i, name := range names {
		known[i] = inventory.Named{Name: name, Tags: all[name].Reach.Tags}
	}

	in, err := inventory.Choose(known, expr)
	if err != nil {
		return nil, hint(fmt.Errorf("choose hosts: %w", err), "bellhop status lists them")
	}

	out := make([]string, len(in))
	for i, at := range in {
		out[i] = names[at]
	}

	return out, nil
}

// completeHosts offers a shell the hosts and tags that may follow, also behind a comma.
func completeHosts(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	r := reachOf(c)
	var words []string
	for _, name := range r.words() {
		if !slices.Contains(args, name) {
			words = append(words, name)
		}
	}

	cut := strings.LastIndexAny(word, ",!") + 1
	for i := range words {
		words[i] = word[:cut] + words[i]
	}

	return words, cobra.ShellCompDirectiveNoFileComp
}

// completeHost is completeHosts for a verb that takes one.
func completeHost(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return completeHosts(c, args, word)
}

// reachOf is how the command line that is being completed gets to hosts.
func reachOf(c *cobra.Command) *reach {
	_ = OSEnv().fromEnv(c.Flags()) // completion runs before any verb does
	r := &reach{stateDir: usualStateDir()}
	if f := c.Flags().Lookup("state-dir"); f != nil {
		r.stateDir = f.Value.String()
	}
	if f := c.Flags().Lookup("dir"); f != nil {
		r.dir = f.Value.String()
	}
	return r
}

// words are the names of hosts, then their tags.
func (r *reach) words() (words []string) {
	tags := map[string]bool{}
	if f, err := r.config(); err == nil && f != nil {
		for _, h := range f.Hosts {
			words = append(words, h.Name)
			for _, t := range h.Tags {
				tags["@"+t] = true
			}
		}
	} else if err == nil {
		_ = r.read(func(db *history.DB) error {
			for name, h := range db.Hosts() {
				words = append(words, name)
				for _, t := range h.Reach.Tags {
					tags["@"+t] = true
				}
			}
			return nil
		})
		slices.Sort(words)
	}
	return append(words, slices.Sorted(maps.Keys(tags))...)
}
