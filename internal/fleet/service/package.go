package service

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"bellhop/internal/archive"
	"bellhop/internal/bundle"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/tree"
	"bellhop/internal/fleet/yaml"
)

var shaRule = regexp.MustCompile(`^[0-9a-f]{64}$`)

// readPackage reads package:, as far as service.yaml alone says.
func (s *reader) readPackage() {
	f := &s.Def.Package
	if f.At.Line == 0 {
		return
	}
	p := &Package{At: f.At, sha: map[string]string{}, blobs: map[string]*tree.Blob{}}
	p.Name, p.Service, p.Strip = s.Name, s.Name, f.Strip.N
	if f.Strip.N < 0 || f.Strip.N > 16 {
		s.report(f.Strip.At, "package: strip is %d; want 0 to 16", f.Strip.N)
	}
	switch {
	case f.URL.S != "" && f.File.S != "":
		s.report(f.File.At, "package: url and file exclude each other")
	case f.URL.S != "":
		p.url = s.expand(f.URL, f.Version.S)
		s.checkURL(f.URL.At, p.url)
		s.readSums(p)

	case f.File.S != "":
		p.file = s.packageFile(f)
		s.readSums(p)
	default:
		s.report(f.At, "package: want url, with sha256, or file")
		return
	}

	s.readKind(p)
	if f.Name.S != "" && !syntax.IsName(f.Name.S) {
		s.report(f.Name.At, "bad name %q for a file: %s", f.Name.S, syntax.NameWords)
	}
	s.Package = p
}

// readKind settles what the package is: by kind:, else by the name that it has where it comes from.
func (s *reader) readKind(p *Package) {
	f := &s.Def.Package
	base := path.Base(p.file)
	if u, err := url.Parse(p.url); p.url != "" && err == nil {
		base = path.Base(u.Path)
	}
	kind, rest := archive.KindOfName(base)

	if s.Source.Former {
		kind = formerKind(base)
	}
	p.Named = f.Kind.S != ""
	p.Kind = cmp.Or(f.Kind.S, kind)
	switch bad := archive.UnsupportedName(base); {
	case !slices.Contains(archive.Kinds, p.Kind):
		s.report(f.Kind.At, "package: kind %q: want %s", p.Kind, strings.Join(archive.Kinds, ", "))
	case bad != "" && !p.Named:
		s.report(p.At, "package: %s: %s; kind: file installs it as it is", base, bad)
	}

	if !archive.IsSingle(p.Kind) {
		if f.Name.S != "" {
			s.report(f.Name.At, "package: name is for a single file; an archive brings its own names")
		}
		return
	}

	p.File = cmp.Or(f.Name.S, s.Name)
	if f.Name.S == "" {
		p.As = base
		if p.Kind == kind {
			p.As = rest
		}
	}

	if p.Strip != 0 {
		s.report(f.Strip.At, "package: strip is for archives; this is a single file")
	}
}

// expand fills in {version} and leaves {arch}.
func (s *reader) expand(v yaml.String, version string) string {
	return syntax.FillPlaceholders(v.S, func(m string) string {
		switch m {
		case "{arch}":
			return m
		case "{version}":
			if version == "" {
				s.report(v.At, "package: {version} stands here, but there is no version:")
			}
			return version
		}

		s.report(v.At, "package: unknown placeholder %s; known: {version}, {arch}", m)
		return ""
	})
}

func (s *reader) checkURL(at problem.Pos, raw string) {
	u, err := url.Parse(strings.ReplaceAll(raw, "{arch}", "arch"))
	switch {
	case err != nil || u.Host == "":
		s.report(at, "package: url %q is not readable", raw)
	case u.Scheme != "https" && u.Scheme != "http": // the sum is what is trusted
		s.report(at, "package: url %q: want http:// or https://", raw)
	case u.User != nil:
		s.report(at, "package: no user or password in a url: it would stand in git and in history")
	}
}

// packageFile is the path of a package that is a blob of the service's folder.
func (s *reader) packageFile(f *syntax.Package) string {
	name := s.expand(f.File, f.Version.S)
	if path.IsAbs(name) || path.Clean(name) != name || strings.HasPrefix(name, "..") {
		s.report(f.File.At, "package: file %q: want a path below this folder", name)
		return ""
	}

	return "services/" + s.Name + "/" + name
}

