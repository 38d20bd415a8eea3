package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/render"
	"bellhop/internal/fleet/service"
	"bellhop/internal/fleet/tree"
	"bellhop/internal/unitfile"
)

// A Bundle is all that one host should hold. It is immutable; bytes are read from the tree
// when they are asked for, and secrets are opened again each time.
type Bundle struct {
	bundle.Manifest
	Digest string // of the manifest

	st     *render.Composition
	loader *Loader
	tree   fs.FS
	fleet  *Fleet // it is of
	arch   string // that the host had
	former *former

	whole   string                // of a composed bundle: the digest of the one that it is composed of
	system  map[string]*SystemKey // keys of the host's NixOS configuration, by name
	notices []string              // what a person should hear of the system
}

// As is b for a host of that name, which had another one in the commit that b is of.
func (b *Bundle) As(host string) *Bundle {
	if b.Host == host {
		return b
	}
	renamed := *b
	renamed.Host = host
	return &renamed
}

// Kind is the same for bundles that differ in nothing but the host's name: what is worked out
// for one serves for all. It compares by ==.
func (b *Bundle) Kind() any { return b.st }

// File returns the bytes of the file, template or snippet with that digest. The caller does
// not change them.
func (b *Bundle) File(digest string) ([]byte, error) {
	c, ok := b.st.Content[digest]
	if !ok && b.former != nil {
		return b.former.file(digest)
	}
	if !ok {
		return nil, fmt.Errorf("bundle of %s has no file %s", b.Host, digest)
	}
	if c.Source == "" {
		return c.Data, nil
	}
	return b.blob(c.Source, digest)
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

// Package opens the archive with that digest, if it is a blob of the repo, and gives its size.
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
	if k := b.system[name]; k != nil {
		return b.systemKey(k)
	}
	k := b.st.Keys[name]
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
	if b.st.IsFar && k.File != nil {
		return b.loader.farKey(b, name)
	}
	open := &render.Opener{Open: b.loader.Open, Seal: b.loader.KeyDigest} // a load may be under way beside it
	return open.Value(b.tree, b.st.Renders[name], k)
}

// KeySources lists the files of the repo that a key's value is made of, by name: its age file, or
// a template and the age files that it names.
func (b *Bundle) KeySources(name string) []string {
	if k := b.system[name]; k != nil {
		return k.sources()
	}
	k := b.st.Keys[name]
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
// by themselves, by their files. What does not open is left out: the key's own opening says
// of it. The caller clears them.
func (b *Bundle) Ingredients() map[string][]byte {
	out := map[string][]byte{}
	if b.loader.Open == nil {
		return out
	}

	known := map[string]bool{}
	for _, k := range b.st.Keys {
		if k.File == nil {
			known[k.Source] = true
		}
	}

	for _, k := range b.st.Keys {
		for _, path := range k.Sources {
			if known[path] {
				continue
			}
			known[path] = true
			if v, err := b.loader.Open(b.tree, path); err == nil {
				out[path] = v
				if _, password, ok := strings.Cut(string(v), ":"); ok && k.Name == service.LoginsName {
					out[path+" password"] = []byte(strings.TrimSpace(password))
				}
			}
		}
	}

	return out
}

// TooNew says of each service which line of its units the systemd of that version ignores, where there is one;
// of none when the version is 0 for unknown.
func (b *Bundle) TooNew(version int) map[string]string {
	all := map[string]string{}
	if b.st == nil || version == 0 {
		return all
	}
	for _, n := range b.st.Needs {
		if version >= n.Since || b.former.has(n.Service) || all[n.Service] != "" {
			continue // what is in no table counts as of the one after the newest
		}
		help := fmt.Sprintf("; with systemd %d or newer there: bellhop deploy --retry", n.Since)
		if n.Since > unitfile.NewestSystemd { // most likely a slip: no upgrade is known to help
			help = ": correct it, or take it out"
		}
		all[n.Service] = fmt.Sprintf("%s; the host has systemd %d, which ignores the line%s", n.Text, version, help)
	}
	return all
}
