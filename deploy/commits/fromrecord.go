package commits

import (
	"context"
	"slices"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
)

// mostCommits bounds how many commits are read to make a generation again that history does not know.
const mostCommits = 5

// FromRecord is what stands on a host that history does not know: the state directory is newer than what the host holds.
// The record of a composed generation names the commit of each service; what these commits make counts only
// where it has the digest of that record. nil: it can't be made again, or nothing in it is held back. head is
// the commit that is deployed: where the host has services of it, the others are those that were held back.
func (a Archive) FromRecord(ctx context.Context, host, head string, rec *bundle.HostRecord) *LastGood {
	ctx, cancel := context.WithTimeout(ctx, OlderTime)
	defer cancel()

	bundles := map[string]*fleet.Bundle{}
	named := commitsNamed(rec, head)
	for _, commit := range named {
		b, err := a.PartialAt(ctx, commit, host)
		if err != nil {
			return nil
		}
		bundles[commit] = b
	}

	for _, commit := range named {
		head := bundles[commit]
		g := history.Generation{Generation: rec.Generation, Commit: commit, Origins: originsOf(rec, bundles, commit)}
		older := func() (all []*fleet.Bundle, err error) {
			for _, c := range commitsIn(g.Origins) {
				all = append(all, bundles[c])
			}
			return all, nil
		}
		m, err := a.compose(head, g, older)
		if err == nil && len(g.Origins) > 0 && rec.Digest.Is(m.Digest()) {
			return &LastGood{Manifest: *m, Digest: m.Digest(), Head: &head.Manifest, commit: commit, Origins: g.Origins, services: m.ServiceNames()}
		}
	}

	return nil
}

// commitsNamed are the commits that a record names, head first, and then those of most services; none where
// it names too many, or what is none.
func commitsNamed(rec *bundle.HostRecord, head string) []string {
	var all []string
	services := map[string]int{}
	for _, o := range rec.Origins {
		commit := o.Commit.Commit()
		if commit == "" {
			return nil
		}
		services[commit]++
		if !slices.Contains(all, commit) {
			all = append(all, commit)
		}
	}

	if len(all) > mostCommits {
		return nil
	}

	if services[head] > 0 {
		services[head] = len(rec.Origins) + 1
	}
	slices.SortStableFunc(all, func(a, b string) int { return services[b] - services[a] })
	return all
}

// originsOf are the services that a host has of another commit than head has, "" for one that it has not.
func originsOf(rec *bundle.HostRecord, bundles map[string]*fleet.Bundle, head string) []bundle.Origin {
	var names []string
	for _, b := range bundles {
		names = append(names, b.ServiceNames()...)
	}

	slices.Sort(names)
	names = slices.Compact(names)

	var all []bundle.Origin
	for _, name := range names {
		commit := ""
		for _, o := range rec.Origins {
			if o.Service.Is(name) {
				commit = o.Commit.Commit()
			}
		}
		isOfHead := slices.Contains(bundles[head].ServiceNames(), name)
		if commit != head && (commit != "" || isOfHead) {
			all = append(all, bundle.Origin{Service: name, Commit: commit})
		}
	}

	return all
}
