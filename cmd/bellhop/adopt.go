package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"bellhop/internal/adopt"
	"bellhop/internal/fleet"
	"bellhop/secrets"
)

func adoptCmd(e *Env) *cobra.Command {
	var r reach
	var o adopt.Options
	var asPlain []string
	c := &cobra.Command{
		Use: "adopt HOST --compose DIR", Short: "Make a service of a compose project that runs on a host", Args: cobra.ExactArgs(1), GroupID: groupHosts,
		Long: `Write services/NAME for a compose project that runs on a host: its compose files and the files that they
name. Data stays on the host. You are asked which variables of its env files are secret, and of passwords in the
compose file itself and of files that look secret; those are sealed, and no value is shown. Without a terminal all
but those of --plain are sealed. What can't be moved to a secret is refused.

Then switch the service on, commit and push: no container is recreated.`,
		Example: "  bellhop adopt chrysalis --compose /opt/stacks/wiki\n  bellhop adopt chrysalis --compose /data/compose/3 --from /var/lib/docker/volumes/portainer_data/_data/compose/3",
		RunE: func(c *cobra.Command, args []string) error {
			in := e.Stdin
			if !isTerminal(e.Stdin) {
				in = nil
			}
			o.IsSecret = adopt.Ask(in, e.Stderr, asPlain)
			return runAdopt(e, c.Context(), &r, args[0], o)
		},
	}
	r.flags(c)
	c.Flags().StringVar(&o.Dir, "compose", "", "the project's directory on the host")
	c.Flags().StringVar(&o.From, "from", "", "where its files are on the host, if elsewhere")
	c.Flags().StringVar(&o.Service, "name", "", "name of the service (default: the project's)")
	c.Flags().StringSliceVar(&asPlain, "plain", nil, "variables and files that are not secret; nobody is asked about them")
	_ = c.MarkFlagRequired("compose")
	c.ValidArgsFunction = completeHosts
	return c
}

func runAdopt(e *Env, ctx context.Context, r *reach, host string, o adopt.Options) error {
	store, err := (&secretFlags{dir: r.dir}).store(e)
	if err != nil {
		return err
	}
	t, err := r.target(host)
	if err != nil {
		return err
	}
	pool, err := e.pool(r)
	if err != nil {
		return err
	}
	defer pool.Close()

	run := func(ctx context.Context, line string) (string, error) { return pool.Output(ctx, t, line) }
	s, err := adopt.Read(ctx, &adopt.Host{Name: t.Name, Run: run}, o)
	if err != nil {
		return err
	}
	defer s.Clear()
	if err := fleet.CheckName("service", s.Service); err != nil {
		return hint(err, "choose a name with --name")
	}

	seal := func(name string, value []byte) error {
		w, err := store.Set(name, value, secrets.SetOptions{})
		if err == nil {
			e.tellWritten(w)
		}
		return err
	}
	if err := s.Write(store.Dir, seal); err != nil {
		return err
	}
	_, err = fmt.Fprint(e.Stdout, s.Text(t.Name))
	return err
}
