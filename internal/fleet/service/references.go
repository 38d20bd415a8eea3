package service

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/unitfile"
)

// A refKind is what a unitRef names.
type refKind int

const (
	refUnit    refKind = iota // a unit, of the repo or of systemd
	refAccount                // a user or group
	refKey                    // a path below /run/keys
)

// A Ref is a name in a unit file that somebody must make: this service, another one, or the
// host. Whether anybody does is known when all services are read.
type Ref struct {
	kind    refKind
	name    string
	problem *problem.Problem // to report when nobody does; its message lacks the hint
	hint    bool             // a unit or key of nearly that name is asked for in the message
}

// maxRefs bounds the names that are held against the repo for one file.
const maxRefs = 100

// collect notes the names in one file that somebody must make.
func (c *unitCheck) collect(u *Unit, file *unitfile.File, data []byte) {
	dynamic := false
	for _, a := range file.Assignments {
		if a.Key == "DynamicUser" {
			dynamic, _ = unitfile.ParseBool(a.Value)
		}
	}

	for _, a := range file.Assignments {
		if len(c.Refs) >= maxRefs {
			break
		}
		p := unitfile.Problem{Pos: a.Pos, Key: a.Section + "." + a.Key}
		c.programsOf(u, a, p, data)
		switch {
		case a.Section == "Install" && a.Key != "Alias" && a.Key != "DefaultInstance":
			c.wantedBy(u, a, p, data)
		case a.Section == "Service" && (a.Key == "User" || a.Key == "Group"):
			if !dynamic && c.s.owns(u) && !strings.Contains(a.Value, "%") {
				message := fmt.Sprintf("%s=%s: no service of this repo makes it (user: in service.yaml); the host must have it", a.Key, a.Value)
				c.Refs = append(c.Refs, Ref{refAccount, a.Value, c.at(u, p, data, message), false})
			}

		case holdsKeys(a):
			c.keyPaths(u, a, p, data)
		}
	}
}

// owns says whether the unit file itself is in the service's folder.
func (s *Service) owns(u *Unit) bool {
	return !u.IsDropin || slices.ContainsFunc(s.Units, func(o Unit) bool { return !o.IsDropin && o.Name == u.Name })
}

func (c *unitCheck) wantedBy(u *Unit, a unitfile.Assignment, p unitfile.Problem, data []byte) {
	words, err := unitfile.Words(a.Value)
	if err != nil {
		return // reported as a bad value
	}

	for _, name := range words[:min(len(words), maxRefs)] {
		if !unitfile.ValidName(name) || strings.Contains(name, "%") {
			continue
		}
		message := fmt.Sprintf("%s=%s: no unit of this repo or of systemd has that name; if the host has none, the unit is never started by it", a.Key, name)
		c.Refs = append(c.Refs, Ref{refUnit, name, c.at(u, p, data, message), true})
	}
}

// holdsKeys says whether a path below /run/keys in the assignment is one that is read.
func holdsKeys(a unitfile.Assignment) bool {
	switch a.Section {
	case "Service", "Socket":
		if a.Key == "EnvironmentFile" {
			return !strings.HasPrefix(a.Value, "-") // with a dash it may be missing
		}
		reads := []string{"Environment", "LoadCredential", "LoadCredentialEncrypted"}
		return strings.HasPrefix(a.Key, "Exec") || slices.Contains(reads, a.Key)
	case "Container", "Pod", "Kube", "Build":
		return true
	}

	return false
}

var keyPath = regexp.MustCompile(regexp.QuoteMeta(bundle.KeyDir) + `/[A-Za-z0-9_.@+/%$*?{-]+`)

// keyPaths notes the paths below /run/keys in a value.
func (c *unitCheck) keyPaths(u *Unit, a unitfile.Assignment, p unitfile.Problem, data []byte) {
	for _, at := range keyPath.FindAllString(a.Value, maxRefs) {
		if strings.ContainsAny(at, "%$*?{") {
			continue
		}
		at = strings.TrimRight(at, "/.")
		message := fmt.Sprintf("%s= reads %s, and no service of this repo has a key there (keys: in service.yaml)", a.Key, at)
		c.Refs = append(c.Refs, Ref{refKey, at, c.at(u, p, data, message), true})
	}
}

