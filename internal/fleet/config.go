package fleet

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

// hostFacts is a host as its own lines, its groups and all say, before services are looked at.
type hostFacts struct {
	host  Host
	wants []wish // switched on, by service
	file  *yaml.File
	at    problem.Pos // of the name
}

// A wish is one service switched on for a host, with the settings that differ from its defaults.
type wish struct {
	service string
	set     []setting
	key     string // equal for equal settings
}

type setting struct {
	name  string
	value any
}

// A place is a switch in the config, to be checked against its service.
type place struct {
	file *yaml.File
	name string
	at   problem.Pos
	sw   *syntax.Switch
}

// config is bellhop.yaml and hosts/*.yaml, parsed and merged. It knows nothing of services.
type config struct {
	hash     string
	network  string
	deployer string
	readers  Readers
	rollout  Rollout
	confirm  time.Duration
	isolate  bool
	hosts    []*hostFacts // by name
	byName   map[string]int
	users    map[string][]int   // service, to hosts that switch it on
	places   map[string][]place // service, to every switch of it
	problems problem.Problems
}

// configMaker builds a config from parsed files.
type configMaker struct {
	*config
	main   *yaml.File
	file   *syntax.Fleet
	groups map[string]*syntax.Group
	bases  map[string]*base // by tags
}

// hostText is one hosts/*.yaml as parsed.
type hostText struct {
	name string
	text *yaml.File
	file syntax.Host
}

// makeConfig merges main with the hosts that have a file of their own.
func makeConfig(main *yaml.File, file *syntax.Fleet, own []*hostText) *config {
	m := &configMaker{config: &config{byName: map[string]int{}, users: map[string][]int{}, places: map[string][]place{}},
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
		m.host(o.text, o.name, problem.Pos{Line: 1, Column: 1}, &o.file)
	}
	m.finish()
	m.problems = append(m.problems, main.Problems...)
	for _, o := range own {
		m.problems = append(m.problems, o.text.Problems...)
	}
	return m.config
}

func (m *configMaker) tell(t *yaml.File, at problem.Pos, format string, args ...any) {
	m.problems = append(m.problems, problem.At(t.Name, t.Data, at, format, args...))
}

func (m *configMaker) warn(t *yaml.File, at problem.Pos, format string, args ...any) {
	p := problem.At(t.Name, t.Data, at, format, args...)
	p.Warning = true
	m.problems = append(m.problems, p)
}

func (m *configMaker) goodName(t *yaml.File, at problem.Pos, what, name string) {
	if err := syntax.CheckName(what, name); err != nil {
		m.tell(t, at, "%v", err)
	}
}

// top checks what stands beside hosts.
func (m *configMaker) top() {
	f := m.file
	m.network = f.Network.S
	switch {
	case m.main.Broken:
	case m.network == "" && f.Network.At.Line == 0:
		m.tell(m.main, problem.Pos{Line: 1, Column: 1}, "network is missing: give the fleet a name, as in network: hexagone")
	case !syntax.IsName(m.network):
		m.tell(m.main, f.Network.At, "bad name %q for a network: %s", m.network, syntax.NameWords)
	}
	if f.Deployer.S != "" {
		if key, err := sshKey(f.Deployer.S); err != nil {
			m.tell(m.main, f.Deployer.At, "deployer: %v", err)
		} else {
			m.deployer = key
		}
	}
	m.readReaders()
	m.readRollout()

	var bad string
	if m.confirm, bad = f.ConfirmTime(); bad != "" {
		m.tell(m.main, f.Confirm.At, "%s", bad)
	}
	m.isolate = f.Isolate == nil || *f.Isolate
}

// sshKey is a public key as "type base64".
func sshKey(s string) (string, error) {
	key, _, opts, rest, err := ssh.ParseAuthorizedKey([]byte(s))
	if err != nil || len(opts) > 0 || len(rest) > 0 {
		return "", fmt.Errorf("not an SSH public key; want one line as in /etc/ssh/ssh_host_ed25519_key.pub")
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), nil
}

func (m *configMaker) readRollout() {
	f := m.file.Rollout
	m.rollout = Rollout{Parallel: 10}
	if f.Parallel.At.Line > 0 {
		m.rollout.Parallel = f.Parallel.N
		if f.Parallel.N < 1 {
			m.tell(m.main, f.Parallel.At, "rollout: parallel is %d; want 1 or more", f.Parallel.N)
		}
	}
}

// switches notes where services are switched, to be checked against the services.
func (m *configMaker) switches(t *yaml.File, es yaml.Entries[syntax.Switch]) {
	for i := range es {
		m.places[es[i].Key] = append(m.places[es[i].Key], place{t, es[i].Key, es[i].At, &es[i].Value})
	}
}

