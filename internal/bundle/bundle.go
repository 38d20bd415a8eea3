// Package bundle says what one host should hold, and in which messages that travels.
//
// A bundle is everything bellhop puts on one host: files, links, keys, packages,
// accounts and what systemd should do with the units among them. A manifest is the
// bundle without any secret value: it can be stored, printed and compared. A digest
// names a manifest; two bundles with one digest leave a host the same.
//
// The package is pure: types, messages, the difference of two manifests, and the rules that deployer
// and host share. It opens no file, dials no host and knows no systemd; package wire, beside it, reads
// and writes the messages. Its promise: the digest covers names, bytes, modes, owners, unit actions and
// key digests, and never a commit, a time or a version of bellhop, so neither a README nor an upgrade
// redeploys anything.
package bundle

import (
	"cmp"
	"slices"
	"strings"
)

// Format is part of every digest. Raising it makes every host differ, so a new value is a
// line in the changelog.
const Format = 1

// SealingSystemd is the first systemd with systemd-creds, which persist: sealed rests on.
const SealingSystemd = 250

// Where things stand on a host.
const (
	UnitDir      = "/etc/systemd/system"     // unit files and drop-ins
	RunUnitDir   = "/run/systemd/system"     // the same on NixOS, where UnitDir is read-only; empty after a reboot
	QuadletDir   = "/etc/containers/systemd" // *.container and its kin
	PackageDir   = "/opt/bellhop"            // a link per service: /opt/bellhop/withinbot
	KeyDir       = "/run/keys"               // keys, on a ramfs
	KeyFileDir   = "/run/keys/files"         // templates that name a key, same tree below
	StateDir     = "/var/lib/bellhop"        // record, owned list, generations, journal
	SealedDir    = "/var/lib/bellhop/sealed" // keys that survive a reboot, sealed by systemd-creds
	RecordPath   = "/var/lib/bellhop/record" // the host's own record, JSON
	KeyGroup     = "keys"                    // group of KeyDir
	ApplyUnit    = "bellhop-apply.service"   // the transient unit that is the lock
	SettleUnit   = "bellhop-settle.service"  // finishes or undoes at boot
	KeyMountUnit = "run-keys.mount"          // the ramfs
	BeforeUnits  = "bellhop-before-"         // begins the transient units of steps: bellhop-before-SERVICE.service
	ProbeUnits   = "bellhop-probe-"          // begins the transient units of probes' commands
	StoreDir     = "/opt/bellhop/.store"     // packages by digest
)

// A Manifest is what one host should hold, less the bytes. Lists are sorted by name (Sort),
// and empty lists are nil, so that equal manifests encode alike.
type Manifest struct {
	Network  string    `json:"network"` // not in the digest, nor is Host: a rename changes nothing
	Host     string    `json:"host"`
	Files    []File    `json:"files,omitempty"`
	Links    []Link    `json:"links,omitempty"`
	Keys     []Key     `json:"keys,omitempty"`
	Packages []Package `json:"packages,omitempty"`
	Groups   []string  `json:"groups,omitempty"` // groups that must exist, by name
	Users    []User    `json:"users,omitempty"`
	Units    []Unit    `json:"units,omitempty"`
	Needs    []Need    `json:"needs,omitempty"`    // commands that must be there
	Services []Service `json:"services,omitempty"` // those that are not started and judged by the defaults
	Shared   []Shared  `json:"shared,omitempty"`   // whose things are that several services claim; not in the digest
	System   *System   `json:"system,omitempty"`   // of a NixOS host; nil: it has none from bellhop
	Logins   string    `json:"logins,omitempty"`   // path of the key with the logins at registries, as docker's config.json: for pulls alone; "" for none
}

// A File is a regular file. Unit files, drop-ins, sysusers.d and tmpfiles.d snippets are
// files too: whoever lists a host's files sees all of them.
type File struct {
	Path    string `json:"path"`
	Digest  string `json:"digest"` // SHA-256 of the bytes, hex
	Size    int64  `json:"size"`   // bytes
	Mode    uint32 `json:"mode"`   // permission bits only, as in 0644
	User    string `json:"user"`   // never empty; "root" is the default
	Group   string `json:"group"`
	Service string `json:"service,omitempty"` // whose it is, for people; not in the digest
}

// A Link is a symbolic link, owned by root.
type Link struct {
	Path    string `json:"path"`
	Target  string `json:"target"`
	Service string `json:"service,omitempty"` // not in the digest
}

// A Key is a secret as it stands on a host. Its value is never in a manifest.
type Key struct {
	Name  string `json:"name"`           // "withinbot"; its unit is withinbot-key.service
	Path  string `json:"path"`           // below KeyDir
	User  string `json:"user"`           // never empty
	Group string `json:"group"`          // never empty
	Mode  uint32 `json:"mode"`           // permission bits
	Seal  bool   `json:"seal,omitempty"` // persist: sealed
	// Digest is an HMAC-SHA-256 of the value under the deployer's digest-key, hex. It serves
	// planning alone: it is emptied before a manifest goes to a host, since no digest of a
	// single value may be stored there (WithoutKeyDigests). "" means unknown.
	Digest  string `json:"digest,omitempty"`
	Source  string `json:"source,omitempty"`  // the age file in the repo, for people; not in the digest
	Service string `json:"service,omitempty"` // not in the digest
}

