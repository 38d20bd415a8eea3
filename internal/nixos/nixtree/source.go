// Package nixtree is the tree that Nix sees of a commit: what of the repo is given to it, written to a private
// directory without git, with the hash that makes it the same source everywhere.
//
// Its promises: what bellhop alone reads is left out, so that a change of it evaluates nothing; and what local files a
// flake.lock could bring into the store is refused before Nix runs.
package nixtree

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A Source is what Nix sees of one commit. Nothing of it is on disk but between Write and the function
// that Write returns.
type Source struct {
	tree fs.FS
	rev  string

	files []sourceFile // sorted by path; folders are those that files need
	// Key is the same for two sources that Nix can't tell apart, but for the commit's id.
	Key string
	// Flake says that the tree has a flake.nix at its top.
	Flake bool
}

type sourceFile struct {
	path string
	mode fs.FileMode // type, and whether it can be executed
}

// Bounds on a source.
const (
	maxSourceFiles = 200_000
	maxNixFile     = 4 << 20 // of a file that is searched for names
	// MaxBytes is how much the files of a source may have.
	MaxBytes = 1 << 30
)

// NewSource is what Nix sees of tree, less what it has no business with: see leftOut. rev is the id of
// the commit, 40 hex digits, or "" for a tree that is no commit. A tree whose flake.lock is missing
// though the flake has inputs, or names local files, is an error that is meant for people.
func NewSource(tree fs.FS, rev string) (*Source, error) {
	s := &Source{tree: tree, rev: rev}
	if err := s.list(); err != nil {
		return nil, fmt.Errorf("read the tree for Nix: %w", err)
	}

	s.leaveOut()

	_, s.Flake = s.find("flake.nix")
	if s.Flake {
		if err := s.checkLock(); err != nil {
			return nil, err
		}
	}

	var err error
	s.Key, err = s.key()
	return s, err
}

// list finds all files and links of the tree.
func (s *Source) list() error {
	return fs.WalkDir(s.tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name == ".git" {
				return fs.SkipDir
			}
			return nil
		}
		if len(s.files) >= maxSourceFiles {
			return fmt.Errorf("more than %d files", maxSourceFiles)
		}

		f := sourceFile{path: name, mode: d.Type()}
		if d.Type().IsRegular() {
			info, err := d.Info()
			if err != nil {
				return err
			}
			f.mode |= info.Mode() & 0o100
		}
		s.files = append(s.files, f)
		return nil
	})
}

func (s *Source) find(name string) (int, bool) {
	return slices.BinarySearchFunc(s.files, name, func(f sourceFile, name string) int { return comparePaths(f.path, name) })
}

// comparePaths is the order in which fs.WalkDir comes by files: folder by folder.
func comparePaths(a, b string) int {
	return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
}

// leaveOut takes out of the source what bellhop alone reads, so that a change of it evaluates nothing
// and no ciphertext comes into the store: bellhop.yaml, hosts/*.yaml, age files, and the folders of services in
// which there is no Nix file. A Nix file that names one of them keeps it: "bellhop.yaml", "services/web",
// the folder as a whole ("./services"), or, where agenix is used, the age file.
func (s *Source) leaveOut() {
	names := s.names()
	withNix := map[string]bool{}
	for _, f := range s.files {
		if service := serviceOf(f.path); service != "" && strings.HasSuffix(f.path, ".nix") {
			withNix[service] = true
		}
	}

	s.files = slices.DeleteFunc(s.files, func(f sourceFile) bool {
		service := serviceOf(f.path)
		switch {
		case strings.HasSuffix(f.path, ".age"):
			return !names.agenix || !strings.Contains(names.text, path.Base(f.path))
		case f.path == "bellhop.yaml":
			return !strings.Contains(names.text, f.path)
		case path.Dir(f.path) == "hosts" && path.Ext(f.path) == ".yaml":
			return !names.hosts && !strings.Contains(names.text, f.path)
		case service != "" && !withNix[service]:
			return !names.services && !strings.Contains(names.text, "services/"+service)
		}
		return false
	})
}

// serviceOf is the service whose folder the file is in; "" for none.
func serviceOf(file string) string {
	rest, ok := strings.CutPrefix(file, "services/")
	name, _, inside := strings.Cut(rest, "/")
	if !ok || !inside {
		return ""
	}
	return name
}

// namesInNix is what the Nix files of a tree name.
type namesInNix struct {
	text                    string
	services, hosts, agenix bool
}

