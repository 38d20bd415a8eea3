package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func rebootCmd(e *Env) *cobra.Command {
	var f deployerFlags
	var on string
	var limit time.Duration
	c := &cobra.Command{
		Use: "reboot HOST...", Short: "Reboot hosts, one after another, and wait until each is back with its keys", GroupID: groupHosts,
		Long: `Reboot hosts, one after another, and wait until each is back with its keys. When one does not come
back within --limit, the others are left running, and the exit code is 3.`,
		Example: "  bellhop reboot chrysalis\n  bellhop reboot '@bots' --limit 5m",
		RunE: func(c *cobra.Command, args []string) error {
			if limit <= 0 {
				return usage(c, "--limit %v: want more than 0", limit)
			}
			expr, err := chosenSome(c, on, args, "bellhop reboot HOST...")
			if err != nil {
				return err
			}
			return reboot(e, c.Context(), &f, expr, limit)
		},
	}
	f.flags(c)
	onFlagNeeded(c, &on)
	c.Flags().DurationVar(&limit, "limit", 10*time.Minute, "how long to wait for each host")
	c.ValidArgsFunction = completeHosts
	return c
}

func reboot(e *Env, ctx context.Context, f *deployerFlags, on string, limit time.Duration) error {
	tell := func(line string) { fmt.Fprintln(e.Stderr, line) }
	client, err := dialServer(e, ctx, f)
	if err != nil {
		return err
	}

	if client != nil {
		defer client.Close()
		return callTelling(ctx, client, "reboot", rebootRequest{on, limit.Milliseconds()}, tell)
	}

	h, err := f.openUndumpable(e)
	if err != nil {
		return explain(err)
	}
	defer h.Close()
	return h.reboot(ctx, e.userName(), on, limit, tell)
}

// reboot reboots the hosts that on names for somebody, in order. The first that does not come back ends it, so
// that one bad kernel stops one host.
func (h *app) reboot(ctx context.Context, by, on string, limit time.Duration, tell func(string)) error {
	hosts, err := selectHosts(h.history.Hosts(), on)
	if err != nil {
		return fmt.Errorf("reboot: %w", err)
	}

	return inTurn(hosts, "rebooted", tell, func(host string, tell func(string)) error {
		return h.rebootOne(ctx, by, host, limit, tell)
	})
}

// inTurn does something to one host after the other. The first error ends it, after the names of the hosts
// that were not done; done is the verb for them.
func inTurn(hosts []string, done string, tell func(string), do func(host string, tell func(string)) error) error {
	for i, host := range hosts {
		err := do(host, func(line string) { tell(host + ": " + line) })
		if err == nil {
			continue
		}
		if left := hosts[i+1:]; len(left) > 0 {
			tell("not " + done + ": " + strings.Join(left, ", "))
		}
		return err
	}
	return nil
}