// A Package is an archive unpacked into the store, or a single file, reached by the link
// PackageDir/NAME.
type Package struct {
	Name    string `json:"name"`             // the service's name, and the link's
	Digest  string `json:"digest"`           // SHA-256 of the archive as fetched, hex
	Size    int64  `json:"size"`             // bytes of the archive; 0 when not fetched yet; not in the digest
	Kind    string `json:"kind"`             // one of archive.Kinds
	Strip   int    `json:"strip,omitempty"`  // leading path elements dropped while unpacking
	File    string `json:"file,omitempty"`   // of a single file: the name it gets inside the package
	As      string `json:"as,omitempty"`     // of a single file: the name that it has of itself, linked beside; not in the digest
	Named   bool   `json:"named,omitempty"`  // the config names the kind, whatever the bytes look like; not in the digest
	URL     string `json:"url,omitempty"`    // where the deployer fetches it; "" when it is a blob of the repo; not in the digest
	Source  string `json:"source,omitempty"` // path in the repo when URL is ""; not in the digest
	Service string `json:"service,omitempty"`
}

// A User is an account that must exist. bellhop makes it through sysusers.d, and changes
// with usermod what it made itself.
type User struct {
	Name    string `json:"name"`
	Group   string `json:"group"`             // primary group, by name
	Home    string `json:"home"`              // "/" when it has none
	UID     uint32 `json:"uid,omitempty"`     // 0: whatever the host gives
	GID     uint32 `json:"gid,omitempty"`     // of the group; 0: whatever the host gives
	Service string `json:"service,omitempty"` // not in the digest
}

// A Need is a command that must be on the host before anything is touched.
type Need struct {
	Command string `json:"command"`
	Service string `json:"service"`
}

// What a change does to a running unit.
const (
	Restart = "restart"
	Reload  = "reload"
	None    = "none"
)

// A Unit is what systemd should do with one unit. For foo@.service there is one for each
// instance, with the instance's name.
type Unit struct {
	Name     string   `json:"name"`
	Service  string   `json:"service,omitempty"`  // not in the digest
	Enable   bool     `json:"enable,omitempty"`   // systemctl enable: it has [Install]
	Start    bool     `json:"start,omitempty"`    // started when it failed or never ran since boot
	OnChange string   `json:"on_change"`          // Restart, Reload or None, for a running unit
	Oneshot  bool     `json:"oneshot,omitempty"`  // run again on change; inactive with success is its good state
	Foreign  bool     `json:"foreign,omitempty"`  // not ours: only drop-ins; its former enablement returns on leaving
	KeyUnit  bool     `json:"key_unit,omitempty"` // NAME-key.service: started after every push, never restarted
	Triggers []string `json:"triggers,omitempty"` // what acts on it when changed: "file:/etc/x", "link:/etc/y", "key:NAME", "package:NAME"
	Files    []string `json:"files,omitempty"`    // its unit file and drop-ins, by path
	// On holds what a trigger does where that is not OnChange: a key that names the unit under
	// restart: or reload:.
	On map[string]string `json:"on,omitempty"`
}

// Action says what the change of things, told by name as Change.Resource has them, does to u when
// it runs: Restart before Reload before None. "" is that none of them acts on it.
func (u *Unit) Action(changed func(thing string) bool) string {
	order := []string{"", None, Reload, Restart}
	act := ""
	hit := func(thing, does string) {
		if changed(thing) && slices.Index(order, does) > slices.Index(order, act) {
			act = does
		}
	}

	for _, t := range u.Triggers {
		does, ok := u.On[t]
		if !ok {
			does = cmp.Or(u.OnChange, Restart)
		}
		hit(t, does)
	}

	for _, f := range u.Files {
		hit(KindFile+":"+f, cmp.Or(u.OnChange, Restart))
		hit(KindLink+":"+f, cmp.Or(u.OnChange, Restart))
	}

	return act
}

// RecordOf is the host's own word on what stands there: RecordPath, JSON, root-only. It is
// read by every contact and wins over what history remembers.
type RecordOf[T text] struct {
	Network    T     `json:"network"`
	Host       T     `json:"host"`
	Deployer   T     `json:"deployer"`   // fingerprint of the deployer's SSH public key, SHA256:…
	Generation int64 `json:"generation"` // counts up on this host; 0 is "nothing yet"
	Digest     T     `json:"digest"`     // bundle digest as the deployer computed it
	BootID     T     `json:"boot_id"`    // of the boot in which the record was written
	// Origins are set for a composed bundle alone: the commit that each of its services came from.
	Origins []OriginOf[T] `json:"origins,omitempty"`
}

// OriginOf is the commit that one service of a composed bundle came from.
type OriginOf[T text] struct {
	Service T `json:"service"`
	Commit  T `json:"commit"`
}

// FileAt finds a file by its path; files are sorted by path. A nil manifest has none.
func (m *Manifest) FileAt(path string) (f File, ok bool) {
	if m == nil {
		return File{}, false
	}
	i, ok := slices.BinarySearchFunc(m.Files, path, func(f File, path string) int { return strings.Compare(f.Path, path) })
	if !ok {
		return File{}, false
	}
	return m.Files[i], true
}
