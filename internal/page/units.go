package page

import (
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/history/looks"
	"bellhop/internal/history/services"
)

// A hostService is a service of one host, with its units and containers.
type hostService struct {
	services.Status
	Units []unitRow
}

// A unitRow is how one unit does, as the last look has it. Look is how that is drawn: "" is a unit at rest, which may be
// as it should.
type unitRow struct{ Name, Words, Look string }

// Shape is what a unit's state looks like without colour.
func (u unitRow) Shape() string {
	if u.Look == "" {
		return "○"
	}
	return shapes[u.Look]
}

// hostServices are the services of a host in the order of all, each with the units that m has for it. Units that are of
// none of these are in the second list.
func hostServices(all []services.Status, m *bundle.Manifest, look looks.Look) (list []hostService, others []unitRow) {
	units := unitsOf(m)
	for _, s := range all {
		one := hostService{Status: s}
		for _, name := range units[s.Name] {
			one.Units = append(one.Units, unitRowOf(name, look))
		}
		list = append(list, one)
		delete(units, s.Name)
	}

	for _, names := range units {
		for _, name := range names {
			others = append(others, unitRowOf(name, look))
		}
	}
	slices.SortFunc(others, func(a, b unitRow) int { return strings.Compare(a.Name, b.Name) })
	return list, others
}

// unitsOf are the names of units and containers by service. Units of keys and templates, whose instances run, are left
// out, and containers that are not to run.
func unitsOf(m *bundle.Manifest) map[string][]string {
	units := map[string][]string{}
	if m == nil {
		return units
	}

	for _, u := range m.Units {
		isTemplate := strings.Contains(u.Name, "@.")
		if !u.KeyUnit && !isTemplate {
			units[u.Service] = append(units[u.Service], u.Name)
		}
	}
	for _, s := range m.Services {
		if s.Compose == nil {
			continue
		}
		for _, c := range s.Compose.Containers {
			if !c.Idle {
				units[s.Name] = append(units[s.Name], s.Name+":"+c.Name)
			}
		}
	}
	return units
}

// unitRowOf is how a unit does by a look. A helper of a former release tells of units that failed alone, and of what differs.
func unitRowOf(name string, look looks.Look) unitRow {
	row := unitRow{Name: name, Words: look.Units[name]}
	for _, f := range look.Failed {
		if f.Name == name {
			row.Words = "failed (" + f.Result + ")"
		}
	}

	for _, d := range look.Drift {
		isUnit := d.Kind == bundle.KindUnit || d.Kind == bundle.KindContainer
		if isUnit && d.Name == name && row.Words == "" {
			row.Words = d.What
		}
	}

	switch first, _, _ := strings.Cut(row.Words, " "); first {
	case "active", looks.StartedWord:
		row.Look = "good"
	case "failed":
		row.Look = "bad"
	case "activating", "deactivating", "reloading":
		row.Look = "work"
	case bundle.DriftStopped, bundle.DriftMissing, bundle.DriftMasked:
		row.Look = "wait"
	case "":
		row.Words = "not looked at yet"
	}

	return row
}
