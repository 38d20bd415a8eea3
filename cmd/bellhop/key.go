package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"bellhop/deploy"
	"bellhop/server"
)

// Keys on hosts, by the hosts' own word; and reboots, after which they must come back.

func (e *Env) keyCmd() *cobra.Command {
	return group(groupSecrets, "key", "Keys as they stand on hosts",
		e.keyVerb("status", "Which keys are expected and present, asked of the hosts themselves",
			func(h *house) keyFunc { return h.deployer.KeyStatus }, 0),
		e.keyVerb("push", "Put the keys of what stands onto hosts, now",
			func(h *house) keyFunc {
				return func(ctx context.Context, on string) ([]deploy.HostKeys, error) {
					return h.pushKeys(ctx, e.userName(), on)
				}
			}, exitHosts))
}

type keyFunc func(ctx context.Context, on string) ([]deploy.HostKeys, error)

// keyVerb is a verb on the keys of many hosts; bad is its exit code when one did not do.
func (e *Env) keyVerb(name, short string, pick func(*house) keyFunc, bad int) *cobra.Command {
	var f deployerFlags
	var on string
	var asJSON bool
	c := &cobra.Command{
		Use: name + " [HOST...]", Short: short,
		RunE: func(c *cobra.Command, args []string) error {
			hosts, err := e.keys(c.Context(), &f, "key-"+name, selection(on, args), pick)
			if err != nil {
				return err
			}
			if asJSON {
				err = e.writeJSON(map[string]any{"v": 1, "hosts": orEmpty(hosts)})
			} else {
				e.printKeys(hosts)
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

// keys asks the server, or does it here.
func (e *Env) keys(ctx context.Context, f *deployerFlags, verb, on string, pick func(*house) keyFunc) (hosts []deploy.HostKeys, err error) {
	client, err := e.dial(ctx, f)
	if err != nil {
		return nil, err
	}
	if client != nil {
		defer client.Close()
		hosts, err = server.Call[[]deploy.HostKeys](ctx, client, verb, onRequest{on}, nil)
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

// selection joins --on and host names given as arguments.
func selection(on string, args []string) string {
	for _, a := range args {
		if on != "" {
			on += ","
		}
		on += a
	}
	return on
}

func (e *Env) printKeys(hosts []deploy.HostKeys) {
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
		text := "keys stand on a " + *h.Place + ", since it refuses a ramfs"
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

func keyWord(k deploy.KeyInfo) (string, func(paint, string) string) {
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

func (e *Env) rebootCmd() *cobra.Command {
	var f deployerFlags
	var limit time.Duration
	c := &cobra.Command{
		Use: "reboot HOST", Short: "Reboot a host, and wait until it is back with its keys", GroupID: groupHosts, Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if limit <= 0 {
				return usage(c, "--limit %v: want more than 0", limit)
			}
			return e.reboot(c.Context(), &f, args[0], limit)
		},
	}
	f.flags(c)
	c.Flags().DurationVar(&limit, "limit", 10*time.Minute, "how long to wait")
	c.ValidArgsFunction = completeHosts
	return c
}

func (e *Env) reboot(ctx context.Context, f *deployerFlags, host string, limit time.Duration) error {
	tell := func(line string) { fmt.Fprintf(e.Stderr, "%s: %s\n", host, line) }
	client, err := e.dial(ctx, f)
	if err != nil {
		return err
	}
	if client != nil {
		defer client.Close()
		_, err := server.Call[struct{}](ctx, client, "reboot", rebootRequest{host, limit.Milliseconds()}, func(b json.RawMessage) {
			var line string
			if json.Unmarshal(b, &line) == nil {
				tell(line)
			}
		})
		return fromSocket(err)
	}
	h, err := f.openUndumpable(e)
	if err != nil {
		return explain(err)
	}
	defer h.Close()
	return h.rebootFor(ctx, e.userName(), host, limit, tell)
}

// reboot gives a host that did not come back its exit code.
func (h *house) reboot(ctx context.Context, host string, limit time.Duration, tell func(string)) error {
	if _, ok := h.history.Hosts()[host]; !ok {
		return hint(fmt.Errorf("reboot %s: no host of that name was deployed to", host), "bellhop status lists them")
	}
	if err := h.deployer.Reboot(ctx, host, limit, tell); err != nil {
		return &codeError{exitHosts, err}
	}
	return nil
}
