package bundle_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"bellhop/internal/bundle"
)

func sample() bundle.Manifest {
	m := bundle.Manifest{
		Network: "hexagone", Host: "chrysalis",
		Files: []bundle.File{
			{Path: "/etc/within/b", Digest: bundle.DigestBytes([]byte("b")), Size: 1, Mode: 0o644, User: "root", Group: "root", Service: "withinbot"},
			{Path: "/etc/within/a", Digest: bundle.DigestBytes([]byte("a")), Size: 1, Mode: 0o644, User: "root", Group: "root", Service: "withinbot"},
		},
		Links:    []bundle.Link{{Path: "/etc/l", Target: "/etc/within/a", Service: "withinbot"}},
		Keys:     []bundle.Key{{Name: "withinbot", Path: "/run/keys/withinbot", User: "withinbot", Group: "within", Mode: 0o640, Digest: "d", Source: "secrets/x.age"}},
		Packages: []bundle.Package{{Name: "withinbot", Digest: "p", Kind: "tar.gz", Size: 7, URL: "https://example.com/x"}},
		Groups:   []string{"within"},
		Users:    []bundle.User{{Name: "withinbot", Group: "within", Home: "/srv/within/withinbot"}},
		Units:    []bundle.Unit{{Name: "withinbot.service", Enable: true, Start: true, OnChange: bundle.Restart, Triggers: []string{"key:withinbot"}}},
		Needs:    []bundle.Need{{Command: "python3", Service: "withinbot"}},
	}
	m.Sort()
	return m
}

// What only people read is not in the digest; everything else is.
func TestDigestCovers(t *testing.T) {
	m := sample()
	want := m.Digest()
	same := map[string]func(*bundle.Manifest){
		"network":        func(m *bundle.Manifest) { m.Network = "other" },
		"host":           func(m *bundle.Manifest) { m.Host = "other" },
		"service":        func(m *bundle.Manifest) { m.Files[0].Service, m.Units[0].Service = "x", "x" },
		"key source":     func(m *bundle.Manifest) { m.Keys[0].Source = "elsewhere" },
		"package origin": func(m *bundle.Manifest) { m.Packages[0].URL, m.Packages[0].Size = "https://mirror", 0 },
	}
	for name, change := range same {
		m := sample()
		change(&m)
		if m.Digest() != want {
			t.Errorf("%s changes the digest", name)
		}
	}
	differ := map[string]func(*bundle.Manifest){
		"file path":   func(m *bundle.Manifest) { m.Files[0].Path += "x" },
		"file bytes":  func(m *bundle.Manifest) { m.Files[0].Digest = bundle.DigestBytes([]byte("c")) },
		"file mode":   func(m *bundle.Manifest) { m.Files[0].Mode = 0o600 },
		"file owner":  func(m *bundle.Manifest) { m.Files[0].User = "x" },
		"file group":  func(m *bundle.Manifest) { m.Files[0].Group = "x" },
		"link target": func(m *bundle.Manifest) { m.Links[0].Target = "x" },
		"key value":   func(m *bundle.Manifest) { m.Keys[0].Digest = "e" },
		"key mode":    func(m *bundle.Manifest) { m.Keys[0].Mode = 0o400 },
		"key seal":    func(m *bundle.Manifest) { m.Keys[0].Seal = true },
		"package":     func(m *bundle.Manifest) { m.Packages[0].Digest = "q" },
		"group":       func(m *bundle.Manifest) { m.Groups = nil },
		"home":        func(m *bundle.Manifest) { m.Users[0].Home = "/" },
		"on change":   func(m *bundle.Manifest) { m.Units[0].OnChange = bundle.Reload },
		"triggers":    func(m *bundle.Manifest) { m.Units[0].Triggers = nil },
		"needs":       func(m *bundle.Manifest) { m.Needs = nil },
	}
	for name, change := range differ {
		m := sample()
		change(&m)
		if m.Digest() == want {
			t.Errorf("%s does not change the digest", name)
		}
	}
}

func TestDiff(t *testing.T) {
	old, new := sample(), sample()
	new.Files[0].Mode = 0o600
	new.Files[1].Service = "renamed"
	new.Keys = nil
	new.Links = append(new.Links, bundle.Link{Path: "/etc/m", Target: "x"})
	got := bundle.Diff(old, new)
	want := []bundle.Change{
		{Action: bundle.Modify, Kind: bundle.KindFile, Name: "/etc/within/a", Service: "withinbot"},
		{Action: bundle.Add, Kind: bundle.KindLink, Name: "/etc/m"},
		{Action: bundle.Remove, Kind: bundle.KindKey, Name: "withinbot"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Diff (-want +got):\n%s", d)
	}
	if got := bundle.Diff(old, old); len(got) != 0 {
		t.Errorf("Diff of a manifest with itself is %v", got)
	}
}

func TestWithoutKeyDigests(t *testing.T) {
	m := sample()
	stripped := m.WithoutKeyDigests()
	if stripped.Keys[0].Digest != "" || m.Keys[0].Digest == "" {
		t.Errorf("WithoutKeyDigests left %q and made the original %q", stripped.Keys[0].Digest, m.Keys[0].Digest)
	}
}