func (s *reader) readSums(p *Package) {
	f := &s.Def.Package.SHA256
	sum := func(v yaml.String) string {
		hex := strings.ToLower(v.S)
		if !shaRule.MatchString(hex) {
			s.report(v.At, "package: sha256 %q: want 64 hex digits", v.S)
		}
		return hex
	}

	if f.Any.S != "" {
		p.anyArch = sum(f.Any)
		if strings.Contains(p.url+p.file, "{arch}") {
			s.report(f.Any.At, "package: with {arch} there is a sha256 for each, as in { amd64: …, arm64: … }")
		}
	}

	for _, e := range f.By {
		if hint := syntax.ArchHint(e.Key); hint != "" {
			s.report(e.At, "package: %s", hint)
		}
		p.sha[e.Key] = sum(e.Value)
	}

	if p.url != "" && p.anyArch == "" && len(p.sha) == 0 {
		s.report(p.At, "package: url without sha256")
	}
}

// matchesPackage says whether a file of the folder is the package, for any architecture.
func (s *reader) matchesPackage(file string) bool {
	before, after, perArch := strings.Cut(s.Package.file, "{arch}")
	if !perArch {
		return file == s.Package.file
	}
	if len(file) < len(before)+len(after) || !strings.HasPrefix(file, before) || !strings.HasSuffix(file, after) {
		return false
	}
	return slices.Contains(syntax.Arches, file[len(before):len(file)-len(after)])
}

// checkPackage holds a package that is a blob against its sums.
func (s *reader) checkPackage() {
	p := s.Package
	if p == nil || p.file == "" {
		return
	}
	if len(p.blobs) == 0 {
		s.report(p.At, "package: no file %s in the repo", p.file)
	}
	for file, b := range p.blobs {
		want := p.anyArch
		for arch, sha := range p.sha {
			if strings.ReplaceAll(p.file, "{arch}", arch) == file {
				want = sha
			}
		}

		if want != "" && want != b.Digest {
			s.report(p.At, "package: sha256 of %s is %s", file, b.Digest)
		}
		if bad := archive.Mistaken(file, b.Head); bad != "" && p.Kind == archive.File && !p.Named {
			s.report(p.At, "package: %s: %s", file, bad)
		}
	}
}

// NeedsArch says whether hosts of different architecture get different packages.
func (p *Package) NeedsArch() bool {
	if p == nil {
		return false
	}
	hasURLs := p.anyArch == "" && p.url != ""
	return hasURLs || strings.Contains(p.file, "{arch}")
}

// ForArch is the package that a host of that architecture gets.
func (p *Package) ForArch(arch string) (bundle.Package, error) {
	out := p.Package
	out.As = strings.ReplaceAll(out.As, "{arch}", arch)
	if !syntax.IsName(out.As) || out.As == out.File {
		out.As = ""
	}
	if p.NeedsArch() && arch == "" {
		return out, fmt.Errorf("the architecture is not known yet, and the package of %s needs it: write arch: into the config, or let bellhop reach the host once", p.Name)
	}
	if p.file != "" {
		file := strings.ReplaceAll(p.file, "{arch}", arch)
		b := p.blobs[file]
		if b == nil {
			return out, fmt.Errorf("the package of %s has no file for %s (%s)", p.Name, arch, file)
		}
		out.Source, out.Digest, out.Size = file, b.Digest, b.Size
		return out, nil
	}

	out.URL = strings.ReplaceAll(p.url, "{arch}", arch)
	out.Digest = cmp.Or(p.sha[arch], p.anyArch)
	if out.Digest == "" {
		return out, fmt.Errorf("the package of %s has no sha256 for %s, only for %s", p.Name, arch, strings.Join(slices.Sorted(maps.Keys(p.sha)), ", "))
	}
	return out, nil
}

// formerKind is the kind of a package by its name as the first release had it: a host that it deployed
// to holds what it made of a commit, so the commit must come to the same digest.
func formerKind(base string) string {
	switch {
	case strings.HasSuffix(base, ".tar.gz"), strings.HasSuffix(base, ".tgz"):
		return archive.TarGz
	case strings.HasSuffix(base, ".zip"):
		return archive.Zip
	}
	return archive.File
}
