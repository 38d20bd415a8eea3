package secrets

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Remove takes the file of a secret away, and its public half with it, and names what is gone. The
// value stays in git's history: rotating it is its owner's business.
func (s *Store) Remove(name string) (gone []string, err error) {
	file, err := Path(name)
	if err != nil {
		return nil, err
	}
	if _, err := s.read(file); err != nil {
		return nil, fmt.Errorf("remove %s: %w", file, bare(err))
	}

	folder, err := s.root()
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	for _, one := range []string{file, publicHalf(file)} {
		err := folder.Remove(one)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return gone, fmt.Errorf("remove %s: %w", one, bare(err))
		}

		gone = append(gone, one)
	}

	return gone, nil
}

// A Moved says what became of a secret that got another name.
type Moved struct {
	From  string `json:"from"`
	To    string `json:"to"`
	Stale bool   `json:"stale"` // another rule counts now: it waits to be sealed for its readers (Rekey)
}

// Move gives a secret another name, and its public half with it. What is in the new place is never
// replaced. The bytes stay as they are.
func (s *Store) Move(from, to string) (*Moved, error) {
	m := &Moved{}
	var err error
	if m.From, err = Path(from); err != nil {
		return nil, err
	}
	if m.To, err = Path(to); err != nil {
		return nil, err
	}
	if _, err := s.Rules.Readers(m.To); err != nil {
		return nil, fmt.Errorf("move to %s: %w", m.To, err)
	}

	moves := [][2]string{{m.From, m.To}, {publicHalf(m.From), publicHalf(m.To)}}
	if err := s.rename(moves); err != nil {
		return nil, err
	}

	it, err := s.Who(m.To)
	if err != nil {
		return nil, err
	}

	m.Stale = it.State != StateCurrent
	return m, nil
}

// rename moves files; of the first there must be one, and at no new place may be one.
func (s *Store) rename(moves [][2]string) error {
	folder, err := s.root()
	if err != nil {
		return err
	}
	defer folder.Close()

	for i, m := range moves {
		info, err := folder.Lstat(m[0])
		if i == 0 && err == nil && !info.Mode().IsRegular() {
			err = errors.New("it is not a regular file")
		}
		if i == 0 && err != nil {
			return fmt.Errorf("move %s: %w", m[0], bare(err))
		}
		if _, err := folder.Lstat(m[1]); err == nil {
			return fmt.Errorf("move %s: %s is there already", m[0], m[1])
		}
	}

	for i, m := range moves {
		if err := folder.MkdirAll(path.Dir(m[1]), 0o755); err != nil {
			return fmt.Errorf("move to %s: %w", m[1], bare(err))
		}
		err := folder.Rename(m[0], m[1])
		if i > 0 && errors.Is(err, fs.ErrNotExist) {
			continue // it has no public half
		} else if err != nil {
			return fmt.Errorf("move %s: %w", m[0], bare(err))
		}
	}

	return nil
}

// publicHalf is where Generate puts the public half of a pair.
func publicHalf(file string) string { return strings.TrimSuffix(file, ".age") + ".pub" }

// same says whether the file of a secret holds value already, sealed for exactly its readers. It opens
// the file with the identities at hand, and what does not open is not the same.
func (s *Store) same(file string, value, old []byte) bool {
	if old == nil || s.Identities == nil || s.Rules.item(file, old).State != StateCurrent {
		return false
	}
	ids, err := s.Identities()
	if err != nil {
		return false
	}
	before, err := ids.Open(file, old)
	if err != nil {
		return false
	}
	defer clear(before)
	return subtle.ConstantTimeCompare(before, value) == 1
}

// Mentions lists the lines of the config that name a file of secrets/, as "file:line", looking into
// the YAML files below dir.
func (s *Store) Mentions(file string) (places []string) {
	dir := s.Dir
	if dir == "" {
		dir = "."
	}

	_ = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && name != dir {
			return fs.SkipDir
		}
		isYAML := d.Type().IsRegular() && (strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml"))
		if !isYAML {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return nil
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			rel = name
		}
		for i, line := range strings.Split(string(text), "\n") {
			if namesFile(line, file) {
				places = append(places, fmt.Sprintf("%s:%d", filepath.ToSlash(rel), i+1))
			}
		}

		return nil
	})

	return places
}

// namesFile says whether a line has a path as a word of its own, with or without .age.
func namesFile(line, file string) bool {
	stem := strings.TrimSuffix(file, ".age")
	for rest := line; ; {
		i := strings.Index(rest, stem)
		if i < 0 {
			return false
		}
		before, after := rest[:i], rest[i+len(stem):]
		after = strings.TrimPrefix(after, ".age")
		startsHere := before == "" || !isPathByte(before[len(before)-1])
		endsHere := after == "" || !isPathByte(after[0])
		if startsHere && endsHere {
			return true
		}
		rest = rest[i+len(stem):]
	}
}

func isPathByte(c byte) bool {
	lower := c | 0x20
	isLetter := 'a' <= lower && lower <= 'z'
	isDigit := '0' <= c && c <= '9'
	return isLetter || isDigit || strings.IndexByte("._-/{}*", c) >= 0
}
