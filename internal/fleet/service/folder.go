package service

import (
	"cmp"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/compose"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/tree"
	"bellhop/internal/fleet/yaml"
	"bellhop/internal/unitfile"
)

// Sources are what folders are read from, and what is remembered from earlier ones.
type Sources struct {
	Tree   *tree.Tree
	Known  map[string]*tree.Blob // by hash; what is read is added
	Former bool                  // as the release before this one did
	Budget *tree.Budget
}

// A reader is one folder on its way to a service.
type reader struct {
	*Service
	Sources
	composed bool // the folder is a compose service
}

// Read reads the folder services/name. earlier are the same folder in earlier trees; when nothing that
// matters differs from one of them, that one is the answer.
func (from Sources) Read(name string, earlier []*Service) (*Service, error) {
	t := from.Tree
	dir := "services/" + name
	s := &reader{Service: &Service{Name: name, treeHash: t.DirHash(dir), listing: newListing(), Blobs: map[string]*tree.Blob{}}, Sources: from}
	var old *Service // whose listings serve
	for _, e := range earlier {
		fresh, err := e.Current(t)
		if err != nil {
			return nil, err
		}
		if fresh && s.treeHash != "" && e.treeHash == s.treeHash {
			return e, nil
		}
		old = cmp.Or(old, e)
	}

	s.Source = &yaml.File{Name: dir + "/service.yaml", Former: from.Former}
	if err := s.walk(dir, true, old); err != nil {
		return nil, err
	}
	if s.IsNix {
		return s.Service, nil
	}
	s.fingerprint = fingerprint(s.Objects, s.Problems)
	for _, e := range earlier {
		if fresh, err := e.Current(t); err == nil && fresh && e.fingerprint == s.fingerprint {
			// A README changed. Remember the new hash, so that the next load need not look.
			// No other goroutine reads it: loads hold the loader's lock.
			e.treeHash, e.listing = s.treeHash, s.listing
			return e, nil
		}
	}

	if err := s.build(); err != nil {
		return nil, err
	}
	var err error
	s.outside, err = s.outsideID(t)

	return s.Service, err
}

// Stray is a service without a name, which holds what is wrong with the folder services itself. No host
// can switch it on.
func Stray(ps problem.Problems) *Service {
	return &Service{Source: &yaml.File{Name: "services"}, Problems: ps}
}

// walk lists the folder; below a folder whose hash old knows, old's listing is taken.
func (s *reader) walk(dir string, top bool, old *Service) error {
	h := s.Tree.DirHash(dir)
	mayTake := !top && old != nil && len(old.Problems) == 0
	if mayTake && s.listing.take(&old.listing, dir, h) {
		return nil
	}
	if strings.Count(dir, "/") > tree.MaxDepth {
		s.reportFile(dir, "more than %d folders in each other", tree.MaxDepth)
		return nil
	}
	defer s.listing.begin(dir, h)()

	os, err := s.Tree.List(dir)
	if err != nil {
		return err
	}
	if top {
		if s.IsNix = isNixModule(os); s.IsNix {
			return nil
		}
		if s.composed, err = s.looksComposed(os); err != nil {
			return err
		}
		os = slices.DeleteFunc(os, func(o tree.Object) bool {
			if o.Mode.IsDir() {
				return strings.HasPrefix(o.Name(), ".")
			}
			return !s.composed && tree.Ignored(o.Name())
		})
	}

	inFiles := strings.HasPrefix(dir+"/", "services/"+s.Name+"/files/")
	tree.Twins(os, func(a, b tree.Object) {
		s.Problems = append(s.Problems, &problem.Problem{File: b.Path, Warning: inFiles, Message: fmt.Sprintf("differs from %s only by case: "+tree.CaseLost, a.Name())})
	})
	for _, o := range os {
		if bad := tree.BadObject(o, inFiles); bad != "" {
			s.reportFile(o.Path, "%s", bad)
			continue
		}

		if o.Mode.IsDir() {
			err = s.walk(o.Path, false, old)
		} else {
			err = s.list(o)
		}
		if err != nil {
			return err
		}
	}

	return nil
}

