package wire

import (
	"maps"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/render"
	"bellhop/internal/fleet/service"
)

// Describe is st for the deployer, who has base; nil: nothing.
func Describe(st, base *render.Composition) *Composition {
	w := &Composition{Digest: st.Digest, Manifest: st.Manifest, Needs: st.Needs, Broken: st.Broken}
	if base != nil {
		w.Base = base.Digest
		w.Manifest.Files, w.Gone = filesSince(base.Manifest.Files, st.Manifest.Files)
	}

	for _, digest := range slices.Sorted(maps.Keys(st.Content)) {
		c := st.Content[digest]
		if base != nil {
			if old, has := base.Content[digest]; has && old.Source == c.Source {
				continue
			}
		}

		w.Content = append(w.Content, Content{Digest: digest, Source: c.Source})
	}

	for _, name := range slices.Sorted(maps.Keys(st.Keys)) {
		k := st.Keys[name]
		key := Key{Name: name, Source: k.Source, Sources: k.Sources, Made: k.File != nil}
		if k.File != nil {
			key.Text = k.File.Source
		}
		w.Keys = append(w.Keys, key)
	}

	return w
}

// filesSince lists what of now differs from was, and the paths of was that are gone. Both are sorted.
func filesSince(was, now []bundle.File) (differ []bundle.File, gone []string) {
	for len(was) > 0 || len(now) > 0 {
		switch {
		case len(now) == 0 || len(was) > 0 && was[0].Path < now[0].Path:
			gone = append(gone, was[0].Path)
			was = was[1:]
		case len(was) == 0 || now[0].Path < was[0].Path:
			differ = append(differ, now[0])
			now = now[1:]
		default:
			if was[0] != now[0] {
				differ = append(differ, now[0])
			}
			was, now = was[1:], now[1:]
		}
	}

	return differ, gone
}

// Compose is the composition that w describes, with what w takes from base. It returns false when w was made for another base.
func Compose(w *Composition, base *render.Composition) (*render.Composition, bool) {
	st := &render.Composition{IsFar: true, Manifest: w.Manifest, Digest: w.Digest, Content: map[string]render.Content{}, Keys: map[string]*service.Key{}, Needs: w.Needs, Broken: w.Broken}
	if w.Base != "" {
		if base == nil || base.Digest != w.Base {
			return nil, false
		}
		st.Manifest.Files = joinFiles(base.Manifest.Files, w.Manifest.Files, w.Gone)
	}

	for _, c := range w.Content {
		st.Content[c.Digest] = render.Content{Source: c.Source}
	}
	if w.Base != "" {
		for _, file := range st.Manifest.Files {
			if _, has := st.Content[file.Digest]; !has {
				st.Content[file.Digest] = base.Content[file.Digest]
			}
		}
	}

	for _, k := range w.Keys {
		spec := &service.Key{Key: bundle.Key{Name: k.Name, Source: k.Source}, Sources: k.Sources}
		if k.Made {
			spec.File = &service.File{Source: k.Text}
		}
		st.Keys[k.Name] = spec
	}

	return st, true
}

// joinFiles is was with the files that differ, less those that are gone.
func joinFiles(was, differ []bundle.File, gone []string) []bundle.File {
	left := make(map[string]bool, len(gone)+len(differ))
	for _, p := range gone {
		left[p] = true
	}

	for _, f := range differ {
		left[f.Path] = true
	}

	out := make([]bundle.File, 0, len(was)+len(differ))
	for _, f := range was {
		if !left[f.Path] {
			out = append(out, f)
		}
	}

	out = append(out, differ...)
	slices.SortFunc(out, func(a, b bundle.File) int { return strings.Compare(a.Path, b.Path) })
	return out
}
