package fleet

import (
	"cmp"
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

// The types below are bellhop.yaml and hosts/*.yaml as people write them; Schema describes
// the same types. Their words are explained in docs/format.

type fleetFile struct {
	Network  str                `yaml:"network" jsonschema:"required" jsonschema_description:"name of the fleet"`
	Readers  entries[list]      `yaml:"readers" jsonschema_description:"who can open the secrets: name to recipient, group to names, or path pattern to readers"`
	Verify   verifyFile         `yaml:"verify" jsonschema_description:"exceptions for secret verify"`
	Deployer str                `yaml:"deployer" jsonschema_description:"the deployer's own SSH public key"`
	All      groupFile          `yaml:"all" jsonschema_description:"every host; a group's line wins over it, a host's own over both"`
	Groups   entries[groupFile] `yaml:"groups" jsonschema_description:"by tag"`
	Hosts    entries[hostFile]  `yaml:"hosts" jsonschema_description:"by name"`
	Rollout  rolloutFile        `yaml:"rollout" jsonschema_description:"how many hosts at once"`

	Confirm    notYet `yaml:"confirm" jsonschema:"-"`
	Look       notYet `yaml:"look" jsonschema:"-"`
	Notify     notYet `yaml:"notify" jsonschema:"-"`
	Trust      notYet `yaml:"trust" jsonschema:"-"`
	Registries notYet `yaml:"registries" jsonschema:"-"`
}

type verifyFile struct {
	Allow list `yaml:"allow"`
}

type groupFile struct {
	User     str                 `yaml:"user"`
	Arch     str                 `yaml:"arch"`
	Jump     str                 `yaml:"jump"`
	Vars     entries[value]      `yaml:"vars" jsonschema_description:"values for templates"`
	Services entries[switchFile] `yaml:"services"`
}

type hostFile struct {
	Address  list                `yaml:"address" jsonschema:"required" jsonschema_description:"IP, '[v6]:port' in quotes, name or name:port; or a list tried in order"`
	HostKey  list                `yaml:"host_key" jsonschema:"required" jsonschema_description:"the pinned SSH host key, or a list of keys"`
	Arch     str                 `yaml:"arch"`
	User     str                 `yaml:"user"`
	Jump     str                 `yaml:"jump"`
	Tags     list                `yaml:"tags" jsonschema_description:"groups that the host belongs to"`
	Vars     entries[value]      `yaml:"vars" jsonschema_description:"values for templates"`
	Services entries[switchFile] `yaml:"services"`

	NixOS notYet `yaml:"nixos" jsonschema:"-"`
	After notYet `yaml:"after" jsonschema:"-"`
}

type rolloutFile struct {
	Parallel number `yaml:"parallel" jsonschema_description:"how many hosts at once; 10 by default"`

	Waves       notYet `yaml:"waves" jsonschema:"-"`
	MaxFailures notYet `yaml:"max_failures" jsonschema:"-"`
}

// A switchFile is what stands behind a service's name: true, false, or settings beside enable.
type switchFile struct {
	Enable *bool
	At     pos
	Set    entries[value]
}

// hostFacts is a host as its own lines, its groups and all say, before services are looked at.
type hostFacts struct {
	host  Host
	wants []wish // switched on, by service
	file  *text
	at    pos // of the name
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
	file *text
	name string
	at   pos
	sw   *switchFile
}

// config is bellhop.yaml and hosts/*.yaml, parsed and merged. It knows nothing of services.
type config struct {
	hash     string
	network  string
	deployer string
	readers  Readers
	rollout  Rollout
	hosts    []*hostFacts // by name
	byName   map[string]int
	users    map[string][]int   // service, to hosts that switch it on
	places   map[string][]place // service, to every switch of it
	problems Problems
}

var (
	nameRule    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	accountRule = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,30}$`)
)

const nameWords = "a letter or digit first, then letters, digits, . _ -, at most 64"
const accountWords = "a small letter or _ first, then small letters, digits, _ -, at most 31"

var arches = []string{"amd64", "arm64", "arm", "386", "riscv64", "ppc64le", "s390x", "loong64", "mips64le"}
var archAliases = map[string]string{"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armv7": "arm", "armv7l": "arm", "armhf": "arm", "i386": "386", "i686": "386"}

// archHint is "" for a name that Go knows, else what to say.
func archHint(arch string) string {
	if slices.Contains(arches, arch) {
		return ""
	}
	if a, ok := archAliases[arch]; ok {
		return fmt.Sprintf("unknown architecture %q; Go calls it %q", arch, a)
	}
	return fmt.Sprintf("unknown architecture %q; known: %s", arch, strings.Join(arches, ", "))
}

// configMaker builds a config from parsed files.
type configMaker struct {
	*config
	main   *text
	file   *fleetFile
	groups map[string]*groupFile
	bases  map[string]*base // by tags
}

// base is what all and the groups of some tags say together.
type base struct {
	user, arch, jump string
	services         map[string]merged
	vars             map[string]from
	wants            []wish // when the host itself says nothing
}

type merged struct {
	on   bool
	set  map[string]from
	onBy string // group that said on or off, "" for all
	onAt pos
}

type from struct {
	value any
	by    string // group, or "" for all
	at    pos
	clash *clash
}

// A clash is two groups that set one value differently; it is told when no host line decides.
type clash struct {
	a, b string
	at   pos
}

// hostText is one hosts/*.yaml as parsed.
type hostText struct {
	name string
	text *text
	file hostFile
}

// makeConfig merges main with the hosts that have a file of their own.
func makeConfig(main *text, file *fleetFile, own []*hostText) *config {
	m := &configMaker{config: &config{byName: map[string]int{}, users: map[string][]int{}, places: map[string][]place{}},
		main: main, file: file, groups: map[string]*groupFile{}, bases: map[string]*base{}}
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
		m.host(o.text, o.name, pos{1, 1}, &o.file)
	}
	m.finish()
	m.problems = append(m.problems, main.problems...)
	for _, o := range own {
		m.problems = append(m.problems, o.text.problems...)
	}
	return m.config
}

func (m *configMaker) tell(t *text, at pos, format string, args ...any) {
	m.problems = append(m.problems, problemAt(t.file, t.data, at, format, args...))
}

func (m *configMaker) warn(t *text, at pos, format string, args ...any) {
	p := problemAt(t.file, t.data, at, format, args...)
	p.Warning = true
	m.problems = append(m.problems, p)
}

// CheckName says what is wrong with a name for a host, a service, a key or whatever what is; nil when it
// will do.
func CheckName(what, name string) error {
	if nameRule.MatchString(name) {
		return nil
	}
	return fmt.Errorf("bad name %q for a %s: %s", name, what, nameWords)
}

func (m *configMaker) goodName(t *text, at pos, what, name string) {
	if err := CheckName(what, name); err != nil {
		m.tell(t, at, "%v", err)
	}
}

// top checks what stands beside hosts.
func (m *configMaker) top() {
	f := m.file
	m.network = f.Network.S
	switch {
	case m.main.broken:
	case m.network == "" && f.Network.At.Line == 0:
		m.tell(m.main, pos{1, 1}, "network is missing: give the fleet a name, as in network: hexagone")
	case !nameRule.MatchString(m.network):
		m.tell(m.main, f.Network.At, "bad name %q for a network: %s", m.network, nameWords)
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
}

// sshKey is a public key as "type base64".
func sshKey(s string) (string, error) {
	key, _, opts, rest, err := ssh.ParseAuthorizedKey([]byte(s))
	if err != nil || len(opts) > 0 || len(rest) > 0 {
		return "", fmt.Errorf("not an SSH public key; want one line as in /etc/ssh/ssh_host_ed25519_key.pub")
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), nil
}

func (m *configMaker) readReaders() {
	var problems Problems
	m.readers, problems = readersOf(m.main, m.file)
	m.problems = append(m.problems, problems...)
}

// readersOf parts names, groups and rules of readers:, and follows groups to recipients.
func readersOf(t *text, f *fleetFile) (Readers, Problems) {
	var problems Problems
	tell := func(at pos, format string, args ...any) {
		problems = append(problems, problemAt(t.file, t.data, at, format, args...))
	}
	hints := hints{}
	r := Readers{Names: map[string][]string{}, Allow: f.Verify.Allow.strings()}
	isRule := func(name string) bool { return strings.ContainsAny(name, "/*?[") }
	g := newReaderGroups(f.Readers)
	var names []string
	for _, e := range f.Readers {
		if !isRule(e.Key) {
			names = append(names, e.Key)
		}
	}
	for _, e := range f.Readers {
		for _, s := range e.Value {
			switch {
			case recipient(s.S) || s.S != e.Key && !isRule(s.S) && g.known(s.S):
			case strings.HasPrefix(s.S, "AGE-SECRET-KEY-"):
				// the value itself must not be repeated in a message
				p := &Problem{File: t.file, Line: s.At.Line, Column: s.At.Column, Message: "readers: " + e.Key + " is a private key: it is in git now, replace it; its public half belongs here"}
				problems = append(problems, p)
			default:
				tell(s.At, "readers: %q is no age recipient, no SSH key and no other reader%s", s.S, hints.didYouMean(s.S, names))
			}
		}
		if len(e.Value) == 0 {
			tell(e.At, "readers: %s has nobody", e.Key)
		}
		if !isRule(e.Key) {
			if !nameRule.MatchString(e.Key) {
				tell(e.At, "bad name %q for a reader: %s", e.Key, nameWords)
			}
			r.Names[e.Key] = g.expand(e.Key)
			continue
		}
		if _, err := path.Match(e.Key, ""); err != nil {
			tell(e.At, "readers: bad pattern %q", e.Key)
		}
		r.Rules = append(r.Rules, Rule{Pattern: e.Key, Readers: e.Value.strings(), File: t.file, Line: e.At.Line})
	}
	if g.spent() {
		tell(pos{1, 1}, "readers: the groups name each other too often to follow")
	}
	return r, problems
}

// recipient tells whether s looks like something that age encrypts to; secrets checks it whole.
func recipient(s string) bool {
	return strings.HasPrefix(s, "age1") || strings.HasPrefix(s, "ssh-ed25519 ") || strings.HasPrefix(s, "ssh-rsa ")
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
func (m *configMaker) switches(t *text, es entries[switchFile]) {
	for i := range es {
		m.places[es[i].Key] = append(m.places[es[i].Key], place{t, es[i].Key, es[i].At, &es[i].Value})
	}
}

// host adds one host.
func (m *configMaker) host(t *text, name string, at pos, f *hostFile) {
	m.goodName(t, at, "host", name)
	m.switches(t, f.Services)
	h := &hostFacts{file: t, at: at, host: Host{Name: name}}
	tags := slices.Clone(f.Tags.strings())
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
func (m *configMaker) reach(t *text, at pos, f *hostFile, h *hostFacts) {
	name := h.host.Name
	if len(f.Address) == 0 {
		m.tell(t, at, "host %s has no address", name)
	}
	for _, a := range f.Address {
		addr, err := address(a.S)
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
		if hint := archHint(a); hint != "" {
			m.tell(t, cmp.Or(f.Arch.At, at), "host %s: %s", name, hint)
		}
	}
	if !accountRule.MatchString(h.host.User) {
		m.tell(t, cmp.Or(f.User.At, at), "host %s: bad name %q for a user: %s", name, h.host.User, accountWords)
	}
}

var nameAddress = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9._-]{0,252})$`)

