package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"bellhop/internal/link"
)

// ssh, exec and logs: a person on a host. Host keys are those that the config pins, never
// the user's known_hosts; the exit code is the remote command's.

func sshCmd(e *Env) *cobra.Command {
	var r reach
	var tty bool
	c := &cobra.Command{
		Use: "ssh [flags] HOST [-- COMMAND [ARG...]]", Short: "Open a shell on a host, or run one command there", GroupID: groupHosts,
		Args: cobra.MinimumNArgs(1),
		Long: `Open a shell on a host, or run one command there and exit with its exit code. One argument is a line
for the host's shell; several are a command and its arguments, which bellhop quotes.`,
		Example: "  bellhop ssh chrysalis\n  bellhop ssh chrysalis -- systemctl status withinbot\n  bellhop ssh chrysalis 'journalctl -b | grep -c within'",
		RunE: func(c *cobra.Command, args []string) error {
			command, err := sshCommand(c, args)
			if err != nil {
				return err
			}

			t, err := r.target(args[0])
			if err != nil {
				return err
			}
			if len(command) == 0 || tty {
				return shell(e, c.Context(), &r, t, command, tty)
			}

			return runOn(e, c.Context(), &r, t, shellLine(command), raw(e.Stdout), raw(e.Stderr))
		},
	}
	r.flags(c)
	c.Flags().BoolVarP(&tty, "tty", "t", false, "give the command a terminal")
	c.Flags().SetInterspersed(false)
	c.DisableFlagsInUseLine = true
	c.ValidArgsFunction = completeHost
	return c
}

// sshCommand is what stands behind the host: the rest, less a -- in front of it.
func sshCommand(c *cobra.Command, args []string) ([]string, error) {
	command := args[1:]
	if len(command) == 0 {
		return nil, nil
	}
	if command[0] == "--" {
		return command[1:], nil
	}
	if strings.HasPrefix(command[0], "-") {
		return nil, usage(c, "ssh: %s is after the host: flags of bellhop come before it, and a command comes after --", command[0])
	}
	return command, nil
}

// runOn runs one command, its streams ours.
func runOn(e *Env, ctx context.Context, r *reach, t link.Target, line string, out, errs io.Writer) error {
	pool, err := e.pool(r)
	if err != nil {
		return err
	}
	defer pool.Close()
	return remoteOn(e, ctx, pool, t, line, out, errs)
}

// remoteOn is runOn over connections that are open.
func remoteOn(e *Env, ctx context.Context, pool *link.Pool, t link.Target, line string, out, errs io.Writer) error {
	stdin := e.Stdin
	if isTerminal(stdin) {
		stdin = strings.NewReader("") // nobody types into a command without a terminal
	}

	code, err := pool.Exec(ctx, t, line, stdin, out, errs)
	if ctx.Err() != nil {
		return exit(exitInterrupted) // who pressed Ctrl-C knows why it ended
	}
	if err != nil {
		return fmt.Errorf("run %q on %s: %w", line, t.Name, err)
	}

	return exit(code)
}

// shellLine is args as a line for a POSIX shell.
func shellLine(args []string) string {
	switch len(args) {
	case 0:
		return ""
	case 1:
		return args[0]
	}

	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = shellQuote(a)
	}

	return strings.Join(quoted, " ")
}

func shellQuote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+:,./@%") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// shell gives the terminal to the host.
func shell(e *Env, ctx context.Context, r *reach, t link.Target, args []string, tty bool) error {
	pool, err := e.pool(r)
	if err != nil {
		return err
	}
	defer pool.Close()
	in, _ := e.Stdin.(*os.File)
	code, err := pool.Shell(ctx, t, link.Shell{Command: shellLine(args), Terminal: tty, In: in, Out: direct(e.Stdout), Err: direct(e.Stderr)})
	if err != nil {
		return fmt.Errorf("open a shell on %s: %w", t.Name, err)
	}

	return exit(code)
}
