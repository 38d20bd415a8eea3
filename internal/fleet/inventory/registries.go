package inventory

import (
	"slices"
	"strings"

	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/yaml"
	"bellhop/internal/registry/login"
)

// A Registry is one that images are pulled from with a login.
type Registry struct {
	Name   string      // as images name it: ghcr.io
	Source string      // the age file that holds the login
	At     problem.Pos // in bellhop.yaml
}

// readRegistries reads registries:.
func (m *maker) readRegistries() {
	for i := range m.file.Registries {
		e := &m.file.Registries[i]
		r := Registry{Name: e.Key, Source: e.Value.S, At: e.At}
		if bad := login.NameTrouble(r.Name); bad != "" {
			m.report(m.main, e.At, "registries: %q: %s", r.Name, bad)
			continue
		}

		bad := syntax.SourceTrouble(r.Source, "ghcr")
		if syntax.IsPattern(r.Source) {
			bad = "it can't differ from host to host"
		}
		if strings.Contains(r.Source, ": ") { // {registry.lan:5000: secrets/x.age} is read so
			bad += "; the name of a registry with a port stands in quotes here"
		}
		if bad != "" {
			m.report(m.main, placeOf(e.Value, e.At), "registries: %s: source %q: %s", r.Name, r.Source, bad)
			continue
		}
		m.Registries = append(m.Registries, r)
	}

	slices.SortFunc(m.Registries, func(a, b Registry) int { return strings.Compare(a.Name, b.Name) })
	if len(m.Registries) > 0 {
		m.MainFile = &yaml.File{Name: m.main.Name, Data: m.main.Data}
	}
}

// Logins are the names of Registries and the age files with their logins, as service.Logins takes them.
func (i *Inventory) Logins() (main *yaml.File, at problem.Pos, names, sources []string) {
	for _, r := range i.Registries {
		names, sources = append(names, r.Name), append(sources, r.Source)
	}
	return i.MainFile, i.Registries[0].At, names, sources
}
