package bundle_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"bellhop/internal/bundle"
)

// some is a manifest in which services s0 to s4 claim places, some of them together, as a loader makes
// them: what two claim is listed as shared.
func some(r *rand.Rand) bundle.Manifest {
	m := bundle.Manifest{Network: "lab", Host: "a"}
	claimed := map[string][]string{}
	service := func() string { return fmt.Sprintf("s%d", r.IntN(5)) }
	claim := func(thing string) string {
		first := service()
		claimed[thing] = []string{first}
		for r.IntN(6) == 0 {
			claimed[thing] = append(claimed[thing], service())
		}
		return first
	}
	digest := func() string { return bundle.DigestBytes([]byte{byte(r.IntN(3))}) }

	taken := map[string]bool{}
	free := func(p string) bool {
		for q := range taken {
			if p == q || strings.HasPrefix(p, q+"/") || strings.HasPrefix(q, p+"/") {
				return false
			}
		}
		taken[p] = true
		return true
	}
	for range r.IntN(8) {
		p := fmt.Sprintf("/etc/%d", r.IntN(5))
		if r.IntN(3) == 0 {
			p += "/below"
		}
		if !free(p) {
			continue
		}
		if r.IntN(4) == 0 {
			m.Links = append(m.Links, bundle.Link{Path: p, Target: "/srv/" + digest()[:4], Service: claim("link:" + p)})
			continue
		}
		user := []string{"root", "u0", "u1"}[r.IntN(3)]
		m.Files = append(m.Files, bundle.File{Path: p, Digest: digest(), Mode: 0o644, User: user, Group: user, Service: claimOne(claimed, "file:"+p, service())})
	}
	for i := range 3 {
		if r.IntN(2) == 0 {
			name := fmt.Sprintf("k%d", i)
			m.Keys = append(m.Keys, bundle.Key{Name: name, Path: "/run/keys/" + name, User: "root", Group: "keys", Mode: 0o400, Digest: digest(), Service: claim("key:" + name)})
		}
		if r.IntN(2) == 0 {
			name := fmt.Sprintf("u%d", i)
			m.Users = append(m.Users, bundle.User{Name: name, Group: name, Home: "/", UID: uint32(r.IntN(2) * (900 + i)), Service: claim("account:" + name)})
			m.Groups = append(m.Groups, name)
			claimed["group:"+name] = claimed["account:"+name]
		}
		if r.IntN(2) == 0 {
			name := fmt.Sprintf("n%d.service", i)
			m.Units = append(m.Units, bundle.Unit{Name: name, Start: r.IntN(2) == 0, OnChange: bundle.Restart, Service: claim("unit:" + name)})
		}
		if r.IntN(2) == 0 {
			name := fmt.Sprintf("c%d", i)
			m.Needs = append(m.Needs, bundle.Need{Command: name, Service: claim("need:" + name)})
		}
		if r.IntN(3) == 0 {
			name := fmt.Sprintf("g%d", i)
			m.Groups = append(m.Groups, name)
			claim("group:" + name)
		}
	}
	for i := range 5 {
		if r.IntN(3) == 0 {
			name := fmt.Sprintf("s%d", i)
			m.Packages = append(m.Packages, bundle.Package{Name: name, Digest: digest(), Kind: "tar.gz", Service: name})
			settle := int64(r.IntN(3))
			m.Services = append(m.Services, bundle.Service{Name: name, Settle: &settle})
		}
	}

	m.ShareResources(claimed)
	m.Sort()
	return m
}

func claimOne(claimed map[string][]string, thing, service string) string {
	claimed[thing] = []string{service}
	return service
}

func FuzzCompose(f *testing.F) {
	for seed := range uint64(300) {
		f.Add(seed, uint8(seed))
	}

	f.Fuzz(func(t *testing.T, seed uint64, which uint8) {
		r := rand.New(rand.NewPCG(seed, 1))
		head, last := some(r), some(r)
		var failing []string
		for i := range 5 {
			if which&(1<<i) != 0 {
				failing = append(failing, fmt.Sprintf("s%d", i))
			}
		}
		checkComposition(t, head, last, failing)
	})
}

