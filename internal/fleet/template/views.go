package template

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"bellhop/internal/fleet/tree"
)

// A Scope is what the templates of one service may look at on one host, and what they looked at.
type Scope struct {
	Settings  map[string]any
	Host      *HostView
	Fleet     *FleetView
	UsedHost  bool
	UsedFleet bool
	Budget    *tree.Budget // that executions draw from; nil: none
}

// dot is the dot of a template. Host and Fleet are methods, so that their use is
// seen: only a template that looked at the host is rendered again for each.
type dot struct {
	Settings map[string]any

	scope *Scope
}

// Host is the host that the file is for.
func (d *dot) Host() *HostView { d.scope.UsedHost = true; return d.scope.Host }

// Vars are the variables of the host.
func (d *dot) Vars() map[string]any { return d.Host().Vars }

// Fleet is all hosts.
func (d *dot) Fleet() *FleetView { d.scope.UsedFleet = true; return d.scope.Fleet }

// Format keeps every verb of printf from the fields, which hold addresses of memory.
func (d *dot) Format(f fmt.State, _ rune) { io.WriteString(f, d.String()) }

// String does the same where a template prints the value itself: text/template looks through the
// pointer, and keeps it only for a Stringer.
func (d *dot) String() string { return "bellhop" }

// A HostView is what a template may know of a host.
type HostView struct {
	Name      string
	Address   string // the first one, without a port
	Addresses []string
	Tags      []string
	Services  []string
	Vars      map[string]any
	Settings  map[string]map[string]any

	arch string
}

// NewHostView is h with the architecture that the config names; "" is none.
func NewHostView(h HostView, arch string) *HostView {
	h.arch = arch
	return &h
}

// Arch is the host's architecture as the config has it: a template sees nothing that was
// learned on a host, or one tree would give two bundles.
func (h *HostView) Arch() (string, error) {
	if h.arch == "" {
		return "", fmt.Errorf("host %s has no arch: in the config, and templates know no other", h.Name)
	}
	return h.arch, nil
}

// Has says whether the host has a tag.
func (h *HostView) Has(tag string) bool { return slices.Contains(h.Tags, tag) }

// Runs says whether a service is switched on.
func (h *HostView) Runs(service string) bool { return slices.Contains(h.Services, service) }

// Format prints the name, whatever the verb.
func (h *HostView) Format(f fmt.State, _ rune) { io.WriteString(f, h.Name) }

// String is the name, for a template that prints the host itself.
func (h *HostView) String() string { return h.Name }

// A FleetView is what a template may know of all hosts.
type FleetView struct {
	Network string
	Hosts   []*HostView // by name

	lists sync.Map // see chosen
}

// Host finds a host by name.
func (f *FleetView) Host(name string) (*HostView, error) {
	i, ok := slices.BinarySearchFunc(f.Hosts, name, func(h *HostView, name string) int { return strings.Compare(h.Name, name) })
	if !ok {
		return nil, fmt.Errorf("no host %q", name)
	}
	return f.Hosts[i], nil
}

// Tagged lists the hosts that have a tag.
func (f *FleetView) Tagged(tag string) []*HostView {
	return f.chosen("tag "+tag, func(h *HostView) bool { return h.Has(tag) })
}

// Running lists the hosts that have a service switched on.
func (f *FleetView) Running(service string) []*HostView {
	return f.chosen("service "+service, func(h *HostView) bool { return h.Runs(service) })
}

// chosen lists the hosts that fit, once for each key: a template may ask again for each host.
func (f *FleetView) chosen(key string, fits func(*HostView) bool) []*HostView {
	if known, ok := f.lists.Load(key); ok {
		return known.([]*HostView)
	}
	var out []*HostView
	for _, h := range f.Hosts {
		if fits(h) {
			out = append(out, h)
		}
	}

	f.lists.Store(key, slices.Clip(out))
	return out
}

// Format prints the network, whatever the verb.
func (f *FleetView) Format(s fmt.State, _ rune) { io.WriteString(s, f.Network) }

// String is the network, for a template that prints the fleet itself.
func (f *FleetView) String() string { return f.Network }
