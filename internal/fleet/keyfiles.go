package fleet

import (
	"slices"

	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/wire"
)

// KeyFiles lists, for each key that a service declares and each key that is a rendered template, the
// files it comes from, with the hosts of each, by service, key and file. A file need not exist.
func (f *Fleet) KeyFiles() []wire.KeyFile {
	if f.far != nil {
		return f.farKeyFiles()
	}
	type id struct{ service, key, source, file string }
	hosts := map[id][]string{}
	for name, s := range f.services {
		for _, k := range s.Keys {
			for _, src := range k.Sources {
				if !syntax.IsPattern(src) {
					hosts[id{name, k.Name, src, src}] = nil
				}
			}
		}
	}

	for i, slot := range f.slots {
		for _, r := range slot.renders {
			for j, k := range r.KeySpecs {
				for n, file := range k.Sources {
					key := id{r.Service.Name, k.Name, r.Service.Keys[j].Sources[n], file}
					hosts[key] = append(hosts[key], f.Hosts[i].Name)
				}
			}
		}
	}

	var out []wire.KeyFile
	for k, hs := range hosts {
		slices.Sort(hs)
		out = append(out, wire.KeyFile{Service: k.service, Key: k.key, Source: k.source, File: k.file, Hosts: slices.Compact(hs)})
	}

	slices.SortFunc(out, func(a, b wire.KeyFile) int {
		return slices.Compare([]string{a.Service, a.Key, a.Source, a.File}, []string{b.Service, b.Key, b.Source, b.File})
	})
	return out
}
