package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// dialect are words that only this project would understand. Help has none of them.
var dialect = regexp.MustCompile(`(?i)\b(stands?|stood|told|tells?|rang|rooms?|house|deaf|wish|beat|turn|river|anew|heard)\b`)

// What --help says of a verb is plain English: a short text that begins with what the verb does.
func TestHelpIsPlain(t *testing.T) {
	texts := func(c *cobra.Command, do func(of, text string)) {
		do("short text", c.Short)
		do("long text", c.Long)
		c.LocalFlags().VisitAll(func(f *pflag.Flag) { do("--"+f.Name, f.Usage) })
	}
	nouns := regexp.MustCompile(`^(The|A|An|What|Which|Who|Where|Hosts|Keys|Deliveries|Secrets)\b`)
	walk(testRoot(), func(c *cobra.Command) {
		texts(c, func(of, text string) {
			if word := dialect.FindString(text); word != "" {
				t.Errorf("%s, %s has the word %q: %s", c.CommandPath(), of, word, text)
			}
		})
		if c.Short == "" || nouns.MatchString(c.Short) || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short text %q, want a verb in front and no full stop", c.CommandPath(), c.Short)
		}
	})
}

// Every flag is below one heading of --help, and those that most verbs have are global ones.
func TestHelpGroupsFlags(t *testing.T) {
	walk(testRoot(), func(c *cobra.Command) {
		var out strings.Builder
		c.SetOut(&out)
		if err := c.Usage(); err != nil {
			t.Fatal(err)
		}
		_, global, hasGlobal := strings.Cut(out.String(), "\nGlobal flags:\n")
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if n := strings.Count(out.String(), " --"+f.Name+" "); n < 1 && !f.Hidden {
				t.Errorf("%s --help does not list --%s", c.CommandPath(), f.Name)
			}
		})
		for _, name := range []string{"state-dir", "server", "json"} {
			if c.Flags().Lookup(name) != nil && (!hasGlobal || !strings.Contains(global, "--"+name+" ")) {
				t.Errorf("%s --help does not list --%s as a global flag:\n%s", c.CommandPath(), name, out.String())
			}
		}
	})
}

func testRoot() *cobra.Command {
	root := rootCmd((&Env{Getenv: func(string) string { return "" }}))
	root.InitDefaultHelpCmd()
	return root
}

// walk calls do for each command that a person sees.
func walk(c *cobra.Command, do func(*cobra.Command)) {
	c.InitDefaultHelpFlag()
	do(c)
	for _, sub := range c.Commands() {
		if sub.Name() != "help" && !sub.Hidden {
			walk(sub, do)
		}
	}
}
