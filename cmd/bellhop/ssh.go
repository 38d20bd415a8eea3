package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"bellhop/internal/link"
)

// ssh, exec and logs: a person on a host. Host keys are those that the config pins, never
// the user's known_hosts; the exit code is the remote command's.

func (e *Env) sshCmd() *cobra.Command {
	var r reach
	var tty bool
	c := &cobra.Command{
		Use: "ssh HOST [-- COMMAND [ARG...]]", Short: "A shell, or one command, on a host", GroupID: groupHosts,
		Args: cobra.MinimumNArgs(1),
		Long: `Open a shell on a host, or run one command there and end with its exit code. One argument
is a line for the host's shell; several are a command and its arguments, quoted for you.`,
		Example: "  bellhop ssh chrysalis\n  bellhop ssh chrysalis -- systemctl status withinbot\n  bellhop ssh chrysalis 'journalctl -b | grep -c within'",
		RunE: func(c *cobra.Command, args []string) error {
			t, err := r.target(args[0])
			if err != nil {
				return err
			}
			command := args[1:]
			if len(command) > 0 && command[0] == "--" {
				command = command[1:]
			}
			if len(command) == 0 || tty {
				return e.shell(c.Context(), &r, t, command, tty)
			}
			return e.remote(c.Context(), &r, t, shellLine(command), raw(e.Stdout), raw(e.Stderr))
		},
	}
	r.flags(c)
	c.Flags().BoolVarP(&tty, "tty", "t", false, "give the command a terminal")
	c.Flags().SetInterspersed(false)
	c.ValidArgsFunction = completeHosts
	return c
}

// remote runs one command, its streams ours.
func (e *Env) remote(ctx context.Context, r *reach, t link.Target, line string, out, errs io.Writer) error {
	pool, err := e.pool(r)
	if err != nil {
		return err
	}
	defer pool.Close()
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
func (e *Env) shell(ctx context.Context, r *reach, t link.Target, args []string, tty bool) error {
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

func (e *Env) execCmd() *cobra.Command {
	var r reach
	var on string
	var parallel int
	c := &cobra.Command{
		Use: "exec --on HOSTS -- COMMAND [ARG...]", Short: "One command on many hosts", GroupID: groupHosts,
		Args: cobra.MinimumNArgs(1),
		Long: `Run one command on many hosts at once. Each line of output says which host it came from.
With one host the exit code is the command's; with several it is that of the first host, by
name, whose command failed, and each host that failed says so on stderr.`,
		Example: "  bellhop exec --on '@bots,!kos-mos' -- systemctl is-active withinbot",
		RunE: func(c *cobra.Command, args []string) error {
			if parallel < 1 {
				return usage(c, "--parallel %d: want at least 1", parallel)
			}
			ts, err := r.targets(on)
			if err != nil {
				return err
			}
			if on == "" && len(args) > 1 && slices.ContainsFunc(ts, func(t link.Target) bool { return t.Name == args[0] }) {
				return hint(fmt.Errorf("exec: %s is a host, and the command would run on all of them", args[0]), "bellhop exec --on %s -- COMMAND", args[0])
			}
			return e.execAll(c.Context(), &r, ts, shellLine(args), parallel)
		},
	}
	r.flags(c)
	onFlag(c, &on)
	c.Flags().IntVar(&parallel, "parallel", 10, "how many hosts at once")
	c.Flags().SetInterspersed(false)
	return c
}

// onFlag chooses hosts.
func onFlag(c *cobra.Command, on *string) {
	c.Flags().StringVar(on, "on", "", "hosts: names, globs, @tag, ! to exclude (default: all)")
	_ = c.RegisterFlagCompletionFunc("on", completeHosts)
}

func (e *Env) execAll(ctx context.Context, r *reach, ts []link.Target, line string, parallel int) error {
	if len(ts) == 1 {
		return e.remote(ctx, r, ts[0], line, raw(e.Stdout), raw(e.Stderr))
	}
	pool, err := e.pool(r)
	if err != nil {
		return err
	}
	defer pool.Close()
	width := 0
	for _, t := range ts {
		width = max(width, len(t.Name))
	}
	var mu sync.Mutex
	codes := each(ctx, ts, parallel, func(ctx context.Context, t link.Target) int {
		head := e.outPaint().cyan(fmt.Sprintf("%-*s", width, t.Name)) + " | "
		out := &prefixed{mu: &mu, w: rawUnlessShown(e.Stdout), head: head}
		errs := &prefixed{mu: &mu, w: rawUnlessShown(e.Stderr), head: head}
		code, err := pool.Exec(ctx, t, line, strings.NewReader(""), out, errs)
		out.end()
		errs.end()
		if ctx.Err() != nil {
			return exitInterrupted
		}
		if err != nil {
			fmt.Fprintln(errs, textOf(err))
			return 255 // as ssh says it
		}
		if code != 0 {
			fmt.Fprintf(errs, "exit %d\n", code) // a command may fail without a word
		}
		return code
	})
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

// prefixed puts a head before each line, and lets only whole lines through, so that hosts
// do not write into each other's.
type prefixed struct {
	mu   *sync.Mutex
	w    io.Writer
	head string
	part []byte
}

// maxPart is how much of a line is kept until its end comes.
const maxPart = 64 << 10

func (p *prefixed) Write(b []byte) (int, error) {
	p.part = append(p.part, b...)
	for {
		i := bytes.IndexByte(p.part, '\n')
		if i < 0 && len(p.part) < maxPart {
			return len(b), nil
		} else if i < 0 {
			p.end() // a line without end is told in parts
			return len(b), nil
		}
		p.line(p.part[:i])
		p.part = p.part[i+1:]
	}
}

func (p *prefixed) line(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, "%s%s\n", p.head, b)
}

func (p *prefixed) end() {
	if len(p.part) > 0 {
		p.line(p.part)
		p.part = nil
	}
}

func (e *Env) logsCmd() *cobra.Command {
	var r reach
	var follow bool
	var lines int
	var since string
	c := &cobra.Command{
		Use: "logs HOST [UNIT]", Short: "The journal of a host, or of one unit there", GroupID: groupHosts,
		Args:    cobra.RangeArgs(1, 2),
		Example: "  bellhop logs chrysalis withinbot -f",
		RunE: func(c *cobra.Command, args []string) error {
			if lines < 0 {
				return usage(c, "--lines %d: want at least 0", lines)
			}
			t, err := r.target(args[0])
			if err != nil {
				return err
			}
			return e.remote(c.Context(), &r, t, journalLine(args[1:], follow, lines, since), rawUnlessShown(e.Stdout), rawUnlessShown(e.Stderr))
		},
	}
	r.flags(c)
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on as lines come")
	c.Flags().IntVarP(&lines, "lines", "n", 100, "how many lines")
	c.Flags().StringVar(&since, "since", "", "from a time on, as journalctl takes it")
	c.ValidArgsFunction = completeHosts
	return c
}

func journalLine(unit []string, follow bool, lines int, since string) string {
	args := []string{"journalctl", "--no-pager", "-n", fmt.Sprint(lines)}
	if since != "" {
		args = append(args, "--since="+since)
	}
	if follow {
		args = append(args, "-f")
	}
	for _, u := range unit {
		args = append(args, "-u", u)
	}
	return shellLine(args)
}

// completeHosts offers the names of hosts to a shell.
func completeHosts(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	r := reach{stateDir: usualStateDir()}
	if f := c.Flags().Lookup("state-dir"); f != nil {
		r.stateDir = f.Value.String()
	}
	ts, err := r.targets("")
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, t := range ts {
		names = append(names, t.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
