package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bellhop/internal/bundle"
	"bellhop/internal/history"
	"bellhop/internal/link"
	"bellhop/internal/unitlog"
)

// logs: the journal of hosts. A unit that a host does not have is an error, since an empty journal
// would look like a quiet unit.

type logsOptions struct {
	reach
	on, since string
	follow    bool
	lines     int
	unit      string              // "": the whole journal
	services  map[string][]string // units by host, where unit is the name of a service there
	stacks    map[string]composed // by host, where what is named is a compose service there, or a container of one
}

// A composed is a compose service whose containers are shown, or one container of it.
type composed struct {
	project   string
	container string // "": all
}

func logsCmd(e *Env) *cobra.Command {
	var o logsOptions
	c := &cobra.Command{
		Use: "logs HOST... [UNIT|SERVICE]", Short: "Show the journal of hosts, or of one unit or service on them", GroupID: groupHosts,
		Long: `Show the journal of hosts, or of one unit or service on them. The last argument is the unit, whose
.service may be left out, or a service, which means all of its units: to see only the unit of that
name, write its .service. Of a compose service it shows what the containers wrote; SERVICE:CONTAINER is
one of them. Of several hosts each line begins with the host's name; one that does not
answer, or does not have the unit, is named, the others go on, and the exit code is not 0.`,
		Example: "  bellhop logs chrysalis withinbot -f\n  bellhop logs '@bots' withinbot --since today\n  bellhop logs chrysalis",
		RunE: func(c *cobra.Command, args []string) error {
			if o.lines < 0 {
				return usage(c, "--lines %d: want at least 0", o.lines)
			}

			hosts, unit := splitLast(args, o.on)
			expr, err := chosenSome(c, o.on, hosts, "bellhop logs HOST... [UNIT|SERVICE]")
			if err != nil {
				return err
			}

			ts, err := o.targets(expr)
			if err != nil {
				return err
			}

			o.choose(expr, unit)
			return logs(e, c.Context(), &o, ts)
		},
	}
	o.flags(c)
	onFlagNeeded(c, &o.on)
	c.Flags().BoolVarP(&o.follow, "follow", "f", false, "go on as lines come")
	c.Flags().IntVarP(&o.lines, "lines", "n", 100, "how many lines of each host")
	c.Flags().StringVar(&o.since, "since", "", "show lines from this time on, as journalctl takes it: today, '2 hours ago'")
	c.ValidArgsFunction = completeLogs
	return c
}

// splitLast tells hosts from what is on them, a unit or a service: it is the last of two or more words, or of any
// with --on.
func splitLast(args []string, on string) (hosts []string, what string) {
	if last := len(args) - 1; last > 0 || last == 0 && on != "" {
		return args[:last], args[last]
	}
	return args, ""
}

// choose takes what was named as a service on those of the hosts that have one of that name, else as a unit.
func (o *logsOptions) choose(expr, name string) {
	o.unit, o.services, o.stacks = unitName(name), map[string][]string{}, map[string]composed{}
	if name == "" || o.unit == name {
		return
	}
	service, container, _ := strings.Cut(name, ":")
	o.manifests(expr, func(host string, m *bundle.Manifest) {
		if s := m.ServiceOf(service); s.Compose != nil {
			o.stacks[host] = composed{s.Compose.Project, container}
			return
		}
		if units := unitsOf(m, name); len(units) > 0 {
			o.services[host] = units
		}
	})
}

// unitsOn are the units whose journal is shown of a host; none means all that it has.
func (o *logsOptions) unitsOn(host string) []string {
	if units := o.services[host]; len(units) > 0 {
		return units
	}
	if o.unit == "" {
		return nil
	}
	return []string{o.unit}
}

// unitTypes are the endings of names of units.
var unitTypes = []string{".service", ".socket", ".timer", ".path", ".mount", ".automount", ".swap", ".target", ".slice", ".scope", ".device"}

// unitName is a unit as systemd names it: .service may be left out, and a template means all its
// instances.
func unitName(name string) string {
	isWhole := name == "" || strings.HasPrefix(name, "/") || slices.ContainsFunc(unitTypes, func(t string) bool { return strings.HasSuffix(name, t) })
	if !isWhole {
		name += ".service"
	}
	return strings.Replace(name, "@.", "@*.", 1)
}

func logs(e *Env, ctx context.Context, o *logsOptions, ts []link.Target) error {
	pool, err := e.pool(&o.reach)
	if err != nil {
		return err
	}
	defer pool.Close()

	if len(ts) == 1 {
		if err := o.need(e, ctx, pool, ts[0]); err != nil {
			return interruptedOr(ctx, err)
		}
		return remoteOn(e, ctx, pool, ts[0], journalLine(o, ts[0].Name), rawUnlessShown(e.Stdout), rawUnlessShown(e.Stderr))
	}

	parallel := 10
	if o.follow {
		parallel = len(ts)
	}

	out := e.columns(ts)
	codes := link.Each(ctx, ts, parallel, func(ctx context.Context, t link.Target) int {
		err := o.need(e, ctx, pool, t)
		if err == nil {
			return out.run(ctx, pool, t, journalLine(o, t.Name))
		}
		if ctx.Err() == nil {
			_, errs := out.of(t.Name)
			fmt.Fprintln(errs, textOf(err))
		}

		return exitError
	})
	return worst(ctx, codes)
}