var (
	servicesWhole = regexp.MustCompile(`\./services(/?["';)\s\]]|/?$)`)
	hostsWhole    = regexp.MustCompile(`\./hosts(/?["';)\s\]]|/?$)`)
)

func (s *Source) names() namesInNix {
	var all strings.Builder
	for _, f := range s.files {
		if !strings.HasSuffix(f.path, ".nix") || !f.mode.IsRegular() || all.Len() > 16*maxNixFile {
			continue
		}
		if text, err := readCapped(s.tree, f.path, maxNixFile); err == nil {
			all.Write(text)
			all.WriteByte('\n')
		}
	}

	text := all.String()
	return namesInNix{text: text, services: servicesWhole.MatchString(text), hosts: hostsWhole.MatchString(text),
		agenix: strings.Contains(text, "age.secrets") || strings.Contains(text, "agenix")}
}

func readCapped(tree fs.FS, name string, most int64) ([]byte, error) {
	f, err := tree.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s has more than %d bytes", name, most)
	}

	return b, err
}

// key is a digest over names, kinds and contents. A tree that knows hashes of its files is not read.
func (s *Source) key() (string, error) {
	hashed, _ := s.tree.(interface{ Hash(string) (string, bool) })
	h := sha256.New()
	for _, f := range s.files {
		var content string
		known := false
		if hashed != nil {
			content, known = hashed.Hash(f.path)
		}
		if !known {
			sum := sha256.New()
			if err := s.copyTo(sum, f); err != nil {
				return "", fmt.Errorf("read %s: %w", f.path, err)
			}
			content = hex.EncodeToString(sum.Sum(nil))
		}
		fmt.Fprintf(h, "%q %v %s\n", f.path, f.mode, content)
	}

	return hex.EncodeToString(h.Sum(nil)), nil
}

// copyTo writes the bytes of a file, or the target of a link.
func (s *Source) copyTo(w io.Writer, f sourceFile) error {
	if f.mode&fs.ModeSymlink != 0 {
		target, err := fs.ReadLink(s.tree, f.path)
		if err == nil {
			_, err = io.WriteString(w, target)
		}
		return err
	}
	if !f.mode.IsRegular() {
		return errors.New("it is neither a file nor a link")
	}

	in, err := s.tree.Open(f.path)
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = io.Copy(w, in)
	return err
}

// A Written is a source on disk.
type Written struct {
	Dir     string
	NarHash string // as Nix has it: sha256- and base64
	Rev     string
	Flake   bool
}

// URL is the flake reference of w, locked: pure evaluation takes nothing else.
func (w *Written) URL() string {
	u := "path:" + w.Dir + "?narHash=" + url.QueryEscape(w.NarHash)
	if len(w.Rev) == 40 {
		u += "&rev=" + w.Rev
	}
	return u
}

// Write writes the source to a new directory below dir, which nobody else can read. remove takes it away.
func (s *Source) Write(dir string) (w *Written, remove func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	top, err := os.MkdirTemp(dir, "tree-")
	if err != nil {
		return nil, nil, err
	}

	remove = func() { os.RemoveAll(top) }
	defer func() {
		if err != nil {
			remove()
		}
	}()

	left := int64(MaxBytes)
	for _, f := range s.files {
		if err := s.writeFile(top, f, &left); err != nil {
			return nil, nil, fmt.Errorf("write %s for Nix: %w", f.path, err)
		}
	}

	sum := sha256.New()
	if err := WriteNAR(sum, top); err != nil {
		return nil, nil, fmt.Errorf("hash the tree for Nix: %w", err)
	}

	hash := "sha256-" + base64.StdEncoding.EncodeToString(sum.Sum(nil))
	return &Written{Dir: top, NarHash: hash, Rev: s.rev, Flake: s.Flake}, remove, nil
}

func (s *Source) writeFile(top string, f sourceFile, left *int64) error {
	to := filepath.Join(top, filepath.FromSlash(f.path))
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	if f.mode&fs.ModeSymlink != 0 {
		target, err := fs.ReadLink(s.tree, f.path)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	}

	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600|f.mode.Perm())
	if err != nil {
		return err
	}
	defer out.Close()
	counted := &limitedWriter{out, left}
	if err := s.copyTo(counted, f); err != nil {
		return err
	}

	return out.Close()
}

// limitedWriter writes until the bytes that several of them share are used up.
type limitedWriter struct {
	w    io.Writer
	left *int64
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	if *l.left -= int64(len(p)); *l.left < 0 {
		return 0, fmt.Errorf("the tree that Nix sees has more than %d MiB", MaxBytes>>20)
	}
	return l.w.Write(p)
}
