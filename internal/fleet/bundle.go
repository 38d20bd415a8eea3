package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/service"
	"bellhop/internal/fleet/template"
	"bellhop/internal/fleet/tree"
	"bellhop/internal/unitfile"
)

// A Bundle is all that one host should hold. It is immutable; bytes are read from the tree
// when they are asked for, and secrets are opened anew each time.
type Bundle struct {
	bundle.Manifest
	Digest string // of the manifest

	st     *stand
	loader *Loader
	tree   fs.FS
	fleet  *Fleet // it is of
	arch   string // that the host had
	former *former
}

// Kind is the same for bundles that differ in nothing but the host's name: what is worked out
// for one serves for all. It compares by ==.
func (b *Bundle) Kind() any { return b.st }

// File returns the bytes of the file, template or snippet with that digest. The caller does
// not change them.
func (b *Bundle) File(digest string) ([]byte, error) {
	c, ok := b.st.content[digest]
	if !ok && b.former != nil {
		return b.former.file(digest)
	}
	if !ok {
		return nil, fmt.Errorf("bundle of %s has no file %s", b.Host, digest)
	}
	if c.src == "" {
		return c.data, nil
	}
	return b.blob(c.src, digest)
}

// blob reads a file of the repo that had this digest. The tree that the bundle was made of
// may be gone by now, so the newest one is tried too.
func (b *Bundle) blob(src, digest string) ([]byte, error) {
	var errs error
	for _, t := range []fs.FS{b.tree, b.loader.newest()} {
		data, err := tree.ReadFile(t, src)
		if err == nil && bundle.DigestBytes(data) == digest {
			return data, nil
		}
		if err == nil {
			err = fmt.Errorf("%s is not what it was", src)
		}
		errs = errors.Join(errs, err)
	}
	return nil, fmt.Errorf("read %s of the bundle of %s: %w", src, b.Host, errs)
}

// Package opens the archive with that digest, if it is a blob of the repo, and tells its size.
func (b *Bundle) Package(digest string) (io.ReadCloser, int64, error) {
	for _, p := range b.Packages {
		if p.Digest == digest && p.Source != "" {
			data, err := b.blob(p.Source, digest)
			if err != nil {
				return nil, 0, err
			}
			return io.NopCloser(bytes.NewReader(data)), int64(len(data)), nil
		}
	}
	if b.former != nil {
		return b.former.pack(digest)
	}
	return nil, 0, fmt.Errorf("bundle of %s has no package %s in the repo", b.Host, digest)
}

// Key opens the value of a key. The caller clears it.
func (b *Bundle) Key(name string) ([]byte, error) {
	if digest, is := b.former.key(name); is {
		return b.former.value(name, digest)
	}
	k := b.st.keys[name]
	if k == nil {
		return nil, fmt.Errorf("bundle of %s has no key %s", b.Host, name)
	}
	v, err := b.keyValue(name, k)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", name, err)
	}
	return v, nil
}

func (b *Bundle) keyValue(name string, k *service.Key) ([]byte, error) {
	if b.st.far && k.File != nil {
		return b.loader.farKey(b, name)
	}
	return b.loader.keyValue(b.tree, b.st.renders[name], k)
}

// KeySources lists the files of the repo that a key's value is made of, by name: its age file, or
// a template and the age files that it names.
func (b *Bundle) KeySources(name string) []string {
	k := b.st.keys[name]
	if k == nil {
		return nil
	}
	if k.File == nil {
		return []string{k.Source}
	}
	files := append([]string{k.File.Source}, k.Sources...)
	slices.Sort(files)
	return slices.Compact(files)
}

// Ingredients opens the secrets that templates put into keys and that are no keys of the host
// by themselves, by their files. What does not open is left out: the key's own opening tells
// of it. The caller clears them.
func (b *Bundle) Ingredients() map[string][]byte {
	out := map[string][]byte{}
	if b.loader.Open == nil {
		return out
	}
	known := map[string]bool{}
	for _, k := range b.st.keys {
		if k.File == nil {
			known[k.Source] = true
		}
	}
	for _, k := range b.st.keys {
		for _, path := range k.Sources {
			if known[path] {
				continue
			}
			known[path] = true
			if v, err := b.loader.Open(b.tree, path); err == nil {
				out[path] = v
			}
		}
	}
	return out
}

// errOffline says that a key's value was asked of a loader that opens none.
var errOffline = errors.New("no secret is opened offline")

// keyValue opens a key, or renders the template that it is.
func (l *Loader) keyValue(t fs.FS, r *rendered, k *service.Key) ([]byte, error) {
	if l.Open == nil {
		return nil, errOffline
	}
	if k.File == nil {
		v, err := l.Open(t, k.Source)
		if err == nil && len(v) > bundle.MaxKey {
			clear(v)
			return nil, fmt.Errorf("larger than 1 MiB")
		}
		return v, err
	}
	var opened [][]byte
	defer func() {
		for _, v := range opened {
			clear(v)
		}
	}()
	var openErr error
	data := r.data // a copy: the rendering counts what it uses
	data.Budget = l.budget
	data.Budget.At(k.File.Source)
	out, err := k.File.Template.Execute(&data, func(name string) (string, error) {
		v, err := l.Open(t, r.keySource(name))
		if err != nil {
			openErr = fmt.Errorf("%s: %w", name, err)
			return "", openErr
		}
		opened = append(opened, v)
		return string(v), nil
	})
	switch {
	case openErr != nil:
		return nil, openErr
	case err != nil:
		// text/template quotes values in its errors, and here they are secret.
		at, _ := template.Explain(err)
		return nil, fmt.Errorf("%s:%d: the template does not render with the values of its keys%s", k.File.Source, at.Line, template.KnownReason(err))
	}
	return out, nil
}

// keyDigest is the key's digest for planning, opened once for each state of its sources.
func (l *Loader) keyDigest(t *tree.Tree, r *rendered, k *service.Key) (string, error) {
	if l.Open == nil || l.KeyDigest == nil {
		return "", nil
	}
	var id string
	if k.File == nil {
		h, err := t.FileHash(k.Source)
		if err != nil {
			return "", err
		}
		id = h
		if d, ok := l.cache.keyDigests[id]; ok {
			return d, nil
		}
		if l.digest != nil {
			d, err := l.digest(t.FS, k.Source)
			if err == nil {
				l.cache.keyDigests[id] = d
			}
			return d, err
		}
	}
	v, err := l.keyValue(t.FS, r, k)
	if err != nil {
		return "", err
	}
	d := l.KeyDigest(v)
	clear(v)
	if id != "" {
		l.cache.keyDigests[id] = d
	}
	return d, nil
}

// TooNew says which line of b's units the systemd of that version ignores; "" when none, or when the
// version is 0 for unknown.
func (b *Bundle) TooNew(version int) string {
	if b.st == nil {
		return ""
	}

	for _, n := range b.st.needs {
		if version == 0 || version >= n.Since || b.former.has(n.Service) {
			continue // what is in no table counts as of the one after the newest
		}
		if n.Since > unitfile.NewestSystemd { // most likely a slip: no upgrade is known to help
			return fmt.Sprintf("%s; the host has systemd %d, which ignores the line: correct it, or take it out", n.Text, version)
		}
		return fmt.Sprintf("%s; the host has systemd %d, which ignores the line; with systemd %d or newer there: bellhop deploy --retry",
			n.Text, version, n.Since)
	}

	return ""
}
