// Package inventory has the hosts of a fleet, as bellhop.yaml and hosts/*.yaml make them.
//
// A host is what all, the groups of its tags and its own lines say together: a group wins over all, the
// host over both, and two groups that differ are a problem unless the host decides. An inventory says
// which services each host wants, and with which settings; it has not looked at a service.
package inventory

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/yaml"
)

// Facts is a host as its own lines, its groups and all say, before services are looked at.
type Facts struct {
	Host    Host
	Enabled []EnabledService // switched on, by service
	file    *yaml.File
	at      problem.Pos // of the name
	after   yaml.List   // as written
}

// An EnabledService is one service switched on for a host, with the settings that differ from its defaults.
type EnabledService struct {
	Service string
	Set     []Setting
	Key     string // equal for equal settings
}

type Setting struct {
	Name  string
	Value any
}

// A Place is a switch in the config, to be checked against its service.
type Place struct {
	File   *yaml.File
	Name   string
	At     problem.Pos
	Switch *syntax.Switch
}

// Inventory is bellhop.yaml and hosts/*.yaml, parsed and merged. It knows nothing of services.
type Inventory struct {
	Hash     string
	Network  string
	Deployer string
	Readers  Readers
	Rollout  Rollout
	Confirm  time.Duration
	Look     time.Duration
	Isolate  bool
	Pinned   bool     // images without a digest are refused
	Notify   []Notify // by name

	Registries []Registry // by name
	MainFile   *yaml.File // bellhop.yaml, where it has registries
	Hosts      []*Facts   // by name
	ByName     map[string]int
	Users      map[string][]int   // service, to hosts that switch it on
	Places     map[string][]Place // service, to every switch of it
	Problems   problem.Problems
}

// maker builds a config from parsed files.
type maker struct {
	*Inventory
	main   *yaml.File
	file   *syntax.Fleet
	groups map[string]*syntax.Group
	bases  map[string]*base // by tags
}

// HostFile is one hosts/*.yaml as parsed.
type HostFile struct {
	Name   string
	Source *yaml.File
	Parsed syntax.Host
}

// New merges main with the hosts that have a file of their own.
func New(main *yaml.File, file *syntax.Fleet, own []*HostFile) *Inventory {
	m := &maker{Inventory: &Inventory{ByName: map[string]int{}, Users: map[string][]int{}, Places: map[string][]Place{}},
		main: main, file: file, groups: map[string]*syntax.Group{}, bases: map[string]*base{}}
	m.top()
	for i := range file.Groups {
		g := &file.Groups[i]
		m.goodName(main, g.At, "group", g.Key)
		m.groups[g.Key] = &g.Value
		m.switches(main, g.Value.Services)
	}

	m.switches(main, file.All.Services)
	for i := range file.Hosts {
		h := &file.Hosts[i]
		m.host(main, h.Key, h.At, &h.Value)
	}

	for _, o := range own {
		m.host(o.Source, o.Name, problem.Pos{Line: 1, Column: 1}, &o.Parsed)
	}
	m.finish()
	m.Problems = append(m.Problems, main.Problems...)
	for _, o := range own {
		m.Problems = append(m.Problems, o.Source.Problems...)
	}
	return m.Inventory
}

func (m *maker) report(t *yaml.File, at problem.Pos, format string, args ...any) {
	m.Problems = append(m.Problems, problem.At(t.Name, t.Data, at, format, args...))
}

func (m *maker) warn(t *yaml.File, at problem.Pos, format string, args ...any) {
	p := problem.At(t.Name, t.Data, at, format, args...)
	p.Warning = true
	m.Problems = append(m.Problems, p)
}

func (m *maker) goodName(t *yaml.File, at problem.Pos, what, name string) {
	if err := syntax.CheckName(what, name); err != nil {
		m.report(t, at, "%v", err)
	}
}