// address reads an IP, [v6]:port, name or name:port, in that order, as "host:port".
func address(s string) (string, error) {
	if ip, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(ip, 22).String(), nil
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		if ap.Port() == 0 {
			return "", fmt.Errorf("port 0")
		}
		return ap.String(), nil
	}
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		if ip, err := netip.ParseAddr(s[1 : len(s)-1]); err == nil {
			return netip.AddrPortFrom(ip, 22).String(), nil
		}
	}
	name, port, has := strings.Cut(s, ":")
	if !has {
		port = "22"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("want an IP, [v6]:port, name or name:port")
	}
	if !nameAddress.MatchString(name) || strings.Contains(name, "..") {
		return "", fmt.Errorf("want an IP, [v6]:port, name or name:port")
	}
	if digitsAndDots(name) {
		return "", fmt.Errorf("neither an IP nor a name")
	}
	return strings.ToLower(name) + ":" + port, nil
}

func digitsAndDots(s string) bool { return strings.Trim(s, "0123456789.") == "" }

// base merges all and the groups of tags, once for each set of tags.
func (m *configMaker) base(tags []string) *base {
	key := strings.Join(tags, ",")
	if b, ok := m.bases[key]; ok {
		return b
	}
	all := &m.file.All
	b := &base{user: all.User.S, arch: all.Arch.S, jump: all.Jump.S, services: map[string]merged{}, vars: map[string]from{}}
	b.take("", all.Services)
	b.takeVars("", all.Vars)
	var userBy, archBy, jumpBy string
	pick := func(into *string, by *string, group string, s str, what string) {
		if s.S == "" {
			return
		}
		if *by != "" && *into != s.S {
			m.tell(m.main, s.At, "groups %s and %s set %s differently; a host has both tags", *by, group, what)
		}
		*into, *by = s.S, group
	}
	for _, tag := range tags {
		if g, ok := m.groups[tag]; ok {
			pick(&b.user, &userBy, tag, g.User, "user")
			pick(&b.arch, &archBy, tag, g.Arch, "arch")
			pick(&b.jump, &jumpBy, tag, g.Jump, "jump")
			b.take(tag, g.Services)
			b.takeVars(tag, g.Vars)
		}
	}
	m.bases[key] = b
	return b
}

