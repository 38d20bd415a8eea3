package secrets

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"

	"bellhop/internal/durable"
	"bellhop/secrets/agefile"
)

// A Store is the secrets of a config repo that is checked out in Dir: what people work on. Its
// methods are the verbs of `bellhop secret`. No path leaves Dir, not through a link either.
type Store struct {
	Dir        string                              // the folder that holds bellhop.yaml
	Rules      Rules                               //
	Identities func() (*agefile.Identities, error) // called when a file must be opened, and not before
	Plugins    agefile.Plugins                     // for sealing to plugin recipients
	Armor      bool                                // new files as text; existing files keep their form
}

// namePart is what a part of a secret's path may be: it becomes a key's name on hosts.
var namePart = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Path gives the file of a secret: "withinbot.env" is secrets/withinbot.env.age. A path that
// begins with secrets/ or ends in .age is taken as it is.
func Path(name string) (string, error) {
	file := name
	switch {
	case strings.HasSuffix(name, ".age") && strings.Contains(name, "/"):
	case strings.HasPrefix(name, Dir+"/"):
		file = name + ".age"
	default:
		file = Dir + "/" + strings.TrimSuffix(name, ".age") + ".age"
	}

	for part := range strings.SplitSeq(file, "/") {
		if !namePart.MatchString(part) {
			return "", fmt.Errorf("bad name for a secret: %q: letters, digits, dot, dash and underscore, at most 64 in each part", name)
		}
	}

	if path.Clean(file) != file {
		return "", fmt.Errorf("bad name for a secret: %q", name)
	}

	return file, nil
}

func (s *Store) root() (*os.Root, error) {
	dir := s.Dir
	if dir == "" {
		dir = "."
	}
	return os.OpenRoot(dir)
}

// read gives the bytes of a file.
func (s *Store) read(file string) ([]byte, error) {
	r, err := s.root()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	info, err := r.Lstat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", file)
	}
	return readHead(r.FS(), file, agefile.MaxFile+1)
}

// open gives the value of a file.
func (s *Store) open(file string) ([]byte, error) {
	data, err := s.read(file)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", file, bare(err))
	}
	ids, err := s.identities()
	if err != nil {
		return nil, err
	}
	v, err := ids.Open(file, data)
	return v, s.Rules.Explain(err)
}

func (s *Store) identities() (*agefile.Identities, error) {
	if s.Identities == nil {
		return nil, agefile.ErrNoIdentity
	}
	return s.Identities()
}

// bare takes the path out of an error that will be named with it.
func bare(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// sealFor seals a value for the readers of its rule, in the form that old has.
func (s *Store) sealFor(file string, value, old []byte) ([]byte, []agefile.Reader, error) {
	readers, err := s.Rules.Readers(file)
	if err != nil {
		return nil, nil, err
	}
	form := s.Armor
	if old != nil {
		form = agefile.IsArmored(old)
	}
	data, err := agefile.Seal(value, recipients(readers), agefile.SealOptions{Armor: form, Plugins: s.Plugins})
	return data, readers, err
}

func recipients(rs []agefile.Reader) []agefile.Recipient {
	var out []agefile.Recipient
	for _, r := range rs {
		out = append(out, r.Recipient)
	}
	return out
}

func readerNames(rs []agefile.Reader) []string {
	out := []string{}
	for _, r := range rs {
		out = append(out, r.Name)
	}
	return out
}

// A write is one file that will be replaced.
type write struct {
	file string
	data []byte
	old  []byte // what was there; nil: nothing
	temp string
}

// replace writes all files beside their places, then renames them all. If a rename fails, those
// already done are put back: all of the files change, or none.
func (s *Store) replace(writes []*write) error {
	r, err := s.root()
	if err != nil {
		return err
	}
	defer r.Close()
	defer func() {
		for _, w := range writes {
			if w.temp != "" {
				_ = r.Remove(w.temp)
			}
		}
	}()

	for _, w := range writes {
		if err := w.stage(r); err != nil {
			return fmt.Errorf("write %s: %w", w.file, bare(err))
		}
	}

	if err := renameAll(r, writes); err != nil {
		return err
	}

	for _, w := range writes {
		if d, err := r.Open(path.Dir(w.file)); err == nil {
			_ = d.Sync() // the renames are done; a file system that can't sync folders is not an error here
			d.Close()
		}
	}

	return nil
}

func renameAll(r *os.Root, writes []*write) error {
	for i, w := range writes {
		if err := r.Rename(w.temp, w.file); err != nil {
			return errors.Join(fmt.Errorf("write %s: %w", w.file, bare(err)), putBack(r, writes[:i]))
		}
		w.temp = ""
	}
	return nil
}

// stage writes the new bytes beside their place.
func (w *write) stage(r *os.Root) error {
	if err := r.MkdirAll(path.Dir(w.file), 0o755); err != nil {
		return err
	}
	temp, err := durable.Stage(r, w.file, w.data, 0o644)
	w.temp = temp
	return err
}

func putBack(r *os.Root, done []*write) error {
	var errs []error
	for _, w := range done {
		if w.old == nil {
			errs = append(errs, r.Remove(w.file))
			continue
		}

		back := &write{file: w.file, data: w.old}
		err := back.stage(r)
		if err == nil {
			err = r.Rename(back.temp, w.file)
		}
		errs = append(errs, err)
	}

	return errors.Join(errs...)
}

// existing reads what a file holds now: nil if there is none.
func (s *Store) existing(file string) ([]byte, error) {
	data, err := s.read(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && data == nil {
		data = []byte{}
	}
	return data, err
}

// Tree gives the store's folder for reading.
func (s *Store) Tree() fs.FS {
	dir := s.Dir
	if dir == "" {
		dir = "."
	}
	return os.DirFS(dir)
}

// trimNewline drops one trailing newline.
func trimNewline(b []byte) ([]byte, bool) {
	t := bytes.TrimSuffix(b, []byte("\n"))
	return t, len(t) != len(b)
}
