package service

import (
	"bytes"
	"cmp"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/compose"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/tree"
)

// A Compose says how a folder is a compose service. What its files come to depends on settings, and is for
// package render.
type Compose struct {
	Project string
	Dir     string   // on the host
	Files   []string // compose files, relative to the folder
	Env     []string // plain env files, relative to the folder
	EnvKey  string   // name of the key that is a secret env file, which is read before Env; ""
}

// looksComposed says whether the folder that holds os is a compose service.
func (s *reader) looksComposed(os []tree.Object) (bool, error) {
	for _, o := range os {
		if !o.Mode.IsDir() && slices.Contains(compose.Names, o.Name()) {
			return true, nil
		}
	}

	i := slices.IndexFunc(os, func(o tree.Object) bool { return o.Path == s.Source.Name && o.Mode.IsRegular() })
	if i < 0 {
		return false, nil
	}
	hash, err := s.Tree.FileHash(s.Source.Name)
	if err != nil {
		return false, nil // told when it is listed
	}
	if b := s.Known[hash]; b != nil && b.Data != nil {
		return composeKey.Match(b.Data), nil // the folder differs, and this file of it does not
	}
	data, err := s.Tree.Bytes(s.Source.Name)
	if err == tree.ErrTooLarge {
		return false, nil // told when it is listed
	}
	if err == nil {
		s.Known[hash] = tree.NewBlob(data, true) // it is read once
	}
	return composeKey.Match(data), err
}

var composeKey = regexp.MustCompile(`(?m)^["']?compose["']?\s*:`)

