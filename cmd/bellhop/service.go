package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bellhop/internal/bundle"
	"bellhop/internal/causes"
	"bellhop/internal/history"
	"bellhop/internal/history/services"
	"bellhop/server"
)

// Services and the hosts that have them, as they were deployed, or as a config repo wants them.

func serviceCmd(e *Env) *cobra.Command {
	return group(groupHosts, "service", "List services", serviceListCmd(e))
}

func serviceListCmd(e *Env) *cobra.Command {
	var f lookFlags
	var tree string
	c := &cobra.Command{
		Use: "list [HOST...]", Short: "List services: the hosts that have them, their commit, state and units",
		Long: `List services: the hosts that have them, and on each its commit, its state and its units, as they
were deployed. With --tree it lists what the config in a folder wants instead, and asks no server.`,
		Example: "  bellhop service list\n  bellhop service list '@bots' --json\n  bellhop service list --tree .",
		RunE: func(c *cobra.Command, args []string) error {
			if tree == "" && serverOf(c) != "" {
				return overSSH(e, c)
			}
			var err error
			if f.on, err = chosen(c, f.on, args); err != nil {
				return err
			}
			return runServiceList(e, c.Context(), &f, tree)
		},
	}
	c.Annotations = map[string]string{hereFirst: "--tree"}
	f.flags(c)
	c.Flags().StringVar(&tree, "tree", "", "list what the config in this folder wants, deployed or not")
	return c
}

// A serviceList is services by name. Its JSON is a contract: what does not exist is null, and no list is.
type serviceList struct {
	V        int             `json:"v"`
	Commit   *string         `json:"commit"` // of the fleet; null for a folder
	Services []listedService `json:"services"`
}

type listedService struct {
	Name  string          `json:"name"`
	Hosts []serviceOnHost `json:"hosts"`
}

// A serviceOnHost is one service on one host.
type serviceOnHost struct {
	Name      string          `json:"name"`       // of the host
	Commit    *string         `json:"commit"`     // that the service is at; null when it is not there yet
	State     *services.State `json:"state"`      // current, held-back or failed; null for a folder
	HostState *history.State  `json:"host_state"` // of the host as a whole; null for a folder
	Error     *string         `json:"error"`
	Units     []string        `json:"units"`
}

func runServiceList(e *Env, ctx context.Context, f *lookFlags, tree string) error {
	list, err := readServiceList(ctx, f, tree)
	if err != nil {
		return err
	}
	if f.json {
		return e.writeJSON(list)
	}
	printServices(e.Stdout, e.outPaint(), list)
	return nil
}

func readServiceList(ctx context.Context, f *lookFlags, tree string) (list serviceList, err error) {
	if tree != "" {
		return wantedServices(tree, f.on)
	}
	client, err := dial(f.stateDir)
	if err != nil {
		return list, err
	}
	if client != nil {
		defer client.Close()
		list, err = server.Call[serviceList](ctx, client, "services", onRequest{f.on}, nil)
		return list, fromSocket(err)
	}

	err = f.read(func(db *history.DB) error {
		list, err = deployedServices(ctx, db, f.on)
		return err
	})
	return list, err
}

// deployedServices lists the services of the hosts that on names, as history has them.
func deployedServices(ctx context.Context, db *history.DB, on string) (serviceList, error) {
	s, err := pickHosts(ctx, db, on)
	if err != nil {
		return serviceList{}, err
	}

	l := lister{}
	for _, h := range s.Hosts {
		m, _, err := db.Manifest(h.Name)
		if err != nil {
			return serviceList{}, err
		}
		if m == nil {
			m = &bundle.Manifest{}
		}
		l.addHost(h, m)
	}
	return l.list(s.Commit), nil
}

// wantedServices lists the services that the config in dir switches on.
func wantedServices(dir, on string) (serviceList, error) {
	at, err := configDir(dir)
	if err != nil {
		return serviceList{}, err
	}
	f, err := loadOffline(at)
	if err != nil {
		return serviceList{}, err
	}
	hosts, err := f.Select(on)
	if err != nil {
		return serviceList{}, fmt.Errorf("choose hosts: %w", err)
	}

	l := lister{}
	for _, h := range hosts {
		b, err := f.Bundle(h.Name)
		if err != nil {
			return serviceList{}, err
		}
		for _, name := range b.Manifest.ServiceNames() {
			l.add(name, serviceOnHost{Name: h.Name, Units: unitsOf(&b.Manifest, name)})
		}
	}
	return l.list(nil), nil
}

