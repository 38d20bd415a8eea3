package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"bellhop/internal/fleet"
	"bellhop/secrets"
)

func checkCmd(e *Env) *cobra.Command {
	var asJSON bool
	var load loadFlags
	c := &cobra.Command{
		Use: "check [DIR]", Short: "Check the config and list every problem with file and line", GroupID: groupRepo,
		Args: cobra.MaximumNArgs(1),
		Long: `Check the config and list every problem with file, line and column. It needs only the files: no
server, no host, no key. In a git work tree it checks what git would commit: staged, changed and
new files, not those that git ignores. It exits 1 when a push would be refused, and 0 when there
are only warnings.`,
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := configDir(first(args))
			if err != nil {
				return err
			}
			return runCheck(e, c.Context(), &load, dir, asJSON)
		},
	}
	load.flags(c)
	jsonFlag(c, &asJSON)
	return c
}

func schemaCmd(e *Env) *cobra.Command {
	return &cobra.Command{
		Use: "schema [FILE]", Short: "Print the JSON Schema of bellhop.yaml and service.yaml", GroupID: groupRepo,
		Args: cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs), ValidArgs: schemaFiles,
		Long: `Print the JSON Schema of bellhop.yaml, host.yaml (a file below hosts/) and service.yaml: of one
file, for an editor, or of all in one document.`,
		Example: "  bellhop schema service.yaml > service.schema.json",
		RunE: func(_ *cobra.Command, args []string) error {
			b, err := fleet.Schema()
			if err == nil && len(args) > 0 {
				b, err = schemaOf(b, args[0])
			}
			if err != nil {
				return err
			}
			_, err = e.Stdout.Write(append(b, '\n'))
			return err
		},
	}
}

var schemaFiles = []string{"bellhop.yaml", "host.yaml", "service.yaml"}

// schemaOf is all with one of its definitions at the top.
func schemaOf(all []byte, file string) ([]byte, error) {
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(all, &doc); err != nil {
		return nil, err
	}
	delete(doc, "anyOf")
	doc["$ref"] = json.RawMessage(fmt.Sprintf("%q", "#/$defs/"+file))
	return json.MarshalIndent(doc, "", "  ")
}

// A problemJSON is one problem as check --json has it.
type problemJSON struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Source  string `json:"source"`
	Host    string `json:"host"`
	Message string `json:"message"`
	Warning bool   `json:"warning"`
}

func runCheck(e *Env, ctx context.Context, load *loadFlags, dir string, asJSON bool) error {
	f, problems, err := inspectDir(ctx, load, dir)
	if err != nil {
		return err
	}

	bad := countRefusing(problems)
	list := []problemJSON{}
	for _, p := range problems {
		list = append(list, problemJSON{p.File, p.Line, p.Column, p.Source, p.Host, p.Message, p.Warning})
	}

	if asJSON {
		err = e.writeJSON(map[string]any{"v": 1, "problems": list})
	} else {
		printProblems(e, f, problems, bad)
	}

	if err == nil && bad > 0 {
		return exit(exitError)
	}

	return err
}

func printProblems(e *Env, f *fleet.Fleet, problems fleet.Problems, bad int) {
	for _, p := range problems {
		fmt.Fprintln(e.Stdout, p.Error())
	}

	warnings := ""
	if n := len(problems) - bad; n > 0 {
		warnings = ", " + count(n, "warning")
	}

	p := e.outPaint()
	if bad > 0 {
		fmt.Fprintf(e.Stdout, "%s%s\n", p.red(count(bad, "problem")), warnings)
		return
	}

	fmt.Fprintf(e.Stdout, "%s %s: %s%s\n", p.green("ok"), f.Network, count(len(f.Hosts), "host"), warnings)
}

func countRefusing(problems fleet.Problems) (n int) {
	for _, p := range problems {
		if !p.Warning {
			n++
		}
	}
	return n
}

// inspectDir is inspect for a folder on disk, as git would commit it.
func inspectDir(ctx context.Context, load *loadFlags, dir string) (*fleet.Fleet, fleet.Problems, error) {
	tree, ignored, err := readWorkTree(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	f, problems, err := inspect(ctx, load, tree)
	return f, append(ignored, problems...).Capped(), err
}

// inspect finds all that is wrong with a tree, as far as the tree alone can tell: the whole
// config, each host's bundle, and the files below secrets/.
func inspect(ctx context.Context, load *loadFlags, tree fs.FS) (*fleet.Fleet, fleet.Problems, error) {
	var all fleet.Problems
	loader := load.loader()
	defer loader.Close()
	defer context.AfterFunc(ctx, func() { loader.Close() })()

	f, err := loader.Load(ctx, tree)
	if err != nil {
		var ps fleet.Problems
		if !errors.As(err, &ps) {
			return nil, nil, err
		}
		all = append(all, ps...)
	}

	if f != nil {
		for i := range f.Warnings {
			all = append(all, &f.Warnings[i])
		}

		for _, h := range f.Hosts {
			if ctx.Err() != nil {
				return nil, nil, context.Cause(ctx)
			}
			if _, err := f.Bundle(h.Name); err != nil {
				var ps fleet.Problems
				if !errors.As(err, &ps) {
					return nil, nil, err
				}
				all = append(all, ps...)
			}
		}

		used := secretsInUse(f)
		timed, cancel := load.context(ctx)
		defer cancel()
		all = append(all, findingProblems(secrets.Verify(timed, tree, secrets.Check{Rules: asRules(f.Readers), Used: used}))...)
	}

	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}

	return f, all, nil
}

// first is the first argument, or "".
func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}