func checkComposition(t *testing.T, head, last bundle.Manifest, failing []string) {
	c := bundle.Compose(head, last, failing)
	m := c.Manifest
	names := slices.Concat(head.ServiceNames(), last.ServiceNames())
	for _, s := range names {
		from, whose := head, "head"
		if c.Holds(s) {
			from, whose = last, "the last good one"
		}
		if got, want := withoutNeeds(m, s), withoutNeeds(from, s); got != want {
			t.Errorf("service %s (held: %v) is not as in %s: %s", s, c.Holds(s), whose, show(head, last, c))
		}
	}
	for _, s := range failing {
		if slices.Contains(names, s) && !c.Holds(s) {
			t.Errorf("failing service %s is not held", s)
		}
	}

	fits(t, m)
	for _, u := range m.Users {
		if !slices.Contains(head.Users, u) && !slices.Contains(last.Users, u) {
			t.Errorf("user %+v is neither in head nor in the last good one", u)
		}
	}
	for _, n := range head.Needs {
		if users := claimants(head, "need:"+n.Command, n.Service); !allHeld(&c, users) && !needs(m, n.Command) {
			t.Errorf("command %s, which %v need, is not looked for", n.Command, users)
		}
	}
	if again := bundle.Compose(m, last, failing); !reflect.DeepEqual(again.Manifest, m) {
		t.Errorf("composed again it is another: %+v, was %+v", again.Manifest, m)
	}
	if now, whole := lost(last, m), lost(last, head); now > whole {
		t.Errorf("%d things leave with the composed bundle, %d with the whole one", now, whole)
	}
	if got := bundle.Compose(head, last, nil); !reflect.DeepEqual(got.Manifest, head) || len(got.Held) > 0 {
		t.Errorf("with nothing failing it is %+v", got)
	}
}

// withoutNeeds is what a service asks of a host but for commands, which tie nobody.
func withoutNeeds(m bundle.Manifest, service string) string {
	m.Needs = nil
	return bundle.PartOf(m, service)
}

func needs(m bundle.Manifest, command string) bool {
	return slices.ContainsFunc(m.Needs, func(n bundle.Need) bool { return n.Command == command })
}

func claimants(m bundle.Manifest, thing, service string) []string {
	for _, s := range m.Shared {
		if s.Resource == thing {
			return s.Services
		}
	}
	return []string{service}
}

func allHeld(c *bundle.Composition, services []string) bool {
	return !slices.ContainsFunc(services, func(s string) bool { return !c.Holds(s) })
}

func lost(was, is bundle.Manifest) (n int) {
	for _, c := range bundle.Diff(was, is) {
		if c.Action == bundle.Remove {
			n++
		}
	}
	return n
}

// fits tells whether a host could hold m: nothing is there twice, and no file is a folder.
func fits(t *testing.T, m bundle.Manifest) {
	seen := map[string]bool{}
	var paths []string
	once := func(thing string) {
		if seen[thing] {
			t.Errorf("%s is there twice", thing)
		}
		seen[thing] = true
		if p, ok := strings.CutPrefix(thing, "path "); ok {
			paths = append(paths, p)
		}
	}
	for _, f := range m.Files {
		once("path " + f.Path)
	}
	for _, l := range m.Links {
		once("path " + l.Path)
	}
	for _, k := range m.Keys {
		once("path " + k.Path)
	}
	for _, u := range m.Users {
		once("user " + u.Name)
	}
	for _, u := range m.Units {
		once("unit " + u.Name)
	}
	for _, g := range m.Groups {
		once("group " + g)
	}
	for _, n := range m.Needs {
		once("need " + n.Command)
	}
	for _, p := range m.Packages {
		once("package " + p.Name)
	}
	for _, s := range m.Services {
		once("service " + s.Name)
	}
	for _, s := range m.Shared {
		once("shared " + s.Resource)
	}
	for _, p := range paths {
		for _, q := range paths {
			if strings.HasPrefix(p, q+"/") {
				t.Errorf("%s is below %s, which is no folder", p, q)
			}
		}
	}

	sorted := m
	sorted.Sort()
	if !reflect.DeepEqual(sorted, m) {
		t.Error("it is not sorted")
	}
}

