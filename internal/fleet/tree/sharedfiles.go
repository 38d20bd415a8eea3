package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"bellhop/internal/bundle"
)

// outside is what templates may read beside their own folder.
type outside struct {
	publics map[string]string // text of the .pub files below secrets, by path; nil before they are read
	shared  string            // names the content of shared; "" before it is looked at
	public  string            // names the content of publics
}

// SharedID names the content of the folder shared.
func (t *Tree) SharedID() (string, error) {
	if t.outside.shared != "" {
		return t.outside.shared, nil
	}
	if h := t.DirHash("shared"); h != "" {
		t.outside.shared = h
		return h, nil
	}

	var b strings.Builder
	err := t.each("shared", func(o Object) error {
		h, err := t.FileHash(o.Path)
		fmt.Fprintf(&b, "%q %s\n", o.Path, h)
		return err
	})

	t.outside.shared = bundle.DigestBytes([]byte(b.String()))

	return t.outside.shared, err
}

// PublicsID names the content of all public halves.
func (t *Tree) PublicsID() (string, error) {
	_, err := t.PublicHalves()
	return t.outside.public, err
}

// maxPublic caps one public half; a key of any kind is far below it.
const maxPublic = 64 << 10

// PublicHalves are the texts of the .pub files below secrets, by path.
func (t *Tree) PublicHalves() (map[string]string, error) {
	if t.outside.publics != nil {
		return t.outside.publics, nil
	}

	t.outside.publics = map[string]string{}
	err := t.each("secrets", func(o Object) error {
		if !strings.HasSuffix(o.Path, ".pub") {
			return nil
		}
		data, err := t.Bytes(o.Path)
		if err != nil {
			return err
		}
		if len(data) <= maxPublic {
			t.outside.publics[o.Path] = strings.TrimRight(string(data), "\r\n")
		}
		return nil
	})

	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(t.outside.publics)) {
		fmt.Fprintf(&b, "%q %q\n", name, t.outside.publics[name])
	}
	t.outside.public = bundle.DigestBytes([]byte(b.String()))

	return t.outside.publics, err
}

// each calls f for every regular file below dir, which need not exist. Links are passed over.
func (t *Tree) each(dir string, f func(Object) error) error {
	os, err := t.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, o := range os {
		switch {
		case o.Mode.IsDir() && strings.Count(o.Path, "/") < MaxDepth:
			err = t.each(o.Path, f)
		case o.Mode.IsRegular():
			err = f(o)
		}

		if errors.Is(err, ErrTooLarge) {
			err = nil // what is too large is no template and no key
		}
		if err != nil {
			return err
		}
	}

	return nil
}
