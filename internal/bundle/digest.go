package bundle

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"slices"
	"strings"
)

// DigestBytes is the digest of a file's bytes: SHA-256, hex.
func DigestBytes(p []byte) string {
	sum := sha256.Sum256(p)
	return hex.EncodeToString(sum[:])
}

// KeyMAC is the first half of HMAC-SHA-256(secret, value): the answer to a nonce on the wire,
// and under the deployer's digest-key the digest of a key in planning. 128 bits tell two
// values apart, and a host with 201 keys answers in half the bytes.
func KeyMAC(secret, value []byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write(value)
	return h.Sum(nil)[:sha256.Size/2]
}

// MachineDigest stands for a machine id, which machine-id(5) asks to be kept on its machine.
// It is "" for none.
func MachineDigest(id string) string {
	if id = strings.TrimSpace(id); id == "" || id == "uninitialized" {
		return ""
	}
	return DigestBytes([]byte("bellhop machine " + id))[:32]
}

// Sort puts every list of m in the order that its digest is taken in.
func (m *Manifest) Sort() {
	slices.SortFunc(m.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(m.Links, func(a, b Link) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(m.Keys, func(a, b Key) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(m.Packages, func(a, b Package) int { return strings.Compare(a.Name, b.Name) })
	slices.Sort(m.Groups)
	slices.SortFunc(m.Users, func(a, b User) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(m.Units, func(a, b Unit) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(m.Needs, func(a, b Need) int { return strings.Compare(a.Command, b.Command) })
	slices.SortFunc(m.Services, func(a, b Service) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(m.Shared, func(a, b Shared) int { return strings.Compare(a.Resource, b.Resource) })
}

// Digest names what m asks of a host: 64 hex digits. Each thing is one JSON line under its
// kind, so no two manifests share an encoding. Left out is what only people read: network,
// host, service names, sources and sizes.
func (m *Manifest) Digest() string {
	h := sha256.New()
	line(h, "format", Format)

	for _, f := range m.Files {
		line(h, "file", []any{f.Path, f.Digest, f.Mode, f.User, f.Group})
	}
	for _, l := range m.Links {
		line(h, "link", []any{l.Path, l.Target})
	}
	for _, k := range m.Keys {
		line(h, "key", []any{k.Name, k.Path, k.User, k.Group, k.Mode, k.Seal, k.Digest})
	}
	for _, p := range m.Packages {
		line(h, "package", []any{p.Name, p.Digest, p.Kind, p.Strip, p.File})
	}
	for _, g := range m.Groups {
		line(h, "group", g)
	}

	for _, u := range m.Users {
		fields := []any{u.Name, u.Group, u.Home}
		if u.UID != 0 || u.GID != 0 {
			fields = append(fields, u.UID, u.GID)
		}
		line(h, "user", fields)
	}

	for _, u := range m.Units {
		u.Service = ""
		line(h, "unit", u)
	}
	for _, n := range m.Needs {
		line(h, "need", n.Command)
	}
	for _, s := range m.Services {
		s.Digest = ""
		line(h, "service", s)
	}
	if m.System != nil {
		line(h, "system", []any{m.System.Path, m.System.Verb()})
	}
	if m.Logins != "" {
		line(h, "logins", m.Logins)
	}

	return hex.EncodeToString(h.Sum(nil))
}

// WithoutKeyDigests is m as it may stand on a host: a digest of a single value is stored
// nowhere but in the deployer's state.
func (m Manifest) WithoutKeyDigests() Manifest {
	m.Keys = slices.Clone(m.Keys)
	for i := range m.Keys {
		m.Keys[i].Digest = ""
	}
	return m
}

// Empty says that m asks nothing of a host.
func (m *Manifest) Empty() bool {
	things := len(m.Files) + len(m.Links) + len(m.Keys) + len(m.Packages) + len(m.Groups) + len(m.Users) + len(m.Units)
	return things == 0 && m.System == nil
}

// Len is how many things m has.
func (m *Manifest) Len() int {
	containers := 0
	for _, s := range m.Services {
		if s.Compose != nil {
			containers += s.Compose.size()
		}
	}

	return containers + len(m.Files) + len(m.Links) + len(m.Keys) + len(m.Packages) + len(m.Groups) + len(m.Users) + len(m.Units) + len(m.Needs) + len(m.Services) + len(m.systems())
}

func line(h hash.Hash, kind string, v any) {
	p, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain values always encode
	}
	h.Write([]byte(kind))
	h.Write([]byte{' '})
	h.Write(p)
	h.Write([]byte{'\n'})
}

// HeldDigest stands in a host's record when some services of the bundle of that digest were left
// as they were: it tells which bundle it was, and is that of none.
func HeldDigest(digest string) string {
	const mark = "held:"
	return mark + digest[:max(0, len(digest)-len(mark))]
}
