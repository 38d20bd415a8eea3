package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"bellhop/deploy/keys"
	"bellhop/server"
)

// Keys on hosts, as the hosts themselves report them.

func keyCmd(e *Env) *cobra.Command {
	return group(groupSecrets, "key", "Show and push the keys on hosts",
		keyVerb(e, "status", "Show which keys each host has and should have; asks the hosts",
			func(h *app) keyFunc { return h.deployer.Keys().Status }, 0),
		keyVerb(e, "push", "Push the keys of the deployed generation to hosts, now",
			func(h *app) keyFunc {
				return func(ctx context.Context, on string) ([]keys.HostKeys, error) {
					return h.pushKeys(ctx, e.userName(), on)
				}
			}, exitHosts))
}

type keyFunc func(ctx context.Context, on string) ([]keys.HostKeys, error)

// keyVerb is a verb on the keys of many hosts; bad is its exit code when one did not do.
func keyVerb(e *Env, name, short string, pick func(*app) keyFunc, bad int) *cobra.Command {
	var f deployerFlags
	var on string
	var asJSON bool
	c := &cobra.Command{
		Use: name + " [HOST...]", Short: short,
		RunE: func(c *cobra.Command, args []string) error {
			expr, err := chosen(c, on, args)
			if err != nil {
				return err
			}

			hosts, err := askKeys(e, c.Context(), &f, "key-"+name, expr, pick)
			if err != nil {
				return err
			}

			if asJSON {
				err = e.writeJSON(map[string]any{"v": 1, "hosts": orEmpty(hosts)})
			} else {
				printKeys(e, hosts)
			}

			for _, h := range hosts {
				if err == nil && h.Error != nil {
					return exit(bad)
				}
			}

			return err
		},
	}
	f.flags(c)
	onFlag(c, &on)
	jsonFlag(c, &asJSON)
	c.ValidArgsFunction = completeHosts
	return c
}

// askKeys asks the server, or does it here.
func askKeys(e *Env, ctx context.Context, f *deployerFlags, verb, on string, pick func(*app) keyFunc) (hosts []keys.HostKeys, err error) {
	client, err := dialServer(e, ctx, f)
	if err != nil {
		return nil, err
	}

	if client != nil {
		defer client.Close()
		hosts, err = server.Call[[]keys.HostKeys](ctx, client, verb, onRequest{on}, nil)
		return hosts, fromSocket(err)
	}

	h, err := f.openUndumpable(e)
	if err != nil {
		return nil, explain(err)
	}
	defer h.Close()
	hosts, err = pick(h)(ctx, on)
	return hosts, explain(err)
}

func printKeys(e *Env, hosts []keys.HostKeys) {
	p, now := e.outPaint(), time.Now()
	var t table
	t.painted(func(_ int, c string) string { return p.dim(c) }, "HOST", "KEY", "STATE", "SINCE", "SOURCE", "UNIT", "BOOT")
	for _, h := range hosts {
		if h.Error != nil {
			t.painted(at(2, p.red), h.Name, "–", "unknown")
		}
		for _, k := range h.Keys {
			state, hue := keyWord(k)
			t.painted(at(2, func(s string) string { return hue(p, s) }), h.Name, k.Name, state, agoOr(now, k.Since), or(k.Source, "–"), or(k.Unit, "–"), short(or(h.BootID, "–")))
		}
	}

	if len(hosts) == 0 {
		fmt.Fprintln(e.Stdout, "no host has keys")
		return
	}

	t.write(e.Stdout)
	for _, h := range hosts {
		if h.Error != nil {
			fmt.Fprintf(e.Stdout, "%s: %s\n", p.red(h.Name), indentRest(*h.Error, "  "))
		}
		if h.Place == nil || *h.Place == "ramfs" {
			continue
		}
		text := "keys are on a " + *h.Place + ", since the host refuses a ramfs"
		if h.Swaps {
			text += ", and it swaps unencrypted: a key may reach its disk"
		}
		fmt.Fprintf(e.Stdout, "%s: %s\n", h.Name, p.yellow(text))
	}
}

// at paints one column.
func at(col int, hue func(string) string) func(int, string) string {
	return func(c int, s string) string {
		if c == col {
			return hue(s)
		}
		return s
	}
}

func keyWord(k keys.KeyInfo) (string, func(paint, string) string) {
	switch {
	case k.Present && k.Expected:
		return "present", paint.green
	case k.Present:
		return "not expected", paint.yellow
	case !k.Expected:
		return "not deployed", paint.yellow
	}
	return "missing", paint.red
}
