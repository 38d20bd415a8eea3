package deploy_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"bellhop/deploy"
	"bellhop/deploy/commits"
	"bellhop/deploy/plan"
	"bellhop/deploy/routes"
	"bellhop/internal/bundle"
	"bellhop/internal/confine"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/link"
)

// A planner is a running server whose hosts can't be reached, with the commit that stands and
// two to go to and fro between; they differ in one file of a service that ten hosts have.
type planner struct {
	d     *deploy.Deployer
	trees [3]fstest.MapFS
	n     int
}

// hashedTree tells git's hashes, as gitsync's trees do: without them nothing can be kept.
type hashedTree struct {
	fstest.MapFS
	sums map[string]string
}

// Hash is the hash of a file or folder.
func (t hashedTree) Hash(name string) (string, bool) {
	h, ok := t.sums[name]
	return h, ok
}

func hashTree(m fstest.MapFS) hashedTree {
	sums := map[string]string{}
	dirs := map[string][]string{}
	for name, f := range m {
		sums[name] = bundle.DigestBytes(append([]byte(f.Mode.String()), f.Data...))[:40]
		for dir := filepath.Dir(name); ; dir = filepath.Dir(dir) {
			dirs[dir] = append(dirs[dir], name+sums[name])
			if dir == "." {
				break
			}
		}
	}
	for dir, in := range dirs {
		sum := [32]byte{} // order does not matter to a sum
		for _, s := range in {
			for i, c := range []byte(bundle.DigestBytes([]byte(s)))[:32] {
				sum[i] += c
			}
		}
		sums[dir] = fmt.Sprintf("%x", sum)[:40]
	}
	return hashedTree{m, sums}
}

// away is a network on which no host answers.
type away struct{ routes.Links }

func (away) Helper(context.Context, link.Target, func(io.Writer) error) (routes.Stream, error) {
	return nil, fmt.Errorf("away: %w", link.ErrUnreachable)
}

func newPlanner(b *testing.B, hosts int) *planner {
	var y strings.Builder
	y.WriteString("network: bench\nconfirm: 0s\nall:\n  services: { base: true }\nhosts:\n")
	for i := range hosts {
		fmt.Fprintf(&y, "  h%05d:\n    address: 10.%d.%d.%d\n    host_key: %s\n    arch: amd64\n", i, i>>16, i>>8&255, i&255, benchKey)
		if i < 10 {
			y.WriteString("    services: { few: true }\n")
		}
	}
	p := &planner{}
	for n := range p.trees {
		m := fstest.MapFS{"bellhop.yaml": {Data: []byte(y.String()), Mode: 0o644}}
		for _, s := range []string{"base", "few"} {
			for i := range 20 {
				m[fmt.Sprintf("services/%s/files/etc/%s/%d.conf", s, s, i)] = &fstest.MapFile{Data: fmt.Appendf(nil, "%s %d\n", s, i), Mode: 0o644}
			}
		}
		m["services/few/files/etc/few/3.conf"].Data = fmt.Appendf(nil, "commit %d\n", n)
		p.trees[n] = m
	}
	db, err := history.Open(filepath.Join(b.TempDir(), "bellhop.db"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	var hashed [3]hashedTree
	for i, t := range p.trees {
		hashed[i] = hashTree(t)
	}
	loader := &fleet.Loader{Confined: &confine.Config{Argv: []string{"/proc/self/exe", "load"}}}
	b.Cleanup(func() { loader.Close() })
	p.d = &deploy.Deployer{Loader: loader, Links: away{}, History: db, ID: "SHA256:bench", BootID: "none", Cache: b.TempDir(),
		Limits: deploy.Limits{Retry: time.Microsecond}, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Source: commits.Source{Sync: func(context.Context) (commits.Snapshot, error) {
			tree := hashed[0] // that every host holds
			if p.n > 0 {
				tree = hashed[1+p.n%2]
			}
			p.n++
			return commits.Snapshot{Commit: fmt.Sprintf("%040x", p.n), Author: "bench", Subject: "one file", Tree: tree, Time: time.Now()}, nil
		}}}
	p.settle(b)
	for range 2 {
		p.commit(b)
	}
	return p
}

// settle makes every host hold what the first commit wants, as far as history knows.
func (p *planner) settle(b *testing.B) {
	ctx := context.Background()
	plan, err := p.d.Plan(ctx, plan.Request{})
	if err != nil {
		b.Fatal(err)
	}
	top := plan.Snapshot.Commit
	f := plan.Fleet
	s := history.Start{ID: "first", Commit: top, Cause: "bench", At: time.Now()}
	var hosts []history.Planned
	for _, h := range f.Hosts {
		bd, err := f.Bundle(h.Name)
		if err != nil {
			b.Fatal(err)
		}
		hosts = append(hosts, history.Planned{Name: h.Name, State: history.Never, Wanted: bd.Digest, Reach: history.Reach{Addresses: h.Addresses, HostKeys: h.HostKeys, User: h.User}})
	}
	if err := p.d.History.Plan(ctx, s, top, hosts, nil); err != nil {
		b.Fatal(err)
	}
	for _, h := range f.Hosts {
		bd, _ := f.Bundle(h.Name)
		if err := p.d.History.Ended(ctx, s.ID, h.Name, history.End{Outcome: bundle.OutcomeDone, Digest: bd.Digest, Commit: top, Manifest: &bd.Manifest}); err != nil {
			b.Fatal(err)
		}
	}
}

// commit is one push: read, planned, stored, tried on the ten hosts, and told.
func (p *planner) commit(b *testing.B) time.Duration {
	runtime.GC()
	began := time.Now()
	r, err := p.d.Run(context.Background(), plan.Request{Cause: "push"})
	took := time.Since(began)
	if err != nil || len(r.Hosts) != 10 {
		b.Fatalf("a commit that touches ten hosts: %v, %s, %d hosts", err, *r.Outcome, len(r.Hosts))
	}
	return took
}

const benchKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"

// BenchmarkRatioReplan holds a commit that touches one service of ten hosts in a fleet of
// 10,000 against the same in one of 1,000, in a running server and with all that a run does
// but reaching hosts: at most twice as long. They alternate; medians of eleven,
// since each takes only milliseconds.
func BenchmarkRatioReplan(b *testing.B) {
	small, big := newPlanner(b, 1000), newPlanner(b, 10_000)
	var base, subject []time.Duration
	for range 11 {
		base = append(base, small.commit(b))
		subject = append(subject, big.commit(b))
	}
	ratio := float64(median(subject)) / float64(median(base))
	b.ReportMetric(ratio, "ratio")
	b.Logf("10,000 hosts %v, 1,000 hosts %v", subject, base)
	if ratio > 2 {
		b.Errorf("a commit took %.2f × as long with ten times the hosts, want at most 2 ×", ratio)
	}
}
