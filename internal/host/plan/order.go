package plan

import (
	"slices"

	"bellhop/internal/unitfile"
)

// OrderedBefore are the host's own units of the offer of w that come before unit when both start: by After= of a file of unit,
// or by Before= of one of theirs. Units of keys and of packages are left out.
func OrderedBefore(w *Plan, unit string) (names []string) {
	digests := map[string]string{} // by path
	for _, f := range w.Offer.Manifest.Files {
		digests[f.Path] = f.Digest
	}

	read := func(paths []string) *unitfile.Unit {
		var texts [][]byte
		for _, p := range paths {
			if d, ok := digests[p]; ok {
				texts = append(texts, w.BytesOf(d))
			}
		}
		return unitfile.Read(texts...)
	}

	var after []string
	for _, u := range w.Offer.Manifest.Units {
		if u.Name == unit {
			after = read(u.Files).Words("Unit", "After")
		}
	}

	for _, u := range w.Offer.Manifest.Units {
		if u.Foreign || u.KeyUnit || u.Name == unit {
			continue
		}
		if slices.Contains(after, u.Name) || slices.Contains(read(u.Files).Words("Unit", "Before"), unit) {
			names = append(names, u.Name)
		}
	}

	return names
}