// top checks what bellhop.yaml has beside hosts.
func (m *maker) top() {
	f := m.file
	m.Network = f.Network.S
	switch {
	case m.main.Broken:
	case m.Network == "" && f.Network.At.Line == 0:
		m.report(m.main, problem.Pos{Line: 1, Column: 1}, "network is missing: give the fleet a name, as in network: hexagone")
	case !syntax.IsName(m.Network):
		m.report(m.main, f.Network.At, "bad name %q for a network: %s", m.Network, syntax.NameWords)
	}

	if f.Deployer.S != "" {
		if key, err := sshKey(f.Deployer.S); err != nil {
			m.report(m.main, f.Deployer.At, "deployer: %v", err)
		} else {
			m.Deployer = key
		}
	}

	m.readReaders()
	m.readRollout()

	var bad string
	if m.Confirm, bad = f.ConfirmTime(); bad != "" {
		m.report(m.main, f.Confirm.At, "%s", bad)
	}
	if m.Look, bad = f.LookTime(); bad != "" {
		m.report(m.main, f.Look.At, "%s", bad)
	}
	m.Isolate = f.Isolate == nil || *f.Isolate
	if m.Pinned = f.Images.S == "pinned"; !m.Pinned && f.Images.At.Line > 0 {
		m.report(m.main, f.Images.At, "images %q: want pinned, or leave it out", f.Images.S)
	}
}

// sshKey is a public key as "type base64".
func sshKey(s string) (string, error) {
	key, _, opts, rest, err := ssh.ParseAuthorizedKey([]byte(s))
	if err != nil || len(opts) > 0 || len(rest) > 0 {
		return "", fmt.Errorf("not an SSH public key; want one line as in /etc/ssh/ssh_host_ed25519_key.pub")
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), nil
}

// switches notes where services are switched, to be checked against the services.
func (m *maker) switches(t *yaml.File, es yaml.Entries[syntax.Switch]) {
	for i := range es {
		m.Places[es[i].Key] = append(m.Places[es[i].Key], Place{t, es[i].Key, es[i].At, &es[i].Value})
	}
}

// host adds one host.
func (m *maker) host(t *yaml.File, name string, at problem.Pos, f *syntax.Host) {
	m.goodName(t, at, "host", name)
	m.switches(t, f.Services)
	h := &Facts{file: t, at: at, Host: Host{Name: name}}
	tags := slices.Clone(f.Tags.Strings())
	for _, s := range f.Tags {
		m.goodName(t, s.At, "tag", s.S)
	}
	slices.Sort(tags)
	h.Host.Tags = slices.Compact(tags)
	b := m.base(h.Host.Tags)
	h.Host.Arch = cmp.Or(f.Arch.S, b.arch)
	h.Host.User = cmp.Or(f.User.S, b.user, "root")
	h.Host.Jump = f.Jump.S
	if h.Host.Jump == "" && b.jump != name {
		h.Host.Jump = b.jump
	}
	m.reach(t, at, f, h)
	m.nixos(t, f, h)
	m.order(t, f, h)
	m.decide(t, at, f, b, h)
	h.Host.Vars = m.vars(name, b, f.Vars)
	m.Hosts = append(m.Hosts, h)
}

// reach reads how the host is reached.
func (m *maker) reach(t *yaml.File, at problem.Pos, f *syntax.Host, h *Facts) {
	name := h.Host.Name
	if len(f.Address) == 0 {
		m.report(t, at, "host %s has no address", name)
	}
	for _, a := range f.Address {
		addr, err := syntax.Address(a.S)
		if err != nil {
			m.report(t, a.At, "host %s: address %q: %v", name, a.S, err)
			continue
		}

		h.Host.Addresses = append(h.Host.Addresses, addr)
	}

	if len(f.HostKey) == 0 {
		m.report(t, at, "host %s has no host_key: bellhop never trusts a key it was not told; `bellhop host add` writes it", name)
	}
	for _, k := range f.HostKey {
		key, err := sshKey(k.S)
		if err != nil {
			m.report(t, k.At, "host %s: host_key: %v", name, err)
			continue
		}

		h.Host.HostKeys = append(h.Host.HostKeys, key)
	}

	if a := h.Host.Arch; a != "" {
		if hint := syntax.ArchHint(a); hint != "" {
			m.report(t, cmp.Or(f.Arch.At, at), "host %s: %s", name, hint)
		}
	}

	if !syntax.IsAccount(h.Host.User) {
		m.report(t, cmp.Or(f.User.At, at), "host %s: bad name %q for a user: %s", name, h.Host.User, syntax.AccountWords)
	}
}

