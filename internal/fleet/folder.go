package fleet

import (
	"cmp"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/tree"
	"bellhop/internal/fleet/yaml"
	"bellhop/internal/unitfile"
)

// readService reads the folder services/name. earlier are the same folder in earlier trees;
// when nothing that matters differs from one of them, that one is the answer.
func (l *Loader) readService(t *tree.Tree, name string, earlier []*serviceState) (*service, error) {
	dir := "services/" + name
	s := &service{name: name, treeHash: t.DirHash(dir), listing: newListing(), blobs: map[string]*tree.Blob{}, renders: map[renderKey]*rendered{}}
	var old *service // whose listings serve
	for _, e := range earlier {
		fresh, err := e.current(t)
		if err != nil {
			return nil, err
		}
		if fresh && s.treeHash != "" && e.treeHash == s.treeHash {
			return e.service, nil
		}
		old = cmp.Or(old, e.service)
	}
	s.text = &yaml.File{Name: dir + "/service.yaml", Former: l.Former}
	if err := s.walk(t, dir, true, old); err != nil {
		return nil, err
	}
	s.fingerprint = fingerprint(s.objects, s.problems)
	for _, e := range earlier {
		if fresh, err := e.current(t); err == nil && fresh && e.fingerprint == s.fingerprint {
			// A README changed. Remember the new hash, so that the next load need not look.
			// No other goroutine reads it: loads hold the loader's lock.
			e.treeHash, e.listing = s.treeHash, s.listing
			return e.service, nil
		}
	}
	if err := s.build(t, l); err != nil {
		return nil, err
	}
	var err error
	s.outside, err = s.outsideID(t)
	return s, err
}