// take adds what group says (all is ""); where two groups differ, it notes the clash.
func (b *base) take(group string, es entries[switchFile]) {
	for _, e := range es {
		was, had := b.services[e.Key]
		now := merged{on: e.Value.on(), onBy: group, onAt: e.At, set: map[string]from{}}
		for k, v := range was.set {
			now.set[k] = v
		}
		if had && was.onBy != "" && was.on != now.on {
			now.set[enableWord] = from{clash: &clash{was.onBy, group, e.At}}
		}
		for _, s := range e.Value.Set {
			f := from{value: s.Value.V, by: group, at: s.At}
			if w, ok := now.set[s.Key]; ok && w.by != "" && !sameValue(w.value, f.value) {
				f.clash = &clash{w.by, group, s.At}
			}
			now.set[s.Key] = f
		}
		b.services[e.Key] = now
	}
}

// enableWord is the one setting that no service may have: it stands beside the others.
const enableWord = "enable"

func (s *switchFile) on() bool { return s.Enable == nil || *s.Enable }

// decide settles which services the host has, its own lines winning.
func (m *configMaker) decide(t *text, at pos, f *hostFile, b *base, h *hostFacts) {
	if len(f.Services) == 0 {
		if b.wants == nil {
			b.wants = m.wants(t, at, h.host.Name, b.services, nil)
		}
		h.wants = b.wants
		return
	}
	h.wants = m.wants(t, at, h.host.Name, b.services, f.Services)
}

