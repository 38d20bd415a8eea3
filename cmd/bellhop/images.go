package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"bellhop/internal/images"
	"bellhop/internal/link"
	"bellhop/internal/registry"
)

func imagesCmd(e *Env) *cobra.Command {
	var r reach
	var on string
	var json bool
	c := &cobra.Command{
		Use: "images [HOST...]", Short: "List images: the digest that runs, and the newest of its tag", GroupID: groupHosts,
		Long: `List the images of containers, of compose services and quadlets: the digest that runs, and the one that the tag
has by now. Registries are asked from here, with the logins of registries: that you can open. Nothing is updated. A host
that is away takes nothing from the list of the others.`,
		Example: "  bellhop images\n  bellhop images chrysalis --json",
		RunE: func(c *cobra.Command, args []string) error {
			expr, err := chosen(c, on, args)
			if err != nil {
				return err
			}
			all, err := readImages(e, c.Context(), &r, expr)
			if err != nil && len(all) == 0 {
				return err
			}
			if json {
				return errors.Join(e.writeJSON(images.List{V: 1, Images: orEmpty(all)}), err)
			}
			_, bad := fmt.Fprint(e.Stdout, images.Table(all))
			return errors.Join(bad, err)
		},
	}
	r.flags(c)
	onFlag(c, &on)
	jsonFlag(c, &json)
	c.ValidArgsFunction = completeHosts
	return c
}

func readImages(e *Env, ctx context.Context, r *reach, expr string) (all []images.Image, err error) {
	store, err := (&secretFlags{dir: r.dir}).store(e)
	if err != nil {
		return nil, err
	}
	f, err := loadOffline(store.Dir)
	if err != nil {
		return nil, err
	}
	ts, err := fleetTargets(f, expr)
	if err != nil {
		return nil, err
	}
	pool, err := e.pool(r)
	if err != nil {
		return nil, err
	}
	defer pool.Close()

	exec := func(ctx context.Context, t link.Target, line string) (string, error) {
		return pool.Output(ctx, t, line)
	}
	all, err = images.Read(ctx, f, ts, exec)
	images.Ask(ctx, &registry.Client{Login: images.Logins(f, store.Show)}, all)
	return all, err
}
