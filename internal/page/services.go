package page

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"bellhop/internal/history"
)

// A serviceRow is a service, and the hosts that it is on. Hosts where it fares alike are one group, so that a service of
// a thousand hosts is a few lines.
type serviceRow struct {
	Name   string
	Groups []serviceGroup
}

type serviceGroup struct {
	State  string
	Commit string
	Hosts  []string
}

func (p *Page) services(w http.ResponseWriter, r *http.Request) {
	s, f, ok := p.begin(w, r, "Services", "/services")
	if !ok {
		return
	}
	f.Body = serviceRows(s.Hosts)
	p.show(w, r, "services", f)
}

// serviceRows are all services by name; groups that somebody should look at come first.
func serviceRows(hosts []history.HostStatus) []serviceRow {
	groups := map[string][]serviceGroup{}
	for _, h := range hosts {
		for _, s := range h.Services {
			groups[s.Name] = addTo(groups[s.Name], h.Name, string(s.State), short(s.Commit))
		}
	}

	var rows []serviceRow
	for name, all := range groups {
		slices.SortStableFunc(all, func(a, b serviceGroup) int {
			return cmp.Compare(rank(look(a.State) != "good"), rank(look(b.State) != "good"))
		})
		rows = append(rows, serviceRow{name, all})
	}
	slices.SortFunc(rows, func(a, b serviceRow) int { return strings.Compare(a.Name, b.Name) })
	return rows
}

func addTo(groups []serviceGroup, host, state, commit string) []serviceGroup {
	i := slices.IndexFunc(groups, func(g serviceGroup) bool { return g.State == state && g.Commit == commit })
	if i < 0 {
		return append(groups, serviceGroup{State: state, Commit: commit, Hosts: []string{host}})
	}
	groups[i].Hosts = append(groups[i].Hosts, host)
	return groups
}