func show(head, last bundle.Manifest, c bundle.Composition) string {
	return fmt.Sprintf("\nhead %+v\nlast %+v\ncomposed %+v", head, last, c)
}

func file(path, text, user, service string) bundle.File {
	return bundle.File{Path: path, Digest: bundle.DigestBytes([]byte(text)), Mode: 0o644, User: user, Group: user, Service: service}
}

// What ties services together, each in turn. b fails; whether a moves with it is the question.
func TestTies(t *testing.T) {
	base := func() bundle.Manifest {
		return bundle.Manifest{Files: []bundle.File{file("/etc/a", "1", "root", "a"), file("/etc/b", "1", "root", "b")}}
	}
	for name, tc := range map[string]struct {
		edit func(head, last *bundle.Manifest)
		by   string // "": a is not tied
	}{
		"nothing": {func(head, last *bundle.Manifest) {}, ""},
		"a key that both name": {func(head, last *bundle.Manifest) {
			head.Keys = []bundle.Key{{Name: "db", Path: "/run/keys/db", Service: "a"}}
			head.Shared = []bundle.Shared{{Resource: "key:db", Services: []string{"a", "b"}}}
		}, "key db"},
		"a user that both had before": {func(head, last *bundle.Manifest) {
			last.Users = []bundle.User{{Name: "app", Group: "app", Service: "b"}}
			last.Shared = []bundle.Shared{{Resource: "account:app", Services: []string{"a", "b"}}}
		}, "user app"},
		"a path that went from one to the other": {func(head, last *bundle.Manifest) {
			last.Files = append(last.Files, file("/etc/x", "1", "root", "b"))
			head.Files = append(head.Files, file("/etc/x", "1", "root", "a"))
		}, "path /etc/x"},
		"a file that became a folder of the other": {func(head, last *bundle.Manifest) {
			last.Files = append(last.Files, file("/etc/x", "1", "root", "b"))
			head.Files = append(head.Files, file("/etc/x/y", "1", "root", "a"))
		}, "path /etc/x"},
		"a drop-in for the unit of the other": {func(head, last *bundle.Manifest) {
			head.Files = append(head.Files, file("/etc/systemd/system/b.service.d/x.conf", "1", "root", "a"))
			head.Units = []bundle.Unit{{Name: "b.service", Service: "b", Files: []string{"/etc/systemd/system/b.service.d/x.conf"}}}
		}, "path /etc/systemd/system/b.service.d/x.conf"},
		"a user of the other that is new": {func(head, last *bundle.Manifest) {
			head.Users = []bundle.User{{Name: "app", Group: "app", Service: "b"}}
			head.Groups = []string{"app"}
			head.Files[0] = file("/etc/a", "1", "app", "a")
		}, "user app"},
		"a user of the other that stays as it was": {func(head, last *bundle.Manifest) {
			for _, m := range []*bundle.Manifest{head, last} {
				m.Users = []bundle.User{{Name: "app", Group: "app", Service: "b"}}
				m.Groups = []string{"app"}
			}
			head.Files[0] = file("/etc/a", "1", "app", "a")
		}, ""},
		"an uid that went from one to the other": {func(head, last *bundle.Manifest) {
			last.Users = []bundle.User{{Name: "old", Group: "old", UID: 990, Service: "b"}}
			head.Users = []bundle.User{{Name: "new", Group: "new", UID: 990, Service: "a"}}
		}, "uid 990"},
		"a compose project that went from one to the other": {func(head, last *bundle.Manifest) {
			last.Services = []bundle.Service{{Name: "b", Compose: &bundle.ComposeProject{Project: "wiki"}}}
			head.Services = []bundle.Service{{Name: "a", Compose: &bundle.ComposeProject{Project: "wiki"}}}
		}, "project wiki"},
		"a group that both ask for": {func(head, last *bundle.Manifest) {
			head.Groups = []string{"media"}
			head.Shared = []bundle.Shared{{Resource: "group:media", Services: []string{"a", "b"}}}
		}, "group media"},
		"a command that both need": {func(head, last *bundle.Manifest) {
			head.Needs = []bundle.Need{{Command: "git", Service: "b"}}
			head.Shared = []bundle.Shared{{Resource: "need:git", Services: []string{"a", "b"}}}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			head, last := base(), base()
			head.Files[0].Digest, head.Files[1].Digest = bundle.DigestBytes([]byte("2")), bundle.DigestBytes([]byte("2"))
			tc.edit(&head, &last)
			head.Sort()
			last.Sort()
			c := bundle.Compose(head, last, []string{"b"})
			want := []bundle.HeldService{{Name: "b"}}
			if tc.by != "" {
				want = []bundle.HeldService{{Name: "a", With: "b", By: tc.by}, {Name: "b"}}
			}
			if !slices.Equal(c.Held, want) {
				t.Errorf("held = %+v, want %+v", c.Held, want)
			}
			fits(t, c.Manifest)
		})
	}
}

