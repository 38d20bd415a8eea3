package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bellhop/deploy/drift"
	"bellhop/internal/bundle"
	"bellhop/server"
)

// drift: what differs on hosts from what bellhop put there, asked now.

type driftOptions struct {
	deployerFlags
	req            drift.Request
	json, exitCode bool
}

func driftCmd(e *Env) *cobra.Command {
	var o driftOptions
	c := &cobra.Command{
		Use: "drift [HOST...]", Short: "Show what differs on hosts from what bellhop put there", GroupID: groupFleet,
		Long: `Ask hosts now what differs there from what bellhop put in place: files and links that were edited,
units that were stopped, keys that are missing. Nothing is changed: the next push of a host puts back
what was edited, and a unit that was stopped by hand stays stopped. To keep an edit, see bellhop host pull.

Files that have the size, times and inode that they had when bellhop wrote them are not read; with
--verify all are. With --exit-code it exits 2 when something differs, else 3 when a host could not be asked.`,
		Example: "  bellhop drift\n  bellhop drift chrysalis --diff\n  bellhop drift '@bots' --verify --exit-code",
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			if o.req.On, err = chosen(c, o.req.On, args); err != nil {
				return err
			}
			return runDrift(e, c.Context(), &o)
		},
	}
	o.flags(c)
	onFlag(c, &o.req.On)
	jsonFlag(c, &o.json)
	c.Flags().BoolVar(&o.req.Diff, "diff", false, "show what was edited in files")
	c.Flags().BoolVar(&o.req.Verify, "verify", false, "read every file, also those that look as they were written")
	c.Flags().BoolVar(&o.exitCode, "exit-code", false, "exit 2 when something differs, else 3 when a host could not be asked")
	c.ValidArgsFunction = completeHosts
	return c
}

func runDrift(e *Env, ctx context.Context, o *driftOptions) error {
	hosts, err := askDrift(e, ctx, o)
	if err != nil {
		return err
	}

	if o.json {
		err = e.writeJSON(map[string]any{"v": 1, "hosts": orEmpty(hosts)})
	} else {
		printDrift(e.Stdout, e.outPaint(), hosts, time.Now())
	}
	if err != nil || !o.exitCode {
		return err
	}
	return driftExit(hosts)
}

// driftExit tells by the exit code what was found.
func driftExit(hosts []drift.HostDrift) error {
	isUnasked := false
	for _, h := range hosts {
		if h.Differs() {
			return exit(exitChanges)
		}
		isUnasked = isUnasked || h.State != drift.OK && h.State != drift.Never
	}
	if isUnasked {
		return exit(exitHosts)
	}
	return nil
}

// askDrift asks the server, or looks from here.
func askDrift(e *Env, ctx context.Context, o *driftOptions) ([]drift.HostDrift, error) {
	client, err := dialServer(e, ctx, &o.deployerFlags)
	if err != nil {
		return nil, err
	}
	if client != nil {
		defer client.Close()
		hosts, err := server.Call[[]drift.HostDrift](ctx, client, "drift", o.req, nil)
		return hosts, fromSocket(err)
	}

	h, err := o.openUndumpable(e)
	if err != nil {
		return nil, explain(err)
	}
	defer h.Close()
	hosts, err := h.deployer.Looker().Drift(ctx, o.req)
	return hosts, explain(err)
}

// lookVerbs are those that look at hosts.
func (s *serving) lookVerbs() {
	look := s.app.deployer.Looker()
	server.Handle(s.server, "drift", func(ctx context.Context, _ server.Caller, in drift.Request, _ func(any)) ([]drift.HostDrift, error) {
		hosts, err := look.Drift(ctx, in)
		return hosts, overSocket(err)
	})
	server.Handle(s.server, "host-pull", func(ctx context.Context, _ server.Caller, in pullRequest, _ func(any)) (*drift.Pulled, error) {
		p, err := look.Pull(ctx, in.Host, in.Path)
		return p, overSocket(err)
	})
}

func printDrift(w io.Writer, p paint, hosts []drift.HostDrift, now time.Time) {
	for _, h := range hosts {
		fmt.Fprintf(w, "%s: %s\n", p.bold(h.Name), driftWords(p, &h))
		for _, one := range h.Drift {
			printDifference(w, p, one)
		}
		if h.More > 0 {
			fmt.Fprintf(w, "  and %d more\n", h.More)
		}
		for _, key := range h.KeysMissing {
			fmt.Fprintf(w, "  key %s: %s\n", key, p.red("missing"))
		}
		for _, u := range h.Failed {
			fmt.Fprintf(w, "  unit %s: %s (%s) %s: bellhop logs %s %s\n", u.Name, p.red("failed"), u.Result, agoOr(now, u.Since), h.Name, strings.TrimSuffix(u.Name, ".service"))
		}
		if h.RebootRequired {
			fmt.Fprintf(w, "  %s: bellhop reboot %s\n", p.yellow("reboot required"+inBrackets(or(h.RebootReason, ""))), h.Name)
		}
	}
	if len(hosts) == 0 {
		fmt.Fprintln(w, "no host yet")
	}
}

func inBrackets(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

// driftWords is what came of a look at a host, in a few words.
func driftWords(p paint, h *drift.HostDrift) string {
	switch h.State {
	case drift.OK:
		if n := len(h.Drift) + h.More; n > 0 {
			return p.yellow(verbed(n, "differs", "differ"))
		}
		return p.green("nothing differs")
	case drift.Never:
		return p.dim("nothing was deployed there yet")
	case drift.Away:
		return p.yellow("does not answer: " + indentRest(or(h.Error, ""), "  "))
	case drift.Unknown:
		return p.dim("unknown: " + or(h.Error, ""))
	}
	return p.yellow(indentRest(or(h.Error, h.State), "  "))
}

// verbed is a number of things and what they do.
func verbed(n int, one, many string) string {
	if n == 1 {
		return "1 thing " + one
	}
	return fmt.Sprintf("%d things %s", n, many)
}

// differenceWords says how one thing differs.
func differenceWords(one drift.Difference) string {
	switch {
	case one.What == bundle.DriftDropIn:
		return "has the drop-in " + or(one.Is, "") + ", which is not bellhop's: no push takes it away"
	case one.What == bundle.DriftJoined:
		return "joined the groups " + or(one.Is, "") + ": no push takes it out of them, gpasswd -d " + one.Name + " GROUP does"
	case one.What == bundle.DriftShell:
		return "has the shell " + or(one.Is, "") + ", and should have none: no push changes it, usermod -s /usr/sbin/nologin " + one.Name + " does"
	case one.Want != nil || one.Is != nil:
		return fmt.Sprintf("%s: it is %s, and should be %s", one.What, or(one.Is, "nothing"), or(one.Want, "nothing"))
	}
	return one.What
}

func printDifference(w io.Writer, p paint, one drift.Difference) {
	fmt.Fprintf(w, "  %s %s: %s\n", one.Kind, one.Name, p.yellow(differenceWords(one)))
	if one.Why != nil {
		fmt.Fprintf(w, "    %s\n", p.dim("no diff: "+*one.Why))
	}
	if one.Diff == nil {
		return
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(*one.Diff, "\n"), "\n") {
		fmt.Fprintf(w, "    %s\n", line)
	}
}
