package fleet

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"bellhop/internal/bundle"
)

// A bundle may be composed: some services are as an older bundle of the host had them, entry by entry.
// Their bytes are on the host, as a rule, and nobody asks for them; else they come from the commits
// that they came from.

// ErrKeptKey says that the value of a key can't be had that the host should have already.
var ErrKeptKey = errors.New("its value can't be had from the commit that it came from")

// former is what a composed bundle has of older ones. A nil former has nothing.
type former struct {
	services []string          // sorted
	keys     map[string]string // digests of its keys, by name
	open     func() ([]*Bundle, error)
}

// Composed is a bundle that holds m: what b has of all services but those named, and of those what
// older bundles have. older opens them, when something of them is asked for: the first that has a
// thing by its digest gives it.
func (b *Bundle) Composed(m bundle.Manifest, services []string, older func() ([]*Bundle, error)) *Bundle {
	c := *b
	c.Manifest, c.Digest = m, m.Digest()
	c.Network, c.Host, c.whole = b.Network, b.Host, b.Wanted()
	st := *b.st // another kind of bundle: what is worked out for one does not serve the other
	c.st = &st

	c.former = &former{services: services, keys: map[string]string{}, open: older}
	for _, k := range m.Keys {
		own := slices.IndexFunc(b.Keys, func(o bundle.Key) bool { return o.Name == k.Name })
		if slices.Contains(services, k.Service) || own < 0 {
			c.former.keys[k.Name] = k.Digest
		}
	}

	return &c
}

func (f *former) has(service string) bool { return f != nil && slices.Contains(f.services, service) }

// key is the digest of a key that is one of an older bundle.
func (f *former) key(name string) (digest string, is bool) {
	if f == nil {
		return "", false
	}
	digest, is = f.keys[name]
	return digest, is
}

func (f *former) file(digest string) ([]byte, error) {
	var errs error
	bundles, err := f.open()
	for _, b := range bundles {
		p, err := b.File(digest)
		if err == nil {
			return p, nil
		}
		errs = errors.Join(errs, err)
	}

	return nil, firstOf(errs, err, "no older bundle has the file")
}

func (f *former) pack(digest string) (io.ReadCloser, int64, error) {
	var errs error
	bundles, err := f.open()
	for _, b := range bundles {
		r, n, err := b.Package(digest)
		if err == nil {
			return r, n, nil
		}
		errs = errors.Join(errs, err)
	}

	return nil, 0, firstOf(errs, err, "no older bundle has the package")
}

func (f *former) value(name, digest string) ([]byte, error) {
	bundles, err := f.open()
	for _, b := range bundles {
		if !slices.ContainsFunc(b.Keys, func(k bundle.Key) bool { return k.Name == name && k.Digest == digest }) {
			continue
		}
		v, kerr := b.Key(name)
		if kerr == nil {
			return v, nil
		}
		err = kerr
	}

	if err == nil {
		err = errors.New("no commit is known that has it")
	}
	return nil, fmt.Errorf("key %s: %w: %w", name, ErrKeptKey, err)
}

// firstOf is the first of the errors, or one that says what.
func firstOf(errs, err error, what string) error {
	switch {
	case err != nil:
		return err
	case errs != nil:
		return errs
	}
	return errors.New(what)
}

// Wanted is the digest of the bundle that b is composed of, as far as it is not an older one's: that of
// the head as a whole. Of another bundle it is its own.
func (b *Bundle) Wanted() string {
	if b.former == nil {
		return b.Digest
	}
	return b.whole
}
