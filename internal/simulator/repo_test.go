package simulator

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing/fstest"
	"time"

	"bellhop/deploy/commits"
	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
)

// The config repo of a world. A commit changes services, and what the hosts make of a service is
// written in its file: they know the file by its digest.

// A nature is what comes of a service on a host.
type nature int

const (
	isGood    nature = iota
	isBad            // its unit does not stay up: undone, the service is known
	isObscure        // undone, and nobody knows which service it is due to
	isBroken         // it fails, and can't be undone whole
	isBarred         // the host refuses it, by its name
	cutsOff          // nobody can log in any more
	isSlow           // it takes minutes
)

// A version is one state of a service.
type version struct {
	nature nature
	hosts  int // bits of the hosts where it is so
}

// on is the nature of a version on a host.
func (v version) on(h *host) nature {
	if v.hosts>>h.index&1 == 1 {
		return v.nature
	}
	return isGood
}

// A commit is one state of the repo.
type commit struct {
	snap   commits.Snapshot
	fleet  *fleet.Fleet
	config config
}

// A config is what bellhop.yaml says.
type config struct {
	look     string // "": hosts are not looked at
	confirm  string
	isolate  bool
	waves    string // "": none are given
	failures int    // max_failures
	parallel int
	on       map[string][]string // services by host
	after    string              // h1 comes after it; "": nothing
	names    []string            // of hosts
}

// A repo is the config repo, and what the remote shows of it.
type repo struct {
	rng      *rand.Rand
	loader   *fleet.Loader
	rules    rules
	commits  []commit
	shownAt  time.Time          // when that changed last
	visible  int                // of commits: what the remote shows as its head
	versions map[string]version // by the digest of the service's file, or of its key
	names    []string           // of hosts, in the newest commit
	known    map[string]bool    // "host digest" of every bundle, "host service digest" of every service
}

// hostKey is what the repo pins for a host, whatever its name is.
func (h *host) hostKey() string {
	return fmt.Sprintf("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHPz0bWhv3D0r1iAb4pEqD4dZJ4xF1V2v4lT0o0o0o%do", h.index)
}

var serviceNames = []string{"web", "db", "app", "bot"}

func newRepo(rng *rand.Rand, hosts []*host, rules rules) (*repo, error) {
	r := &repo{rng: rng, loader: newLoader(), rules: rules, versions: map[string]version{}, known: map[string]bool{}}
	c := config{confirm: pick(rng, "0s", "30s", "30s"), isolate: rng.IntN(4) > 0, waves: pick(rng, "", "", "[]", `["1", "50%"]`), failures: rng.IntN(2), on: map[string][]string{}}
	if rng.IntN(3) == 0 {
		c.parallel = 1
	}
	if rng.IntN(4) == 0 {
		c.after = "h2"
	}
	if rules != beforePersons {
		c.look = pick(rng, "", "", "20m")
	}
	for _, h := range hosts {
		r.names = append(r.names, h.name)
		c.on[h.name] = []string{"web"}
		for _, s := range serviceNames[1:] {
			if rng.IntN(2) == 0 {
				c.on[h.name] = append(c.on[h.name], s)
			}
		}
	}

	tree := fstest.MapFS{}
	for _, s := range serviceNames {
		r.write(tree, s, version{})
		if rules >= today && rng.IntN(2) == 0 {
			r.writeKey(tree, s, version{})
		}
	}
	c.names = r.names
	return r, r.add(c, tree, hosts)
}

