package objects

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// alternates lists a folder of objects and those that its info/alternates names, as deep as
// git goes.
func alternates(dir string, depth int) []string {
	const deepest = 5
	dirs := []string{dir}
	b, err := os.ReadFile(filepath.Join(dir, "info", "alternates"))
	if err != nil || depth >= deepest || len(b) > 1<<20 {
		return dirs
	}

	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		if !filepath.IsAbs(line) {
			line = filepath.Join(dir, line)
		}
		for _, d := range alternates(filepath.Clean(line), depth+1) {
			if !slices.Contains(dirs, d) {
				dirs = append(dirs, d)
			}
		}
	}

	return dirs
}

// loose is the file of a loose object, in the first folder that has it.
func (db *DB) loose(id plumbing.Hash) string {
	name := id.String()
	for _, d := range db.dirs {
		file := filepath.Join(d, name[:2], name[2:])
		if _, err := os.Lstat(file); err == nil {
			return file
		}
	}

	return filepath.Join(db.dir, name[:2], name[2:])
}

// openLoose reads the head of a loose object: "blob 12\0".
func (db *DB) openLoose(id plumbing.Hash) (*object, error) {
	f, err := os.Open(db.loose(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}

	if err != nil {
		return nil, err
	}

	o := &object{file: f}
	if err := o.readLooseHead(); err != nil {
		o.close()
		return nil, fmt.Errorf("object %s: %w", id.String()[:10], err)
	}

	return o, nil
}

func (o *object) readLooseHead() (err error) {
	if o.loose, err = inflate(byteReader(o.file), 1<<62); err != nil {
		return err
	}

	var head []byte
	for b := make([]byte, 1); len(head) < 32; head = append(head, b[0]) {
		if _, err := io.ReadFull(o.loose, b); err != nil {
			return broken("its head can't be read: %w", err)
		}
		if b[0] == 0 {
			break
		}
	}

	kind, size, _ := strings.Cut(string(head), " ")
	if _, err := fmt.Sscanf(size, "%d", &o.size); err != nil || o.size < 0 {
		return broken("its head is none")
	}

	if o.kind, err = plumbing.ParseObjectType(kind); err != nil {
		return broken("its kind is unknown")
	}

	o.loose.left = o.size
	return nil
}
