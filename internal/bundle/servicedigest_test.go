package bundle_test

import (
	"slices"
	"strings"
	"testing"

	"bellhop/internal/bundle"
)

// twoServices is a manifest of web and db: web's unit is triggered by a key that db brings, a file of
// web belongs to a user of db, and web drops into db's unit.
func twoServices() bundle.Manifest {
	ms := int64(1000)
	m := bundle.Manifest{
		Files: []bundle.File{
			{Path: "/etc/web", Digest: "1", Mode: 0o644, User: "root", Group: "root", Service: "web"},
			{Path: "/etc/share", Digest: "2", Mode: 0o640, User: "db", Group: "db", Service: "web"},
			{Path: "/etc/db", Digest: "3", Mode: 0o644, User: "root", Group: "root", Service: "db"},
			{Path: "/etc/systemd/system/db.service", Digest: "4", Mode: 0o644, User: "root", Group: "root", Service: "db"},
			{Path: "/etc/systemd/system/db.service.d/web.conf", Digest: "5", Mode: 0o644, User: "root", Group: "root", Service: "web"},
			{Path: "/etc/systemd/system/other.service", Digest: "6", Mode: 0o644, User: "root", Group: "root", Service: "other"},
		},
		Links:    []bundle.Link{{Path: "/etc/weblink", Target: "/etc/web", Service: "web"}},
		Keys:     []bundle.Key{{Name: "k", Path: "/run/keys/k", User: "db", Group: "db", Mode: 0o400, Digest: "d", Service: "db"}},
		Packages: []bundle.Package{{Name: "web", Digest: "p", Kind: "tar.gz", Service: "web"}},
		Groups:   []string{"db", "other", "web"},
		Users:    []bundle.User{{Name: "db", Group: "db", Home: "/", Service: "db"}, {Name: "web", Group: "web", Home: "/", Service: "web"}, {Name: "other", Group: "other", Home: "/", Service: "other"}},
		Units: []bundle.Unit{
			{Name: "web.service", Service: "web", Start: true, OnChange: bundle.Restart, Triggers: []string{"file:/etc/web", "key:k"}},
			{Name: "db.service", Service: "db", Start: true, OnChange: bundle.Restart, Files: []string{"/etc/systemd/system/db.service", "/etc/systemd/system/db.service.d/web.conf"}},
			{Name: "other.service", Service: "other", Start: true, OnChange: bundle.Restart, Files: []string{"/etc/systemd/system/other.service"}},
		},
		Needs:    []bundle.Need{{Command: "curl", Service: "web"}, {Command: "psql", Service: "db"}},
		Services: []bundle.Service{{Name: "web", Settle: &ms}, {Name: "db", Before: []bundle.Step{{Command: "pg_dump"}}}},
	}
	m.Sort()
	return m
}

// The digest of a service is stored on hosts, which remember what they ran for it: it never changes
// for a service that uses nothing new.
func TestServiceDigest(t *testing.T) {
	m := twoServices()
	for name, want := range map[string]string{
		"web":   "af0e3c65cfd00e827470ddcba7030bb455c3c8ec4afc4fa65b8e8c88deb31120",
		"db":    "ca8fe882af24003f1c5a30ab9f570e5c7ca70a815df82d5cdcd60e44d449ad6f",
		"other": "b87052e1b2df7d0d091161397643a01ac48bd6f5eaaa8ba13edd20ffc533c53f",
		"none":  "cc8bb4733b30c0273d0edba6337c2997ae51c70c9f497e6042d19368a57d791e",
	} {
		if got := bundle.ServiceDigest(&m, name); got != want {
			t.Errorf("ServiceDigest(%s) = %s, want %s", name, got, want)
		}
	}
}

// It covers what the service brings and what it shares, and nothing of others.
func TestServiceDigestCovers(t *testing.T) {
	file := func(path string) func(m *bundle.Manifest) {
		return func(m *bundle.Manifest) {
			for i := range m.Files {
				if m.Files[i].Path == path {
					m.Files[i].Digest = "x"
				}
			}
		}
	}
	unit := func(name string) func(m *bundle.Manifest) {
		return func(m *bundle.Manifest) {
			for i := range m.Units {
				if m.Units[i].Name == name {
					m.Units[i].Start = false
				}
			}
		}
	}
	for name, c := range map[string]struct {
		change  func(m *bundle.Manifest)
		differs []string
	}{
		"a file":             {file("/etc/web"), []string{"web"}},
		"a file of db":       {file("/etc/db"), []string{"db"}},
		"a drop-in":          {file("/etc/systemd/system/db.service.d/web.conf"), []string{"db", "web"}},
		"another's file":     {file("/etc/systemd/system/other.service"), []string{"other"}},
		"a link":             {func(m *bundle.Manifest) { m.Links[0].Target = "/x" }, []string{"web"}},
		"a shared key":       {func(m *bundle.Manifest) { m.Keys[0].Digest = "x" }, []string{"db", "web"}},
		"a package":          {func(m *bundle.Manifest) { m.Packages[0].Digest = "x" }, []string{"web"}},
		"a group":            {func(m *bundle.Manifest) { m.Groups = m.Groups[:2] }, []string{"web"}},
		"a shared user":      {func(m *bundle.Manifest) { m.Users[0].UID = 9 }, []string{"db", "web"}},
		"another's user":     {func(m *bundle.Manifest) { m.Users[1].UID = 9 }, []string{"other"}},
		"its unit":           {unit("web.service"), []string{"db", "web"}},
		"a unit it drops to": {unit("db.service"), []string{"db", "web"}},
		"another's unit":     {unit("other.service"), []string{"other"}},
		"a need":             {func(m *bundle.Manifest) { m.Needs[0].Command = "wget" }, []string{"web"}},
		"a step":             {func(m *bundle.Manifest) { m.Services[0].Before[0].Command = "x" }, []string{"db"}},
		"settle":             {func(m *bundle.Manifest) { m.Services[1].Settle = nil }, []string{"web"}},
		"its own digest":     {func(m *bundle.Manifest) { m.Services[0].Digest = "x" }, nil},
		"the host":           {func(m *bundle.Manifest) { m.Host, m.Network = "x", "y" }, nil},
	} {
		was, now := twoServices(), twoServices()
		c.change(&now)
		var differs []string
		for _, s := range []string{"db", "other", "web"} {
			if bundle.ServiceDigest(&was, s) != bundle.ServiceDigest(&now, s) {
				differs = append(differs, s)
			}
		}
		if !slices.Equal(differs, c.differs) {
			t.Errorf("%s: differs for %v, want %v", name, differs, c.differs)
		}
	}
}

func TestBrief(t *testing.T) {
	for command, want := range map[string]string{
		"pg_dump app": "pg_dump app", "\n set -e\nmore\n": "set -e …", strings.Repeat("é", 60): strings.Repeat("é", 50) + " …", "": "",
	} {
		if got := bundle.Brief(command); got != want {
			t.Errorf("Brief(%q) = %q, want %q", command, got, want)
		}
	}
}