// isNixModule says whether a folder has Nix files, and nothing that makes it a service of bellhop.
func isNixModule(os []tree.Object) bool {
	isOfService := func(o tree.Object) bool {
		name := o.Name()
		if o.Mode.IsDir() {
			return name == "files" || strings.HasSuffix(name, ".d")
		}
		unit := strings.TrimSuffix(name, ".tmpl")
		isConfig := strings.EqualFold(name, "service.yaml") || strings.EqualFold(name, "service.yml") || slices.Contains(compose.Names, name)
		return isConfig || syntax.IsUnit(unit) || syntax.IsQuadlet(unit)
	}
	return tree.HasNix(os) && !slices.ContainsFunc(os, isOfService)
}

// list adds a file or link of the folder to the objects; a file that is too large is a problem.
func (s *reader) list(o tree.Object) (err error) {
	if o.Mode&fs.ModeSymlink != 0 {
		o.Hash, err = s.Tree.Link(o.Path)
	} else {
		o.Hash, err = s.Tree.FileHash(o.Path)
	}
	if err == tree.ErrTooLarge {
		s.reportFile(o.Path, tree.TooLargeHint)
		return nil
	}

	s.Objects = append(s.Objects, o)
	return err
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
func (s *reader) build() error {
	dir := "services/" + s.Name + "/"
	if !syntax.IsName(s.Name) {
		s.reportFile(dir, "bad name %q for a service: %s", s.Name, syntax.NameWords)
	}
	for _, o := range s.Objects {
		if o.Path == s.Source.Name {
			b, err := s.load(o, true)
			if err != nil || b == nil {
				return err
			}
			s.Source.Data = b.Data
			yaml.Decode(s.Source, &s.Def, s.Budget)
			s.Problems = append(s.Problems, s.Source.Problems...)
		}
	}

	s.readUser()
	s.readPackage()
	s.readCompose()
	for _, o := range s.Objects {
		if err := s.take(o, strings.TrimPrefix(o.Path, dir)); err != nil {
			return err
		}
	}

	s.readSettings()
	s.readFiles()
	s.readKeys()
	s.readUnits()
	s.readUnitTexts()
	s.readNeeds()
	s.readHealth()
	s.checkPackage()
	s.checkRootless()
	if err := s.checkPrograms(s.programs); err != nil {
		return err
	}
	s.claims()
	return nil
}

// load is the blob of o, from the loader's memory if it is there. It is nil when it was reported
// as a problem.
func (s *reader) load(o tree.Object, keep bool) (*tree.Blob, error) {
	b := s.Known[o.Hash]
	isForgotten := b != nil && b.Data == nil && b.Size > 0
	if b == nil || keep && isForgotten {
		data, err := s.Tree.Bytes(o.Path)
		if err == tree.ErrTooLarge {
			s.reportFile(o.Path, tree.TooLargeHint)
			return nil, nil
		}

		if err != nil {
			return nil, err
		}
		b = tree.NewBlob(data, keep)
		s.Known[o.Hash] = b
	}

	s.Blobs[o.Hash] = b
	if b.LFS {
		s.reportFile(o.Path, "a git-lfs pointer, not the file itself: bellhop does not fetch from LFS; use a package")
		return nil, nil
	}

	return b, nil
}

// take puts one file of the folder where it belongs. rel is its path below the folder.
func (s *reader) take(o tree.Object, rel string) error {
	top, rest, nested := strings.Cut(rel, "/")
	switch {
	case rel == "service.yaml":
		return nil
	case !nested && (strings.EqualFold(top, "service.yml") || strings.EqualFold(top, "service.yaml")):
		s.reportFile(o.Path, "this file is called service.yaml")
		return nil
	case nested && top == "files":
		return s.takeFile(o, rest)
	case s.Package != nil && s.Package.file != "" && s.matchesPackage(o.Path):
		b, err := s.load(o, false)
		if b != nil {
			s.Package.blobs[o.Path] = b
		}
		return err

	case !nested:
		name := strings.TrimSuffix(top, ".tmpl")
		if syntax.IsUnit(name) || syntax.IsQuadlet(name) {
			return s.takeUnit(o, name, "")
		}

	case strings.HasSuffix(top, ".d") && !strings.Contains(rest, "/"):
		unit := strings.TrimSuffix(top, ".d")
		if syntax.IsUnit(unit) || syntax.IsQuadlet(unit) {
			return s.takeUnit(o, unit, strings.TrimSuffix(rest, ".tmpl"))
		}
	}

	if s.Compose != nil {
		return s.takeCompose(o, rel)
	}
	hint := "here stand service.yaml, unit files, UNIT.d/, files/, and what package: names"
	if !nested {
		if _, kind := unitfile.SplitName(strings.TrimSuffix(top, ".tmpl")); kind != "" {
			if c := problem.Near(kind, append(slices.Clone(syntax.UnitKinds), unitfile.QuadletKinds...)); c != "" {
				hint = fmt.Sprintf("did you mean .%s?", c)
			}
		}
	}

	s.reportFile(o.Path, "bellhop does not know what to do with this; %s", hint)
	return nil
}

func (s *reader) takeFile(o tree.Object, rest string) error {
	f := File{Path: "/" + rest, Source: o.Path, User: "root", Group: "root", Mode: 0o644}
	if o.Mode&fs.ModeSymlink != 0 {
		f.Target = o.Hash
		if bad := syntax.BadPath(f.Path); bad != "" {
			s.reportFile(o.Path, "%s", bad)
		} else if bad := bundle.BadTarget(f.Target); bad != "" {
			s.reportFile(o.Path, "%s", bad)
		}

		s.Files = append(s.Files, f)
		return nil
	}

	isTmpl := strings.HasSuffix(rest, ".tmpl")
	f.Path = strings.TrimSuffix(f.Path, ".tmpl")
	if bad := syntax.BadPath(f.Path); bad != "" {
		s.reportFile(o.Path, "%s", bad)
	} else if top, _, _ := strings.Cut(f.Path[1:], "/"); top == "run" || top == "tmp" {
		s.Problems = append(s.Problems, &problem.Problem{File: o.Path, Warning: true,
			Message: fmt.Sprintf("/%s is empty after a boot, and bellhop puts a file back only with the next change; a snippet for systemd-tmpfiles does it at each boot", top)})
	}

	if o.Mode&0o111 != 0 {
		f.Mode = 0o755
	}
	b, err := s.load(o, isTmpl || syntax.IsLogins(f.Path))
	if err != nil || b == nil {
		return err
	}
	f.Blob = b
	if isTmpl {
		f.Template = s.template(o.Path, b)
	}
	s.Files = append(s.Files, f)
	return nil
}

func (s *reader) takeUnit(o tree.Object, unit, dropin string) error {
	if bad := syntax.CheckUnitName(unit); bad != "" {
		s.reportFile(o.Path, "bad name for a unit: %s", bad)
		return nil
	}

	u := Unit{Name: unit, Source: o.Path, IsQuadlet: syntax.IsQuadlet(unit)}
	if bad := s.notRootless(unit); bad != "" {
		s.reportFile(o.Path, "%s", bad)
	}
	where := s.placeOf(&u)
	u.Path = where + "/" + unit
	if dropin != "" {
		u.IsDropin = true
		u.Path = where + "/" + unit + ".d/" + dropin
		switch {
		case !strings.HasSuffix(dropin, ".conf") || dropin == ".conf":
			s.reportFile(o.Path, "systemd reads only *.conf here")
		case dropin == syntax.GateName:
			s.reportFile(o.Path, "%s is the drop-in that bellhop writes; take another name", syntax.GateName)
		}
	}

	b, err := s.load(o, true)
	if err != nil || b == nil {
		return err
	}
	u.Blob = b
	if len(b.Data) == 0 && !u.IsDropin {
		s.reportFile(o.Path, "is empty: systemd takes an empty unit file for a mask, and starts nothing; remove it, or write the unit")
	}
	if strings.HasSuffix(o.Path, ".tmpl") {
		u.Template = s.template(o.Path, b)
		if u.Template != nil && u.Template.Secret {
			s.Problems = append(s.Problems, problem.At(o.Path, b.Data, u.Template.KeyAt, "a unit file is readable by all, so it can't name a key: use EnvironmentFile=%s/NAME", bundle.KeyDir))
		}
	}

	s.Units = append(s.Units, u)
	return nil
}
