package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"bellhop/internal/link"
)

func execCmd(e *Env) *cobra.Command {
	var r reach
	var on string
	var parallel int
	c := &cobra.Command{
		Use: "exec [flags] HOST... -- COMMAND [ARG...]", Short: "Run one command on several hosts", GroupID: groupHosts,
		Long: `Run one command on several hosts at once. Each line of output begins with the name of its host.
One argument after -- is a line for the host's shell; several are a command and its arguments.

With one host the exit code is the command's. With several it is that of the first host, by
name, whose command failed, and each host that failed is named on stderr.`,
		Example: "  bellhop exec chrysalis lufta -- uptime\n  bellhop exec '@bots' '!kos-mos' -- systemctl is-active withinbot\n  bellhop exec '*' -- 'df -h / | tail -1'",
		RunE: func(c *cobra.Command, args []string) error {
			if parallel < 1 {
				return usage(c, "--parallel %d: want at least 1", parallel)
			}

			hosts, command := splitExec(c, args, on)
			if len(command) == 0 {
				return hint(fmt.Errorf("exec: no command is given"), execForm)
			}

			expr, err := chosenSome(c, on, hosts, execForm)
			if err != nil {
				return err
			}

			ts, err := r.targets(expr)
			if err != nil {
				return err
			}

			return execAll(e, c.Context(), &r, ts, shellLine(command), parallel)
		},
	}
	r.flags(c)
	onFlagNeeded(c, &on)
	c.Flags().IntVar(&parallel, "parallel", 10, "how many hosts at once")
	stopAtCommand(e, c)
	c.DisableFlagsInUseLine = true
	c.ValidArgsFunction = completeHosts
	return c
}

const execForm = "bellhop exec HOST... -- COMMAND"

// stopAtCommand leaves the flags of a command for a host alone. A -- says where it begins; where
// there is none, it begins at the first word that is no flag.
func stopAtCommand(e *Env, c *cobra.Command) {
	c.Flags().SetInterspersed(slices.Contains(e.Args, "--"))
}

// splitExec takes the hosts off a command line: what stands before --, or --on alone.
func splitExec(c *cobra.Command, args []string, on string) (hosts, command []string) {
	dash := c.ArgsLenAtDash()
	switch {
	case dash >= 0:
		return args[:dash], args[dash:]
	case on != "":
		return nil, args
	}
	return args, nil
}

func execAll(e *Env, ctx context.Context, r *reach, ts []link.Target, line string, parallel int) error {
	if len(ts) == 1 {
		return runOn(e, ctx, r, ts[0], line, raw(e.Stdout), raw(e.Stderr))
	}

	pool, err := e.pool(r)
	if err != nil {
		return err
	}
	defer pool.Close()
	out := e.columns(ts)
	codes := link.Each(ctx, ts, parallel, func(ctx context.Context, t link.Target) int {
		return out.run(ctx, pool, t, line)
	})
	return worst(ctx, codes)
}

// worst is the exit code of many hosts: that of the first which failed.
func worst(ctx context.Context, codes []int) error {
	if ctx.Err() != nil {
		return exit(exitInterrupted)
	}
	for _, code := range codes {
		if code != 0 {
			return exit(code)
		}
	}
	return nil
}