// walk lists the folder; below a folder whose hash old knows, old's listing is taken.
func (s *service) walk(t *tree.Tree, dir string, top bool, old *service) error {
	h := t.DirHash(dir)
	if !top && old != nil && len(old.problems) == 0 && s.listing.take(&old.listing, dir, h) {
		return nil
	}
	if strings.Count(dir, "/") > tree.MaxDepth {
		s.tellFile(dir, "more than %d folders in each other", tree.MaxDepth)
		return nil
	}
	defer s.listing.begin(dir, h)()

	os, err := t.List(dir)
	if err != nil {
		return err
	}
	if top {
		os = slices.DeleteFunc(os, func(o tree.Object) bool {
			return !o.Mode.IsDir() && tree.Ignored(o.Name()) || o.Mode.IsDir() && strings.HasPrefix(o.Name(), ".")
		})
	}
	inFiles := strings.HasPrefix(dir+"/", "services/"+s.name+"/files/")
	tree.Twins(os, func(a, b tree.Object) {
		s.problems = append(s.problems, &problem.Problem{File: b.Path, Warning: inFiles, Message: fmt.Sprintf("differs from %s only by case: "+tree.CaseLost, a.Name())})
	})
	for _, o := range os {
		if bad := tree.BadObject(o, inFiles); bad != "" {
			s.tellFile(o.Path, "%s", bad)
			continue
		}
		switch {
		case o.Mode.IsDir():
			err = s.walk(t, o.Path, false, old)
		case o.Mode&fs.ModeSymlink != 0:
			o.Hash, err = t.Link(o.Path)
			s.objects = append(s.objects, o)
		default:
			o.Hash, err = t.FileHash(o.Path)
			if err == tree.ErrTooLarge {
				s.tellFile(o.Path, tree.TooLargeHint)
				err = nil
				continue
			}
			s.objects = append(s.objects, o)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fingerprint covers everything that a service is made from.
func fingerprint(os []tree.Object, ps problem.Problems) string {
	var b strings.Builder
	for _, o := range os {
		fmt.Fprintf(&b, "%q %o %q\n", o.Path, uint32(o.Mode&(fs.ModeType|0o111)), o.Hash)
	}
	for _, p := range ps {
		b.WriteString(p.Error())
	}
	return bundle.DigestBytes([]byte(b.String()))
}

// build parses what was listed.
func (s *service) build(t *tree.Tree, l *Loader) error {
	dir := "services/" + s.name + "/"
	if !syntax.IsName(s.name) {
		s.tellFile(dir, "bad name %q for a service: %s", s.name, syntax.NameWords)
	}
	for _, o := range s.objects {
		if o.Path == s.text.Name {
			b, err := s.load(t, l, o, true)
			if err != nil || b == nil {
				return err
			}
			s.text.Data = b.Data
			yaml.Decode(s.text, &s.def, l.budget)
			s.problems = append(s.problems, s.text.Problems...)
		}
	}
	s.readUser()
	s.readPackage()
	for _, o := range s.objects {
		if err := s.take(t, l, o, strings.TrimPrefix(o.Path, dir)); err != nil {
			return err
		}
	}
	s.readSettings()
	s.readFiles()
	s.readKeys()
	s.readUnits()
	s.readUnitTexts()
	s.readNeeds()
	s.readHealth(t)
	s.checkPackage()
	if err := s.checkPrograms(t, s.programs); err != nil {
		return err
	}
	s.claims()
	return nil
}

// load is the blob of o, from the loader's memory if it is there. It is nil when it was told
// as a problem.
func (s *service) load(t *tree.Tree, l *Loader, o tree.Object, keep bool) (*tree.Blob, error) {
	b := l.cache.blobs[o.Hash]
	if b == nil || keep && b.Data == nil && b.Size > 0 {
		data, err := t.Bytes(o.Path)
		if err == tree.ErrTooLarge {
			s.tellFile(o.Path, tree.TooLargeHint)
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		b = tree.NewBlob(data, keep)
		l.cache.blobs[o.Hash] = b
	}
	s.blobs[o.Hash] = b
	if b.LFS {
		s.tellFile(o.Path, "a git-lfs pointer, not the file itself: bellhop does not fetch from LFS; use a package")
		return nil, nil
	}
	return b, nil
}

// take puts one file of the folder where it belongs. rel is its path below the folder.
func (s *service) take(t *tree.Tree, l *Loader, o tree.Object, rel string) error {
	top, rest, nested := strings.Cut(rel, "/")
	switch {
	case rel == "service.yaml":
		return nil
	case !nested && (strings.EqualFold(top, "service.yml") || strings.EqualFold(top, "service.yaml")):
		s.tellFile(o.Path, "this file is called service.yaml")
		return nil
	case nested && top == "files":
		return s.takeFile(t, l, o, rest)
	case s.pkg != nil && s.pkg.file != "" && s.matchesPackage(o.Path):
		b, err := s.load(t, l, o, false)
		if b != nil {
			s.pkg.blobs[o.Path] = b
		}
		return err
	case !nested:
		name := strings.TrimSuffix(top, ".tmpl")
		if syntax.IsUnit(name) || syntax.IsQuadlet(name) {
			return s.takeUnit(t, l, o, name, "")
		}
	case strings.HasSuffix(top, ".d") && !strings.Contains(rest, "/"):
		unit := strings.TrimSuffix(top, ".d")
		if syntax.IsUnit(unit) || syntax.IsQuadlet(unit) {
			return s.takeUnit(t, l, o, unit, strings.TrimSuffix(rest, ".tmpl"))
		}
	}
	hint := "here stand service.yaml, unit files, UNIT.d/, files/, and what package: names"
	if !nested {
		if _, kind := unitfile.SplitName(strings.TrimSuffix(top, ".tmpl")); kind != "" {
			if c := problem.Near(kind, append(slices.Clone(syntax.UnitKinds), unitfile.QuadletKinds...)); c != "" {
				hint = fmt.Sprintf("did you mean .%s?", c)
			}
		}
	}
	s.tellFile(o.Path, "bellhop does not know what to do with this; %s", hint)
	return nil
}

func (s *service) takeFile(t *tree.Tree, l *Loader, o tree.Object, rest string) error {
	f := fileSpec{path: "/" + rest, src: o.Path, user: "root", group: "root", mode: 0o644}
	if o.Mode&fs.ModeSymlink != 0 {
		f.target = o.Hash
		if bad := syntax.BadPath(f.path); bad != "" {
			s.tellFile(o.Path, "%s", bad)
		} else if bad := bundle.BadTarget(f.target); bad != "" {
			s.tellFile(o.Path, "%s", bad)
		}
		s.files = append(s.files, f)
		return nil
	}
	isTmpl := strings.HasSuffix(rest, ".tmpl")
	f.path = strings.TrimSuffix(f.path, ".tmpl")
	if bad := syntax.BadPath(f.path); bad != "" {
		s.tellFile(o.Path, "%s", bad)
	} else if top, _, _ := strings.Cut(f.path[1:], "/"); top == "run" || top == "tmp" {
		s.problems = append(s.problems, &problem.Problem{File: o.Path, Warning: true,
			Message: fmt.Sprintf("/%s is empty after a boot, and bellhop puts a file back only with the next change; a snippet for systemd-tmpfiles does it at each boot", top)})
	}
	if o.Mode&0o111 != 0 {
		f.mode = 0o755
	}
	b, err := s.load(t, l, o, isTmpl || syntax.IsLogins(f.path))
	if err != nil || b == nil {
		return err
	}
	f.blob = b
	if isTmpl {
		f.tmpl = s.template(t, o.Path, b)
	}
	s.files = append(s.files, f)
	return nil
}

func (s *service) takeUnit(t *tree.Tree, l *Loader, o tree.Object, unit, dropin string) error {
	if bad := syntax.CheckUnitName(unit); bad != "" {
		s.tellFile(o.Path, "bad name for a unit: %s", bad)
		return nil
	}
	u := unitSpec{unit: unit, src: o.Path, quadlet: syntax.IsQuadlet(unit)}
	where := bundle.UnitDir
	if u.quadlet {
		where = bundle.QuadletDir
	}
	u.path = where + "/" + unit
	if dropin != "" {
		u.dropin = true
		u.path = where + "/" + unit + ".d/" + dropin
		switch {
		case !strings.HasSuffix(dropin, ".conf") || dropin == ".conf":
			s.tellFile(o.Path, "systemd reads only *.conf here")
		case dropin == syntax.GateName:
			s.tellFile(o.Path, "%s is the drop-in that bellhop writes; take another name", syntax.GateName)
		}
	}
	b, err := s.load(t, l, o, true)
	if err != nil || b == nil {
		return err
	}
	u.blob = b
	if len(b.Data) == 0 && !u.dropin {
		s.tellFile(o.Path, "is empty: systemd takes an empty unit file for a mask, and starts nothing; remove it, or write the unit")
	}
	if strings.HasSuffix(o.Path, ".tmpl") {
		u.tmpl = s.template(t, o.Path, b)
		if u.tmpl != nil && u.tmpl.Secret {
			s.problems = append(s.problems, problem.At(o.Path, b.Data, u.tmpl.KeyAt, "a unit file is readable by all, so it can't name a key: use EnvironmentFile=%s/NAME", bundle.KeyDir))
		}
	}
	s.units = append(s.units, u)
	return nil
}