// A lister gathers services by name.
type lister map[string][]serviceOnHost

func (l lister) add(service string, on serviceOnHost) { l[service] = append(l[service], on) }

// addHost adds the services of a host: those of its manifest, and those that could not be brought there.
func (l lister) addHost(h history.HostStatus, m *bundle.Manifest) {
	names := m.ServiceNames()
	for _, s := range h.Services {
		if !slices.Contains(names, s.Name) {
			names = append(names, s.Name)
		}
	}

	for _, name := range names {
		one := serviceOnHost{Name: h.Name, Commit: h.Commit, State: new(services.Current), HostState: &h.State, Units: unitsOf(m, name)}
		if i := slices.IndexFunc(h.Services, func(s services.Status) bool { return s.Name == name }); i >= 0 {
			s := h.Services[i]
			one.Commit, *one.State, one.Error = s.Commit, s.State, s.Error
		}
		l.add(name, one)
	}
}

func (l lister) list(commit *string) serviceList {
	list := serviceList{V: history.Version, Commit: commit, Services: []listedService{}}
	for name, hosts := range l {
		slices.SortFunc(hosts, func(a, b serviceOnHost) int { return cmp.Compare(a.Name, b.Name) })
		list.Services = append(list.Services, listedService{name, hosts})
	}
	slices.SortFunc(list.Services, func(a, b listedService) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// unitsOf are the units of a service, less those of its keys.
func unitsOf(m *bundle.Manifest, service string) []string {
	units := []string{}
	for _, u := range m.Units {
		if u.Service == service && !u.KeyUnit {
			units = append(units, u.Name)
		}
	}
	slices.Sort(units)
	return units
}

func printServices(w io.Writer, p paint, list serviceList) {
	if len(list.Services) == 0 {
		fmt.Fprintln(w, "no host has a service")
		return
	}

	var t table
	var errs []causes.Error
	t.painted(func(_ int, c string) string { return p.dim(c) }, "SERVICE", "HOST", "COMMIT", "STATE", "UNITS")
	for _, s := range list.Services {
		for _, h := range s.Hosts {
			t.painted(p.serviceHue(h), s.Name, h.Name, short(or(h.Commit, "–")), stateText(h), cmp.Or(strings.Join(h.Units, " "), "–"))
			if h.Error != nil {
				errs = append(errs, causes.Error{Host: h.Name + ": " + s.Name, Text: *h.Error})
			}
		}
	}

	t.write(w)
	if len(errs) > 0 {
		fmt.Fprintln(w)
	}
	printCauses(w, p, "", causes.Fold(errs, ""))
}

// stateText is the state of a service, and that of its host where the service says nothing of it.
func stateText(h serviceOnHost) string {
	text := string(or(h.State, "wanted"))
	saysAll := or(h.State, "") != services.Current || or(h.HostState, "") == history.Current || or(h.HostState, "") == history.HeldBack
	if !saysAll {
		text += ", host " + string(*h.HostState)
	}
	return text
}

func (p paint) serviceHue(h serviceOnHost) func(int, string) string {
	return func(col int, c string) string {
		if col == 3 && h.State != nil {
			return p.state(history.State(*h.State), c)
		}
		return c
	}
}

// completeHostsAndServices offers hosts, and behind them the services that those have too.
func completeHostsAndServices(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	hosts, how := completeHosts(c, args, word)
	if len(args) == 0 && c.Flags().Lookup("on").Value.String() == "" {
		return hosts, how
	}

	var services []string
	list, err := readServiceList(c.Context(), &lookFlags{stateDir: reachOf(c).stateDir}, "")
	if err != nil {
		list, _ = wantedServices(reachOf(c).dir, "")
	}
	for _, s := range list.Services {
		services = append(services, s.Name)
	}
	return append(services, hosts...), how
}