// host adds one host.
func (m *configMaker) host(t *yaml.File, name string, at problem.Pos, f *syntax.Host) {
	m.goodName(t, at, "host", name)
	m.switches(t, f.Services)
	h := &hostFacts{file: t, at: at, host: Host{Name: name}}
	tags := slices.Clone(f.Tags.Strings())
	for _, s := range f.Tags {
		m.goodName(t, s.At, "tag", s.S)
	}
	slices.Sort(tags)
	h.host.Tags = slices.Compact(tags)
	b := m.base(h.host.Tags)
	h.host.Arch = cmp.Or(f.Arch.S, b.arch)
	h.host.User = cmp.Or(f.User.S, b.user, "root")
	h.host.Jump = f.Jump.S
	if h.host.Jump == "" && b.jump != name {
		h.host.Jump = b.jump
	}
	m.reach(t, at, f, h)
	m.decide(t, at, f, b, h)
	h.host.Vars = m.vars(name, b, f.Vars)
	m.hosts = append(m.hosts, h)
}

// reach reads how the host is reached.
func (m *configMaker) reach(t *yaml.File, at problem.Pos, f *syntax.Host, h *hostFacts) {
	name := h.host.Name
	if len(f.Address) == 0 {
		m.tell(t, at, "host %s has no address", name)
	}
	for _, a := range f.Address {
		addr, err := syntax.Address(a.S)
		if err != nil {
			m.tell(t, a.At, "host %s: address %q: %v", name, a.S, err)
			continue
		}
		h.host.Addresses = append(h.host.Addresses, addr)
	}
	if len(f.HostKey) == 0 {
		m.tell(t, at, "host %s has no host_key: bellhop never trusts a key it was not told; `bellhop host add` writes it", name)
	}
	for _, k := range f.HostKey {
		key, err := sshKey(k.S)
		if err != nil {
			m.tell(t, k.At, "host %s: host_key: %v", name, err)
			continue
		}
		h.host.HostKeys = append(h.host.HostKeys, key)
	}
	if a := h.host.Arch; a != "" {
		if hint := syntax.ArchHint(a); hint != "" {
			m.tell(t, cmp.Or(f.Arch.At, at), "host %s: %s", name, hint)
		}
	}
	if !syntax.IsAccount(h.host.User) {
		m.tell(t, cmp.Or(f.User.At, at), "host %s: bad name %q for a user: %s", name, h.host.User, syntax.AccountWords)
	}
}

// finish checks hosts against each other, and indexes them.
func (m *configMaker) finish() {
	slices.SortStableFunc(m.hosts, func(a, b *hostFacts) int { return strings.Compare(a.host.Name, b.host.Name) })
	lower := make(map[string]*hostFacts, len(m.hosts))
	addrs := make(map[string]*hostFacts, len(m.hosts))
	tags := map[string]bool{}
	for i, h := range m.hosts {
		if was, dup := lower[strings.ToLower(h.host.Name)]; dup {
			m.tell(h.file, h.at, "host %s stands in %s too%s", h.host.Name, was.place(), caseWords(was.host.Name, h.host.Name))
		}
		lower[strings.ToLower(h.host.Name)] = h
		m.byName[h.host.Name] = i
		for _, a := range h.host.Addresses {
			key := h.host.Jump + "\x00" + a
			if was, dup := addrs[key]; dup {
				m.tell(h.file, h.at, "hosts %s and %s have one address, %s", was.host.Name, h.host.Name, a)
			}
			addrs[key] = h
		}
		for _, tag := range h.host.Tags {
			tags[tag] = true
		}
		for _, w := range h.wants {
			m.users[w.service] = append(m.users[w.service], i)
		}
	}
	m.jumps()
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

func (h *hostFacts) place() string { return fmt.Sprintf("%s:%d", h.file.Name, h.at.Line) }

// jumps checks that every way through other hosts exists and ends.
func (m *configMaker) jumps() {
	names, hints := slices.Sorted(maps.Keys(m.byName)), problem.Hints{}
	ends := make([]jumpState, len(m.hosts))
	for i, h := range m.hosts {
		at := h.host.Jump
		if at == "" {
			continue
		}
		if _, ok := m.byName[at]; !ok {
			m.tell(h.file, h.at, "host %s: jump %q is no host of the fleet%s", h.host.Name, at, hints.DidYouMean(at, names))
			continue
		}
		if m.circles(i, ends) {
			m.tell(h.file, h.at, "host %s: jump goes round in a circle", h.host.Name)
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

// circles tells whether the way to host i leads back to a host on it. Each host is followed once.
func (m *configMaker) circles(first int, ends []jumpState) bool {
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
		i, more = m.byName[m.hosts[i].host.Jump]
	}
	for _, i := range way {
		ends[i] = end
	}
	return ends[first] == roundJump
}