// activated notes the unit that a timer, socket or path unit starts.
func (c *unitCheck) activated(u *Unit, unit *unitfile.Unit, texts UnitTexts) {
	to := unit.Activates(u.Name)
	isNamed := to != "" && !strings.Contains(to, "%") && unitfile.ValidName(to)
	if u.IsQuadlet || !isNamed {
		return
	}

	if t := unitfile.TemplateOf(u.Name); t != "" && c.s.has(t) {
		return
	}

	_, kind := unitfile.SplitName(u.Name)
	key := map[string]string{"timer": "Timer.Unit", "path": "Path.Unit", "socket": "Socket.Service"}[kind]
	part, place := findKey([]*Unit{u}, texts, key)
	message := fmt.Sprintf("%s starts %s, and no unit of this repo or of systemd has that name", u.Name, to)
	c.Refs = append(c.Refs, Ref{refUnit, to, c.at(part, unitfile.Problem{Pos: place, Key: key}, texts[u.Path], message), true})
}

// Accounts that hosts have by themselves, users and groups.
var hostAccounts = strings.Fields("root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc gnats nobody nogroup _apt " +
	"systemd-network systemd-resolve systemd-timesync systemd-journal systemd-coredump systemd-oom messagebus dbus sshd polkitd " +
	"adm tty disk kmem dialout fax voice cdrom floppy tape sudo wheel audio dip operator src shadow utmp video sasl plugdev staff users input " +
	"sgx kvm render crontab netdev keys docker")

// A Names is everything that the services of a repo make.
type Names struct {
	units, accounts, keys map[string]bool
}

// makes lists what a service makes.
func (s *Service) makes() Names {
	b := Names{units: map[string]bool{}, accounts: map[string]bool{}, keys: map[string]bool{}}
	for _, u := range s.Units {
		if u.IsDropin {
			continue
		}
		b.units[u.Name] = true
		if u.IsQuadlet {
			b.units[unitfile.Read(u.Blob.Data).Generated(u.Name)] = true
		}
		for _, alias := range unitfile.Read(u.Blob.Data).Words("Install", "Alias") {
			b.units[alias] = true
		}
	}

	for _, k := range s.Keys {
		b.units[syntax.KeyUnitName(k.Name)] = true
		b.keys[k.Path] = true
	}

	if s.User != nil {
		b.accounts[s.User.Name], b.accounts[s.User.Group] = true, true
	}

	for _, g := range s.ExtraGroups {
		b.accounts[g] = true
	}

	for _, f := range s.Files {
		if strings.HasPrefix(f.Path, "/etc/sysusers.d/") && f.Blob != nil {
			addSysusers(b.accounts, f.Blob.Data)
		}
	}

	return b
}

// addSysusers adds the users and groups of a snippet for systemd-sysusers.
func addSysusers(accounts map[string]bool, data []byte) {
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 1 && strings.IndexByte("ugm", f[0][0]) >= 0 {
			accounts[f[1]] = true
		}
	}
}

// has says whether somebody makes what r names.
func (b *Names) has(r Ref) bool {
	switch r.kind {
	case refAccount:
		isNumber := strings.Trim(r.name, "0123456789") == ""
		return isNumber || b.accounts[r.name]
	case refKey:
		if b.keys[r.name] {
			return true
		}
		for path := range b.keys {
			if strings.HasPrefix(path, r.name+"/") {
				return true // the folder of keys
			}
		}
		return false
	}

	return unitfile.Vendor(r.name) || b.units[r.name] || b.units[unitfile.TemplateOf(r.name)]
}

// near is a name that was perhaps meant.
func (b *Names) near(r Ref) string {
	if r.kind == refKey {
		return unitfile.Near(r.name, slices.Sorted(maps.Keys(b.keys)))
	}

	return unitfile.Near(r.name, append(slices.Sorted(maps.Keys(b.units)), unitfile.VendorUnits()...))
}

// NewNames has what hosts have by themselves.
func NewNames() *Names {
	b := &Names{units: map[string]bool{}, accounts: map[string]bool{}, keys: map[string]bool{}}
	for _, name := range hostAccounts {
		b.accounts[name] = true
	}

	return b
}

// Add adds what s makes.
func (b *Names) Add(s *Service) {
	maps.Copy(b.units, s.made.units)
	maps.Copy(b.accounts, s.made.accounts)
	maps.Copy(b.keys, s.made.keys)
}

// Missing are the refs that nobody makes, as problems. A key that is in no service is refused: the unit
// would wait for it for ever, or fail. The rest the host may have.
func (b *Names) Missing(refs []Ref) (ps problem.Problems) {
	for _, r := range refs {
		if b.has(r) {
			continue
		}
		p := *r.problem
		p.Warning = r.kind != refKey
		if r.hint {
			if meant := b.near(r); meant != "" {
				p.Message += fmt.Sprintf("; did you mean %s?", meant)
			}
		}

		ps = append(ps, &p)
	}

	return ps
}