func (m *configMaker) wants(t *text, at pos, host string, services map[string]merged, own entries[switchFile]) []wish {
	out := []wish{}
	one := func(name string, on bool, base merged, set entries[value], decided bool) {
		if c := base.set[enableWord].clash; c != nil && !decided {
			m.tell(m.main, c.at, "groups %s and %s switch service %s differently, and host %s has both tags; its own line would decide", c.a, c.b, name, host)
		}
		if !on {
			return
		}
		w := wish{service: name}
		for k, v := range base.set {
			if k == enableWord {
				continue
			}
			if _, ours := set.get(k); ours {
				continue
			}
			if v.clash != nil {
				m.tell(m.main, v.clash.at, "groups %s and %s set %s of service %s differently, and host %s has both tags; its own line would decide", v.clash.a, v.clash.b, k, name, host)
			}
			w.set = append(w.set, setting{k, v.value})
		}
		for _, e := range set {
			w.set = append(w.set, setting{e.Key, e.Value.V})
		}
		slices.SortFunc(w.set, func(a, b setting) int { return strings.Compare(a.name, b.name) })
		w.key = settingsKey(w.set)
		out = append(out, w)
	}
	for name, b := range services {
		if _, ours := own.get(name); !ours {
			one(name, b.on, b, nil, false)
		}
	}
	for i := range own {
		e := &own[i]
		one(e.Key, e.Value.on(), services[e.Key], e.Value.Set, true)
	}
	slices.SortFunc(out, func(a, b wish) int { return strings.Compare(a.service, b.service) })
	return out
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
	names, hints := sortedKeys(tags), hints{}
	for _, g := range m.file.Groups {
		if !tags[g.Key] {
			m.warn(m.main, g.At, "no host has the tag %s%s", g.Key, hints.didYouMean(g.Key, names))
		}
	}
}

func caseWords(a, b string) string {
	if a != b {
		return " as " + a + ", which differs only by case"
	}
	return ""
}

func (h *hostFacts) place() string { return fmt.Sprintf("%s:%d", h.file.file, h.at.Line) }

// jumps checks that every way through other hosts exists and ends.
func (m *configMaker) jumps() {
	names, hints := sortedKeys(m.byName), hints{}
	ends := make([]jumpState, len(m.hosts))
	for i, h := range m.hosts {
		at := h.host.Jump
		if at == "" {
			continue
		}
		if _, ok := m.byName[at]; !ok {
			m.tell(h.file, h.at, "host %s: jump %q is no host of the fleet%s", h.host.Name, at, hints.didYouMean(at, names))
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