func interruptedOr(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return exit(exitInterrupted)
	}
	return err
}

// errNoUnit says that a host has no unit of that name, and no line of one in its journal.
var errNoUnit = errors.New("there is no such unit, and no line of one in the journal")

// need asks a host whether it has what is to be shown. Of a compose service, and of units of users, the repo says it.
func (o *logsOptions) need(e *Env, ctx context.Context, pool *link.Pool, t link.Target) error {
	if _, ok := o.stacks[t.Name]; ok || unitlog.OfUsers(o.unitsOn(t.Name)) {
		return nil
	}
	return needUnits(e, ctx, pool, t, o.unitsOn(t.Name))
}

// needUnits asks a host whether it has one of units.
func needUnits(e *Env, ctx context.Context, pool *link.Pool, t link.Target, units []string) (err error) {
	for _, unit := range units {
		if err = needUnit(e, ctx, pool, t, unit); !errors.Is(err, errNoUnit) {
			return err
		}
	}
	return err
}

// needUnit asks a host whether it has a unit: one that is installed and never ran has, and so has
// one that left and whose lines are still in the journal.
func needUnit(e *Env, ctx context.Context, pool *link.Pool, t link.Target, unit string) error {
	ask := func(args ...string) (string, int, error) {
		var out bytes.Buffer
		code, err := pool.Exec(ctx, t, shellLine(args), strings.NewReader(""), &out, nil)
		return strings.TrimSpace(out.String()), code, err
	}

	there := ""
	var err error
	if strings.ContainsAny(unit, "*?[") {
		there, _, err = ask("systemctl", "list-units", "--all", "--plain", "--no-legend", "--no-pager", "--", unit)
	} else {
		var state string
		var code int
		state, code, err = ask("systemctl", "show", "--property=LoadState", "--value", "--", unit)
		if words := strings.Fields(state); code != 0 || len(words) == 0 || words[len(words)-1] != "not-found" { // a login shell may print before
			there = "loaded"
		}
	}

	if err == nil && there == "" {
		there, _, err = ask("journalctl", "--quiet", "--no-pager", "-n", "1", "-o", "cat", "-u", unit)
	}
	if err != nil {
		return fmt.Errorf("look for %s on %s: %w", unit, t.Name, err)
	}
	if there == "" {
		return hint(fmt.Errorf("logs of %s on %s: %w", unit, t.Name, errNoUnit), "bellhop ssh %s -- systemctl list-units --all; several hosts are written before the unit", t.Name)
	}

	return nil
}

// journalLine is the command that shows the journal of a host.
func journalLine(o *logsOptions, host string) string {
	if s, ok := o.stacks[host]; ok {
		return composeLine(o, s)
	}
	args := []string{"journalctl", "--no-pager", "-n", fmt.Sprint(o.lines)}
	if o.since != "" {
		args = append(args, "--since="+o.since)
	}
	if o.follow {
		args = append(args, "-f")
	}
	return unitlog.Line(args, o.unitsOn(host), shellLine)
}

// composeLine is the command that shows what the containers of a compose service wrote. The host's date reads
// the time as journalctl would.
func composeLine(o *logsOptions, s composed) string {
	args := []string{"docker", "compose", "--ansi", "never", "-p", s.project, "logs", "--no-color", "--tail", fmt.Sprint(o.lines)}
	if o.follow {
		args = append(args, "--follow")
	}
	if s.container != "" {
		args = append(args, s.container)
	}
	if o.since == "" {
		return shellLine(args)
	}
	const since = `when=$(date -d "$1" +%Y-%m-%dT%H:%M:%S%:z) && shift && exec "$@" --since "$when"`
	return shellLine(append([]string{"sh", "-c", since, "sh", o.since}, args...))
}

// completeLogs offers hosts, and behind them the units that those have too.
func completeLogs(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	on := c.Flags().Lookup("on").Value.String()
	if len(args) == 0 && on == "" {
		return completeHosts(c, args, word)
	}

	expr, err := chosen(c, on, args)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}

	units := reachOf(c).units(expr)
	hosts, how := completeHosts(c, args, word)
	return append(units, hosts...), how
}

// units lists the units and services that hosts have of the repo, or had at the last deploy where there is no
// repo here.
func (r *reach) units(expr string) []string {
	seen := map[string]bool{}
	r.manifests(expr, func(_ string, m *bundle.Manifest) {
		for _, u := range m.Units {
			seen[strings.TrimSuffix(u.Name, ".service")] = true
		}
		for _, name := range m.ServiceNames() {
			seen[name] = true
		}
	})
	return slices.Sorted(maps.Keys(seen))
}

// manifests calls do with what each host should hold by the repo, or held at the last deploy where there is
// no repo here. What can't be read is left out.
func (r *reach) manifests(expr string, do func(host string, m *bundle.Manifest)) {
	f, err := r.config()
	if err != nil {
		return
	}
	if f == nil {
		_ = r.read(func(db *history.DB) error {
			hosts, err := selectHosts(db.Hosts(), expr)
			for _, host := range hosts {
				if m, _, err := db.Manifest(host); err == nil && m != nil {
					do(host, m)
				}
			}
			return err
		})
		return
	}

	hosts, _ := f.Select(expr)
	for _, h := range hosts {
		if b, err := f.Bundle(h.Name); err == nil {
			do(h.Name, &b.Manifest)
		}
	}
}
