package render

import (
	"slices"
	"strings"

	"bellhop/internal/bundle"
)

// UnitsBelowRun are the files and units of a NixOS host, whose folder for unit files is read-only: they go
// to the one below /run. The host puts them back after a boot, with the keys.
func UnitsBelowRun(files []bundle.File, units []bundle.Unit) ([]bundle.File, []bundle.Unit) {
	below := func(p string) string {
		if rest, is := strings.CutPrefix(p, bundle.UnitDir+"/"); is {
			return bundle.RunUnitDir + "/" + rest
		}
		return p
	}

	files, units = slices.Clone(files), slices.Clone(units)
	for i := range files {
		files[i].Path = below(files[i].Path)
	}

	for i := range units {
		units[i].Files = slices.Clone(units[i].Files)
		for n, p := range units[i].Files {
			units[i].Files[n] = below(p)
		}
	}

	return files, units
}