func pick[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

// write writes a new version of a service.
func (r *repo) write(tree fstest.MapFS, service string, v version) {
	text := fmt.Appendf(nil, "%s %d %d\n", service, len(r.commits), len(r.versions))
	sum := sha256.Sum256(text)
	r.versions[hex.EncodeToString(sum[:])] = v
	tree[fmt.Sprintf("services/%s/files/etc/%s.conf", service, service)] = &fstest.MapFile{Data: text, Mode: 0o644}
}

// commit adds a commit: services change, or all goes back to an older one, or a service moves.
func (r *repo) commit(hosts []*host) (*commit, error) {
	last := r.commits[len(r.commits)-1]
	tree := maps.Clone(last.snap.Tree.(fstest.MapFS))
	c := last.config
	c.on = maps.Clone(c.on)

	kinds := 8
	if r.rules >= today {
		kinds = 12
	}
	switch r.rng.IntN(kinds) {
	case 0: // a revert
		old := r.commits[r.rng.IntN(len(r.commits))]
		tree = maps.Clone(old.snap.Tree.(fstest.MapFS))
	case 1: // a service is switched on or off
		h := pick(r.rng, hosts...)
		s := pick(r.rng, serviceNames[1:]...)
		if i := slices.Index(c.on[h.name], s); i >= 0 {
			c.on[h.name] = slices.Delete(slices.Clone(c.on[h.name]), i, i+1)
		} else {
			c.on[h.name] = append(slices.Clone(c.on[h.name]), s)
		}
	case 8, 9, 10, 11:
		r.commitKeys(tree)
	default:
		for range 1 + r.rng.IntN(2) {
			r.write(tree, pick(r.rng, serviceNames...), r.version())
		}
	}
	if err := r.add(c, tree, hosts); err != nil {
		return nil, err
	}
	return &r.commits[len(r.commits)-1], nil
}

// rename adds a commit that gives a host another name: h0, h0b, h0bb, and then h0 again.
func (r *repo) rename(hosts []*host, h *host) (*commit, error) {
	last := r.commits[len(r.commits)-1]
	c := last.config
	c.names = slices.Clone(c.names)
	if c.names[h.index] += "b"; len(c.names[h.index]) > 4 {
		c.names[h.index] = h.name
	}
	r.names = c.names
	if err := r.add(c, maps.Clone(last.snap.Tree.(fstest.MapFS)), hosts); err != nil {
		return nil, err
	}
	return &r.commits[len(r.commits)-1], nil
}

// version is good more often than not.
func (r *repo) version() version {
	v := version{hosts: 1 + r.rng.IntN(15)}
	switch n := r.rng.IntN(20); {
	case n < 3:
		v.nature = isBad
	case n == 3:
		v.nature = isObscure
	case n == 4:
		v.nature = isBroken
	case n == 5:
		v.nature = isBarred
	case n == 6:
		v.nature = cutsOff
	case n == 7:
		v.nature = isSlow
	}
	return v
}

func (r *repo) add(c config, tree fstest.MapFS, hosts []*host) error {
	tree["bellhop.yaml"] = &fstest.MapFile{Data: []byte(c.yaml(hosts)), Mode: 0o644}
	snap := commits.Snapshot{Commit: fmt.Sprintf("%040x", len(r.commits)+1), Subject: fmt.Sprint("commit ", len(r.commits)), Tree: tree}
	f, err := r.loader.Load(context.Background(), tree)
	if err != nil {
		return err
	}
	for _, h := range hosts {
		b, err := f.Bundle(c.names[h.index])
		if err != nil {
			return err
		}
		r.known[h.name+" "+b.Digest] = true
		for _, s := range b.ServiceNames() {
			r.known[h.name+" "+s+" "+bundle.ServiceDigest(&b.Manifest, s)] = true
			offered := b.WithoutKeyDigests()
			r.known[h.name+" "+s+" "+bundle.ServiceDigest(&offered, s)] = true
		}
	}
	r.commits = append(r.commits, commit{snap, f, c})
	return nil
}

func (c config) yaml(hosts []*host) string {
	var y strings.Builder
	fmt.Fprintf(&y, "network: sim\nlook: %s\nconfirm: %s\nisolate: %v\nrollout: { max_failures: %d", cmp.Or(c.look, "0s"), c.confirm, c.isolate, c.failures)
	if c.waves != "" {
		fmt.Fprintf(&y, ", waves: %s", c.waves)
	}
	if c.parallel > 0 {
		fmt.Fprintf(&y, ", parallel: %d", c.parallel)
	}
	y.WriteString(" }\nhosts:\n")
	for _, h := range hosts {
		more := ""
		if h.index == 1 && c.after != "" {
			more = ", after: [" + c.names[2] + "]"
		}
		if h.index == 3 {
			more = ", expected: sometimes"
		}
		fmt.Fprintf(&y, "  %s: { address: 10.0.0.%d, host_key: %s%s, services: { %s: true } }\n", c.names[h.index], h.index+1, h.hostKey(), more, strings.Join(c.on[h.name], ": true, "))
	}
	return y.String()
}

// head is what the remote shows.
func (r *repo) head() commits.Snapshot { return r.commits[r.visible].snap }

// at is a commit by its id.
func (r *repo) at(id string) (commits.Snapshot, error) {
	if i := r.index(id); i >= 0 {
		return r.commits[i].snap, nil
	}
	return commits.Snapshot{}, fs.ErrNotExist
}

func (r *repo) index(id string) int {
	return slices.IndexFunc(r.commits, func(c commit) bool { return c.snap.Commit == id })
}

// natureOf is what comes of a service of a manifest on a host.
func (r *repo) natureOf(h *host, m *bundle.Manifest, service string) nature {
	n := isGood
	for _, f := range m.Files {
		if f.Path == "/etc/"+service+".conf" {
			n = r.versions[f.Digest].on(h)
		}
	}
	for _, k := range m.Keys {
		if k.Name == service && n == isGood {
			n = r.versions[k.Digest].on(h)
		}
	}
	return n
}