// Ties are transitive, and the service that brings all of them down is named.
func TestTiesOfTies(t *testing.T) {
	head := bundle.Manifest{
		Keys:   []bundle.Key{{Name: "k", Path: "/run/keys/k", Service: "a"}},
		Users:  []bundle.User{{Name: "u", Group: "u", Service: "b"}},
		Files:  []bundle.File{file("/etc/d", "1", "root", "d")},
		Shared: []bundle.Shared{{Resource: "account:u", Services: []string{"b", "c"}}, {Resource: "key:k", Services: []string{"a", "b"}}},
	}
	c := bundle.Compose(head, bundle.Manifest{}, []string{"a"})
	want := []bundle.HeldService{{Name: "a"}, {Name: "b", With: "a", By: "key k"}, {Name: "c", With: "a", By: "user u"}}
	if !slices.Equal(c.Held, want) {
		t.Errorf("held = %+v, want %+v", c.Held, want)
	}
	if len(c.Manifest.Keys)+len(c.Manifest.Users) > 0 || len(c.Manifest.Files) != 1 {
		t.Errorf("composed of nothing: %+v", c.Manifest)
	}
}

// A service's digest covers what it has together with others, whoever is named first.
func TestServiceDigestOfSharedThings(t *testing.T) {
	m := bundle.Manifest{
		Keys:   []bundle.Key{{Name: "k", Path: "/run/keys/k", Digest: "1", Service: "a"}},
		Shared: []bundle.Shared{{Resource: "key:k", Services: []string{"a", "b"}}},
	}
	was := bundle.ServiceDigest(&m, "b")
	m.Keys[0].Digest = "2"
	if bundle.ServiceDigest(&m, "b") == was {
		t.Error("another value of a key that a and b share leaves b's digest as it is")
	}
}

// Who claims what is for composing alone: two bundles that differ in it leave a host the same.
func TestSharedIsNotInTheDigest(t *testing.T) {
	m := bundle.Manifest{Keys: []bundle.Key{{Name: "k", Path: "/run/keys/k", Service: "a"}}}
	was := m.Digest()
	m.Shared = []bundle.Shared{{Resource: "key:k", Services: []string{"a", "b"}}}
	if got := m.Digest(); got != was {
		t.Errorf("digest %s, want %s", got, was)
	}
}
