package look

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/host/owned"
	"bellhop/internal/host/state"
)

// otherSize stands for the digest of a file that has another size than bellhop wrote: it is not read.
const otherSize = "of another size"

// paths compares files, links and packages, and then the folders that bellhop made for them.
func (l *looker) paths() error {
	sizes := map[string]int64{}
	for _, f := range l.now.Manifest.Files {
		sizes[f.Path] = f.Size
	}

	var stamps state.Stamps
	if !l.ask.Verify {
		stamps = l.m.Stamps()
	}

	in := l.m.Tree().Looker(l.ctx)
	defer in.Close()
	in.Known = func(p string, is owned.Stamp) string {
		if known, ok := stamps[p]; ok && known.Stamp == is {
			return known.Digest
		}
		if size, ok := sizes[p]; ok && size != is.Size {
			return otherSize
		}
		return ""
	}

	l.gone = map[string]bool{}
	for _, p := range slices.Sorted(maps.Keys(l.now.Owned.Paths)) {
		want := l.now.Owned.Paths[p].Now
		if want.Kind == owned.Nothing {
			continue
		}

		is, err := in.Look(p, sizes[p])
		if l.ctx.Err() != nil {
			return l.ctx.Err()
		}
		l.path(p, want, is, err)
	}

	l.seen.Read = in.Reads
	l.packages()
	l.dirs()
	return nil
}

// wentWithBoot says that a boot emptied the folder of p since the last run. What was there comes back with
// the keys, and missing keys are told.
func (l *looker) wentWithBoot(p string) bool {
	return strings.HasPrefix(p, bundle.RunUnitDir+"/") && l.seen.BootID != l.now.BootID
}

// path compares what is at p with what bellhop put there.
func (l *looker) path(p string, want owned.Entry, is owned.Sight, err error) {
	kind, name := kindOf(p, want)
	l.gone[p] = err == nil && is.Kind == owned.Nothing

	var barred *owned.BlockedError
	switch {
	case errors.As(err, &barred):
		l.differs(bundle.Drift{Kind: kind, Name: name, What: bundle.DriftBarred, Is: barred.By})
		return
	case err != nil: // a link that is not root's on the way, or a disk that can't be read
		l.drift(kind, name, bundle.DriftBarred)
		return
	case is.Kind == owned.Nothing && l.wentWithBoot(p):
		return
	case is.Kind == owned.Nothing:
		l.drift(kind, name, bundle.DriftMissing)
		return
	case is.Kind != want.Kind:
		l.drift(kind, name, bundle.DriftReplaced)
		return
	}

	if is.Target != want.Target {
		l.differs(bundle.Drift{Kind: kind, Name: name, What: bundle.DriftChanged, Want: want.Target, Is: is.Target})
	}
	if is.Digest != want.Digest {
		l.drift(kind, name, bundle.DriftChanged)
	}
	if is.Mode != want.Mode {
		l.differs(bundle.Drift{Kind: kind, Name: name, What: bundle.DriftMode, Want: octal(want.Mode), Is: octal(is.Mode)})
	}
	if is.User != want.User || is.Group != want.Group {
		l.differs(bundle.Drift{Kind: kind, Name: name, What: bundle.DriftOwner, Want: want.User + ":" + want.Group, Is: is.User + ":" + is.Group})
	}
}

func octal(mode uint32) string { return fmt.Sprintf("%04o", mode) }

// kindOf is what people call the thing at an owned path.
func kindOf(p string, want owned.Entry) (kind, name string) {
	if path.Dir(p) == bundle.PackageDir && want.Kind == owned.Link {
		return bundle.KindPackage, path.Base(p)
	}
	if want.Kind == owned.Link {
		return bundle.KindLink, p
	}
	return bundle.KindFile, p
}

// packages looks whether the links of packages lead to anything.
func (l *looker) packages() {
	for _, p := range l.now.Manifest.Packages {
		link := l.gone[bundle.PackageDir+"/"+p.Name]
		if !link && !l.m.Packages().Has(p) {
			l.drift(bundle.KindPackage, p.Name, bundle.DriftMissing)
		}
	}
}

// dirs looks at the folders that bellhop made. One that is missing counts where something of bellhop's lay
// in it: any other may leave.
func (l *looker) dirs() {
	for _, d := range l.now.Owned.Dirs {
		f, err := l.m.Tree().Folder(d, false)
		switch {
		case err == nil:
			f.Close()
		case !l.holds(d):
		case errors.Is(err, fs.ErrNotExist):
			l.drift(bundle.KindDir, d, bundle.DriftMissing)
		case errors.Is(err, unix.ENOTDIR):
			l.drift(bundle.KindDir, d, bundle.DriftReplaced)
		default:
			l.drift(bundle.KindDir, d, bundle.DriftBarred)
		}
	}
}

// holds says whether bellhop owns a path below d.
func (l *looker) holds(d string) bool {
	for p, o := range l.now.Owned.Paths {
		if o.Now.Kind != owned.Nothing && strings.HasPrefix(p, d+"/") {
			return true
		}
	}
	return false
}
