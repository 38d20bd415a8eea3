package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

const intro = `bellhop turns git push into deployed machines.

On a push it pulls the config repo, decrypts the age secrets committed there, compares what
every host should hold with what was last deployed, and deploys to the hosts that changed.

Every verb that works on hosts takes them as arguments: names, globs, @tag, and ! to exclude, as
in bellhop deploy '@bots' '!kos-mos'. --on '@bots,!kos-mos' says the same. Every flag is also an
environment variable: --state-dir is BELLHOP_STATE_DIR.`

// Groups of verbs, in the order in which a new user meets them.
const (
	groupRepo    = "repo"
	groupFleet   = "fleet"
	groupHosts   = "hosts"
	groupSecrets = "secrets"
	groupServer  = "server"
	groupSelf    = "self"
)

// rootCmd builds the whole tree of verbs.
func rootCmd(e *Env) *cobra.Command {
	root := &cobra.Command{
		Use:           "bellhop",
		Short:         "Deploy a fleet of machines by git push",
		Long:          intro,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
		PersistentPreRunE: func(c *cobra.Command, args []string) error {
			if err := protect(c); err != nil {
				return err
			}
			if err := e.fromEnv(c.Flags()); err != nil {
				return err
			}
			if verb := c.Name(); verb != "ssh" && verb != "exec" { // a command on a host is the person's own
				if err := checkArgs(args); err != nil {
					return err
				}
			}
			if serverOf(c) != "" && c.Annotations[hereFirst] == "" {
				c.RunE = func(c *cobra.Command, _ []string) error { return overSSH(e, c) }
			}
			return nil
		},
	}
	root.Version = version() // --version says what version does
	root.SetVersionTemplate("bellhop {{.Version}}\n")
	root.SetUsageFunc(printUsage)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usage(c, "%w", err) })
	root.AddGroup(
		&cobra.Group{ID: groupRepo, Title: "In the config repo:"},
		&cobra.Group{ID: groupSecrets, Title: "Secrets:"},
		&cobra.Group{ID: groupFleet, Title: "The fleet:"},
		&cobra.Group{ID: groupHosts, Title: "Hosts:"},
		&cobra.Group{ID: groupServer, Title: "The server:"},
		&cobra.Group{ID: groupSelf, Title: "bellhop itself:"},
	)
	root.SetHelpCommandGroupID(groupSelf)
	root.SetCompletionCommandGroupID(groupSelf)
	root.AddCommand(verbs(e)...)
	root.AddCommand(versionCmd(e), manCmd(root))
	strict(root)
	return root
}

// strict gives each verb's complaint about its arguments a hint: how it is written.
func strict(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			err := check(c, args)
			switch {
			case err == nil:
				return nil
			case !c.HasParent():
				return usage(c, "%w%s", err, meant(c, args[0]))
			}
			return hint(fmt.Errorf("%s: %w", c.Name(), err), "%s; more by --help", strings.TrimSuffix(c.UseLine(), " [flags]"))
		}
	}
	for _, sub := range c.Commands() {
		strict(sub)
	}
}

// meant names the verbs that a misspelt one may have meant.
func meant(c *cobra.Command, word string) string {
	c.SuggestionsMinimumDistance = 2
	if s := c.SuggestionsFor(word); len(s) > 0 {
		return "; did you mean " + strings.Join(s, " or ") + "?"
	}
	return ""
}

// group builds a verb that only holds others.
func group(id, use, short string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, GroupID: id,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			return usage(c, "unknown verb %q for %q%s", args[0], c.CommandPath(), meant(c, args[0]))
		},
	}
	c.AddCommand(subs...)
	return c
}

func versionCmd(e *Env) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "version", Short: "Print the version", GroupID: groupSelf, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := version()
			if asJSON {
				return e.writeJSON(map[string]any{"v": 1, "version": v})
			}
			fmt.Fprintln(e.Stdout, "bellhop", v)
			return nil
		},
	}
	jsonFlag(c, &asJSON)
	return c
}

// version comes from the build info: a tag, or the commit.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}

	commit, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = short(s.Value)
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+"
		}
	}

	return strings.TrimSpace("devel " + commit + dirty)
}

// manCmd writes the man pages, for who packages bellhop.
func manCmd(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "Write the man pages to a folder", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root.DisableAutoGenTag = true
			head := &doc.GenManHeader{Section: "1", // the title is the verb's
				Source: "bellhop " + version(), Manual: "bellhop"}
			return doc.GenManTree(root, head, args[0])
		},
	}
}

func jsonFlag(c *cobra.Command, v *bool) {
	c.Flags().BoolVar(v, "json", false, "print JSON")
}

// secretFileFlag is a flag that names a file with a secret: BELLHOP_FLAG_FILE sets it too.
func secretFileFlag(c *cobra.Command, v *string, name, value, help string) {
	c.Flags().StringVar(v, name, value, help)
	if err := c.Flags().SetAnnotation(name, secretFile, []string{"1"}); err != nil {
		panic(err) // the flag was made one line above
	}
	_ = c.MarkFlagFilename(name)
}