var (
	projectRule = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)
	stackPath   = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._@+-]*(/[A-Za-z0-9_.][A-Za-z0-9._@+-]*)*$`)
)

// readCompose reads compose: of service.yaml, and finds the compose files of the folder.
func (s *reader) readCompose() {
	def := s.Def.Compose
	if !s.composed {
		return
	}
	at := def.At
	c := &Compose{Project: cmp.Or(def.Project.S, s.Name), Dir: cmp.Or(def.Dir.S, bundle.StackDir+"/"+s.Name)}
	s.Compose = c
	if !projectRule.MatchString(c.Project) {
		s.report(cmp.Or(def.Project.At, at), "compose: project %q: want small letters, digits, - and _, as in compose: { project: %s }", c.Project, strings.ToLower(projectName.ReplaceAllString(s.Name, "-")))
	}
	s.checkStackDir(c)
	s.composeFiles(c)
	s.composeEnv(c)
}

var projectName = regexp.MustCompile(`[^A-Za-z0-9_-]`)

func (s *reader) checkStackDir(c *Compose) {
	at := s.Def.Compose.Dir.At
	switch {
	case !homeRule.MatchString(c.Dir):
		s.report(at, "compose: dir %q: want a clean absolute path of plain letters, digits and . _ + @ -", c.Dir)
	case slices.Contains(systemPlaces, c.Dir) || c.Dir == bundle.StackDir || syntax.BadPath(c.Dir) != "":
		s.report(at, "compose: dir %q is a place of the system: take a folder below it", c.Dir)
	}
}

// composeFiles settles which compose files the service has.
func (s *reader) composeFiles(c *Compose) {
	has := func(name string) bool {
		return slices.ContainsFunc(s.Objects, func(o tree.Object) bool { return o.Path == "services/"+s.Name+"/"+name })
	}
	for _, f := range s.Def.Compose.Files {
		switch {
		case !stackPath.MatchString(f.S) || strings.Contains(f.S, ".."):
			s.report(f.At, "compose: files: %q: want the name of a file in this folder, of plain letters, digits and . _ + @ -", f.S)
		case !has(f.S):
			s.report(f.At, "compose: files: there is no %s in services/%s", f.S, s.Name)
		case slices.Contains(c.Files, f.S):
			s.report(f.At, "compose: files: %s stands here twice", f.S)
		default:
			c.Files = append(c.Files, f.S)
		}
	}
	if len(s.Def.Compose.Files) > 0 {
		return
	}

	for _, name := range compose.Names {
		switch {
		case !has(name):
		case len(c.Files) == 0:
			c.Files = []string{name}
		default:
			s.reportFile("services/"+s.Name+"/"+name, "there is %s too, and compose reads one of them: remove one", c.Files[0])
		}
	}
	if len(c.Files) == 0 {
		s.report(s.Def.Compose.At, "compose: there is no compose.yaml in services/%s", s.Name)
	}
}

// composeEnv settles where the values of variables come from.
func (s *reader) composeEnv(c *Compose) {
	for _, e := range s.Def.Compose.Env {
		switch {
		case strings.HasSuffix(e.S, ".age") && c.EnvKey != "":
			s.report(e.At, "compose: env: one secret file is enough: join %s with the other", e.S)

		case strings.HasSuffix(e.S, ".age") && len(c.Env) > 0:
			s.report(e.At, "compose: env: write %s first: it is read before the other files, and what they set wins over it", e.S)

		case strings.HasSuffix(e.S, ".age"):
			c.EnvKey = s.Name + "-env"
			k := Key{At: e.At}
			k.Name, k.Path, k.User, k.Group, k.Mode = c.EnvKey, bundle.KeyDir+"/"+c.EnvKey, "root", "root", 0o400
			if s.checkSource(e.At, c.EnvKey, e.S) {
				k.Source, k.Sources = e.S, []string{e.S}
			}
			s.Keys = append(s.Keys, k)
			s.report(e.At, "compose: env: the values of %s stand in docker inspect and in the files of Docker; a key that is mounted as a file does not", e.S)
			s.Problems[len(s.Problems)-1].Warning = true

		case !stackPath.MatchString(strings.TrimPrefix(e.S, ".")) || strings.Contains(e.S, ".."):
			s.report(e.At, "compose: env: %q: want a file of this folder, or an age file below secrets/", e.S)
		default:
			c.Env = append(c.Env, e.S)
		}
	}
}

// takeCompose takes a file of the folder that the compose files may name. Whether it travels is known when
// they are read.
func (s *reader) takeCompose(o tree.Object, rel string) error {
	f := File{Source: o.Path, User: "root", Group: "root", Mode: 0o644}
	isTmpl := strings.HasSuffix(rel, ".tmpl")
	f.InStack = strings.TrimSuffix(rel, ".tmpl")
	f.Path = s.Compose.Dir + "/" + f.InStack
	if bad := bundle.BadPath(f.Path); bad != "" {
		s.reportFile(o.Path, "%s", bad)
	}
	if o.Mode&0o111 != 0 {
		f.Mode = 0o755
	}

	b, err := s.load(o, isTmpl)
	if err == nil && b != nil && b.Size <= compose.MaxFile {
		b, err = s.load(o, true) // it may be a compose file, or one of variables
	}
	if err != nil || b == nil {
		return err
	}
	f.Blob = b
	if isTmpl {
		f.Template = s.template(o.Path, b)
		if slices.Contains(s.Compose.Files, f.InStack) {
			s.reportFile(o.Path, "compose files are no templates: they take values of env: and settings: by ${NAME}")
		}
	}
	s.Files = append(s.Files, f)
	return nil
}

// StackFile is the file of the folder that compose files know by that name; nil when there is none.
func (s *Service) StackFile(name string) *File {
	i := slices.IndexFunc(s.Files, func(f File) bool { return f.InStack == name && name != "" })
	if i < 0 {
		return nil
	}
	return &s.Files[i]
}

// ComposeSource is what package compose reads, but for what settings make of it. text is a file's bytes on
// this host.
func (s *Service) ComposeSource(text func(*File) ([]byte, error)) compose.Source {
	c := s.Compose
	src := compose.Source{Folder: "services/" + s.Name, Service: s.Name, Project: c.Project, Dir: c.Dir, Files: c.Files, Env: c.Env, EnvKey: c.EnvKey}
	for _, k := range s.Keys {
		src.Keys = append(src.Keys, k.Name)
	}
	for _, f := range s.Files {
		if f.InStack != "" {
			src.Names = append(src.Names, f.InStack)
		} else {
			src.Placed = append(src.Placed, f.Path)
		}
	}
	slices.Sort(src.Names)

	src.Read = func(name string) ([]byte, error) {
		f := s.StackFile(name)
		if f == nil {
			return nil, fs.ErrNotExist
		}
		if f.Blob.Size > compose.MaxFile {
			return bytes.Repeat([]byte{' '}, compose.MaxFile+1), nil // too large to be read, whatever it holds
		}
		return text(f)
	}
	src.Sum = func(name string) string {
		f := s.StackFile(name)
		if f == nil {
			return ""
		}
		if f.Template == nil {
			return f.Blob.Digest
		}
		data, _ := text(f)
		return bundle.DigestBytes(data)
	}
	src.Key = func(name string) string {
		f := s.StackFile(name)
		i := slices.IndexFunc(s.Keys, func(k Key) bool { return f != nil && k.File != nil && k.File.Source == f.Source })
		if i < 0 {
			return ""
		}
		return s.Keys[i].Name
	}
	return src
}
