package service

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"bellhop/internal/archive"
	"bellhop/internal/bundle"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/yaml"
	"bellhop/internal/unitfile"
)

// A programRef is a program of an Exec…= line.
type programRef struct {
	path    string           // as the unit file has it
	problem *problem.Problem // to report when it is not there; without its message
	key     string           // "ExecStart"
}

// programs notes the programs of an Exec…= line.
func (c *unitCheck) programsOf(u *Unit, a unitfile.Assignment, p unitfile.Problem, data []byte) {
	isList := a.Key == "ExecSearchPath" || a.Key == "ExecPaths"
	isCommand := a.Section == "Service" && strings.HasPrefix(a.Key, "Exec") && !isList
	if !isCommand || a.Value == "" {
		return
	}

	commands, _ := unitfile.Commands(a.Value)
	for _, command := range commands[:min(len(commands), maxRefs)] {
		if !command.Optional && !strings.Contains(command.Path, "%") {
			c.programs = append(c.programs, programRef{command.Path, c.at(u, p, data, ""), a.Key})
		}
	}
}

// checkPrograms holds the programs of unit files against the service's package: a path into it that it
// does not have is refused, when the package is a file of the repo. A bare name is looked for in the
// host's own folders, never in a package.
func (s *reader) checkPrograms(refs []programRef) error {
	if s.Package == nil {
		return nil
	}

	top := bundle.PackageDir + "/" + s.Name + "/"
	for _, r := range refs {
		rest, inside := strings.CutPrefix(path.Clean(r.path), top)
		isNeed := slices.ContainsFunc(s.Def.Needs, func(n yaml.String) bool { return n.S == r.path })
		switch {
		case !strings.Contains(r.path, "/") && !isNeed:
			r.problem.Warning = true
			r.problem.Message = fmt.Sprintf("%s=%s: systemd looks for it in the host's own folders (/usr/local/bin, /usr/bin …), not in the package; a program of the package is %s%s, one of the host can be named in needs:", r.key, r.path, top, r.path)
			s.Problems = append(s.Problems, r.problem)
		case inside:
			if err := s.checkProgram(r, rest); err != nil {
				return err
			}
		}
	}

	return nil
}

// checkProgram looks for one program in the packages of all architectures.
func (s *reader) checkProgram(r programRef, rest string) error {
	for _, file := range slices.Sorted(maps.Keys(s.Package.blobs)) {
		names, err := s.packageNames(file)
		if err != nil {
			return err
		}
		if names == nil || names.has(rest) {
			continue
		}

		r.problem.Message = fmt.Sprintf("%s=%s: the package %s has no %s", r.key, r.path, file, rest)
		if near := nearPath(rest, names); near != "" {
			r.problem.Message += fmt.Sprintf("; did you mean %s?", near)
		}
		s.Problems = append(s.Problems, r.problem)
		return nil
	}

	return nil
}

// nearPath is a name of the package that was perhaps meant: nearly the same, or the same below
// another folder.
func nearPath(name string, names packageNames) string {
	all := slices.Sorted(maps.Keys(names))
	if near := unitfile.Near(name, all); near != "" {
		return near
	}

	for _, other := range all {
		if path.Base(other) == path.Base(name) && !strings.HasSuffix(other, "/") {
			return other
		}
	}

	return ""
}

// packageNames are the paths in a package; true for links, behind which anything may be.
type packageNames map[string]bool

func (names packageNames) has(name string) bool {
	if _, ok := names[name]; ok {
		return true
	}

	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if names[dir] {
			return true
		}
	}

	return false
}

// Bounds of looking into a package; behind them nothing is said of it.
const (
	maxLookedUnpacked = 256 << 20
	maxLookedEntries  = 50_000
)

// packageNames lists what a package that is a file of the repo brings; nil when that is not known. What
// is no archive at all is for the host to say.
func (s *reader) packageNames(file string) (packageNames, error) {
	p := s.Package
	if archive.IsSingle(p.Kind) {
		return nil, nil // its name may be one of several
	}

	data, err := s.Tree.Bytes(file)
	if err != nil {
		return nil, err
	}

	names := packageNames{}
	add := func(name string, isLink bool) bool {
		parts := strings.FieldsFunc(name, func(r rune) bool { return r == '/' })
		parts = slices.DeleteFunc(parts, func(part string) bool { return part == "." })
		if len(parts) > p.Strip {
			names[path.Join(parts[p.Strip:]...)] = isLink
		}
		return len(names) <= maxLookedEntries
	}

	whole := false
	switch p.Kind {
	case archive.Zip:
		whole = zipNames(data, add)
	case archive.Tar:
		whole = tarNames(bytes.NewReader(data), add)
	case archive.TarGz:
		if r, err := gzip.NewReader(bytes.NewReader(data)); err == nil {
			whole = tarNames(r, add)
		}

	case archive.TarBz2:
		whole = tarNames(bzip2.NewReader(bytes.NewReader(data)), add)
	}

	if !whole {
		return nil, nil
	}

	return names, nil
}

// zipNames lists a zip; false when it could not be read to its end.
func zipNames(data []byte, add func(name string, isLink bool) bool) bool {
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return false
	}

	for _, f := range z.File {
		if !add(strings.ReplaceAll(f.Name, `\`, "/"), f.Mode()&fs.ModeSymlink != 0) {
			return false
		}
	}

	return true
}

// tarNames lists a tar; false when it could not be read to its end.
func tarNames(r io.Reader, add func(name string, isLink bool) bool) bool {
	limited := &io.LimitedReader{R: r, N: maxLookedUnpacked}
	archive := tar.NewReader(limited)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return limited.N > 0
		}
		if err != nil || !add(h.Name, h.Typeflag == tar.TypeSymlink) {
			return false
		}
	}
}
