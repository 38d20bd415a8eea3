package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// What --help prints below a verb's description: how it is written, its verbs by group, and its
// flags by what they are about.

// A flagGroup is a heading of --help and the flags below it.
type flagGroup struct {
	title string
	names []string // of the group's flags; nil: all that no other group has
}

// flagGroups are in the order of --help. What a verb alone has comes first.
func flagGroups(verb string) []flagGroup {
	deployer := flagGroup{"Without a running server:", []string{"repo", "branch", "path", "repo-key", "repo-host-key", "rewritten", "identity", "allow-plugin", "load-timeout", "load-memory"}}
	switch verb {
	case "serve":
		deployer.title = "Repo, keys and limits:"
	case "plan": // a server is told the branch and the folder
		deployer.names = slices.DeleteFunc(deployer.names, func(name string) bool { return name == "branch" || name == "path" })
	}
	return []flagGroup{
		{"Flags:", nil},
		deployer,
		{"Global flags:", []string{"state-dir", "server", "dir", "ssh-key", "json", "help", "version"}},
	}
}

// printUsage is the usage of a verb.
func printUsage(c *cobra.Command) error {
	w := c.OutOrStderr()
	fmt.Fprint(w, "Usage:\n")
	if c.Runnable() && !c.HasAvailableSubCommands() {
		fmt.Fprintf(w, "  %s\n", c.UseLine())
	}
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(w, "  %s [command]\n", c.CommandPath())
	}
	if len(c.Aliases) > 0 {
		fmt.Fprintf(w, "\nAliases:\n  %s\n", c.NameAndAliases())
	}
	if c.HasExample() {
		fmt.Fprintf(w, "\nExamples:\n%s\n", c.Example)
	}

	printVerbs(w, c)
	printFlags(w, c)
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(w, "\nUse \"%s [command] --help\" for more information about a command.\n", c.CommandPath())
	}

	return nil
}

// printVerbs lists the verbs below a command: by group, then those of none.
func printVerbs(w io.Writer, c *cobra.Command) {
	if !c.HasAvailableSubCommands() {
		return
	}
	list := func(title, id string) {
		lines := ""
		for _, sub := range c.Commands() {
			isShown := sub.IsAvailableCommand() || sub.Name() == "help"
			if isShown && sub.GroupID == id {
				lines += fmt.Sprintf("  %-*s %s\n", sub.NamePadding(), sub.Name(), sub.Short)
			}
		}
		if lines != "" {
			fmt.Fprintf(w, "\n%s\n%s", title, lines)
		}
	}
	for _, g := range c.Groups() {
		list(g.Title, g.ID)
	}

	list("Commands:", "")
}

func printFlags(w io.Writer, c *cobra.Command) {
	groups := flagGroups(c.Name())
	sets := make([]*pflag.FlagSet, len(groups))
	for i := range sets {
		sets[i] = pflag.NewFlagSet("", pflag.ContinueOnError)
	}

	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		at := slices.IndexFunc(groups, func(g flagGroup) bool { return slices.Contains(g.names, f.Name) })
		sets[max(at, 0)].AddFlag(f)
	})
	for i, g := range groups {
		if text := sets[i].FlagUsages(); text != "" {
			fmt.Fprintf(w, "\n%s\n%s\n", g.title, strings.TrimRight(text, "\n"))
		}
	}
}