// nixos reads which NixOS system the host runs.
func (m *maker) nixos(t *yaml.File, f *syntax.Host, h *Facts) {
	if f.NixOS.At.Line == 0 {
		return
	}
	if bad, at := f.NixOS.Trouble(); bad != "" {
		m.report(t, at, "host %s: nixos: %s", h.Host.Name, bad)
		return
	}
	h.Host.NixOS = &NixOS{Attr: f.NixOS.Attr.S, File: f.NixOS.File.S, OnHost: f.NixOS.OnHost()}
}

// finish checks hosts against each other, and indexes them.
func (m *maker) finish() {
	slices.SortStableFunc(m.Hosts, func(a, b *Facts) int { return strings.Compare(a.Host.Name, b.Host.Name) })
	lower := make(map[string]*Facts, len(m.Hosts))
	addrs := make(map[string]*Facts, len(m.Hosts))
	tags := map[string]bool{}
	for i, h := range m.Hosts {
		if was, dup := lower[strings.ToLower(h.Host.Name)]; dup {
			m.report(h.file, h.at, "host %s stands in %s too%s", h.Host.Name, was.place(), caseWords(was.Host.Name, h.Host.Name))
		}
		lower[strings.ToLower(h.Host.Name)] = h
		m.ByName[h.Host.Name] = i
		for _, a := range h.Host.Addresses {
			key := h.Host.Jump + "\x00" + a
			if was, dup := addrs[key]; dup {
				m.report(h.file, h.at, "hosts %s and %s have one address, %s", was.Host.Name, h.Host.Name, a)
			}
			addrs[key] = h
		}

		for _, tag := range h.Host.Tags {
			tags[tag] = true
		}
		for _, w := range h.Enabled {
			m.Users[w.Service] = append(m.Users[w.Service], i)
		}
	}

	m.jumps()
	m.orders()
	m.readNotify()
	m.readRegistries()
	names, hints := slices.Sorted(maps.Keys(tags)), problem.Hints{}
	for _, g := range m.file.Groups {
		if !tags[g.Key] {
			m.warn(m.main, g.At, "no host has the tag %s%s", g.Key, hints.DidYouMean(g.Key, names))
		}
	}
}

func caseWords(a, b string) string {
	if a != b {
		return " as " + a + ", which differs only by case"
	}
	return ""
}

func (h *Facts) place() string { return fmt.Sprintf("%s:%d", h.file.Name, h.at.Line) }

// jumps checks that every way through other hosts exists and ends.
func (m *maker) jumps() {
	names, hints := slices.Sorted(maps.Keys(m.ByName)), problem.Hints{}
	ends := make([]jumpState, len(m.Hosts))
	for i, h := range m.Hosts {
		at := h.Host.Jump
		if at == "" {
			continue
		}
		if _, ok := m.ByName[at]; !ok {
			m.report(h.file, h.at, "host %s: jump %q is no host of the fleet%s", h.Host.Name, at, hints.DidYouMean(at, names))
			continue
		}

		if m.circles(i, ends) {
			m.report(h.file, h.at, "host %s: jump goes round in a circle", h.Host.Name)
		}
	}
}

// A jumpState says what is known of a host's way.
type jumpState uint8

const (
	unseenJump jumpState = iota
	openJump             // being followed
	goodJump             // it ends
	roundJump            // it leads into a circle, or is part of one
)

// circles says whether the way to host i leads back to a host on it. Each host is followed once.
func (m *maker) circles(first int, ends []jumpState) bool {
	var way []int
	end := goodJump
	for i, more := first, true; more; {
		if ends[i] == openJump || ends[i] == roundJump {
			end = roundJump
			break
		}

		if ends[i] == goodJump {
			break
		}
		ends[i] = openJump
		way = append(way, i)
		i, more = m.ByName[m.Hosts[i].Host.Jump]
	}

	for _, i := range way {
		ends[i] = end
	}
	return ends[first] == roundJump
}
