package render

import (
	"errors"
	"fmt"
	"io/fs"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/service"
	"bellhop/internal/fleet/template"
	"bellhop/internal/fleet/tree"
	"bellhop/internal/registry/login"
)

// ErrOffline says that a key's value was asked of a loader that opens none.
var ErrOffline = errors.New("no secret is opened offline")

// An Opener opens the secrets of a loader. Its functions are the loader's: with a nil Open it is offline,
// and with a nil Seal no digest of a key is known.
type Opener struct {
	Open    func(tree fs.FS, path string) ([]byte, error)
	Seal    func(value []byte) string                     // the keyed digest of a value, hex
	Digest  func(tree fs.FS, path string) (string, error) // of a secret, asked of the deployer; nil: Open and Seal
	Digests map[string]string                             // by hash of the age file; what is learned is added
	Budget  *tree.Budget
}

// Value opens a key, or renders the template that it is. The caller clears it.
func (o *Opener) Value(t fs.FS, r *Rendering, k *service.Key) ([]byte, error) {
	if o.Open == nil {
		return nil, ErrOffline
	}
	if k.File == nil {
		v, err := o.Open(t, k.Source)
		if err == nil && len(v) > bundle.MaxKey {
			clear(v)
			return nil, fmt.Errorf("larger than 1 MiB")
		}

		return v, err
	}

	if k.Registries != nil {
		return o.logins(t, k)
	}
	return o.fill(t, r, k)
}

// logins opens the logins of registries, and renders docker's config.json.
func (o *Opener) logins(t fs.FS, k *service.Key) ([]byte, error) {
	var all []login.Login
	for i, source := range k.Sources {
		v, err := o.Open(t, source)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", source, err)
		}
		l, err := login.Parse(k.Registries[i], v)
		clear(v)
		if err != nil {
			return nil, fmt.Errorf("%s, the login at %s: %w", source, k.Registries[i], err)
		}
		all = append(all, l)
	}

	return login.Config(all), nil
}

// fill renders a key that is a template, with the values of the keys that it names.
func (o *Opener) fill(t fs.FS, r *Rendering, k *service.Key) ([]byte, error) {
	var opened [][]byte
	defer func() {
		for _, v := range opened {
			clear(v)
		}
	}()

	var openErr error
	data := r.Scope // a copy: the rendering counts what it uses
	data.Budget = o.Budget
	data.Budget.At(k.File.Source)
	out, err := k.File.Template.Execute(&data, func(name string) (string, error) {
		v, err := o.Open(t, r.keySource(name))
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

// keyed is the key's digest for planning, opened once for each state of its sources.
func (o *Opener) keyed(t *tree.Tree, r *Rendering, k *service.Key) (string, error) {
	if o.Open == nil || o.Seal == nil {
		return "", nil
	}
	if k.File != nil {
		return o.sealed(t, r, k)
	}

	id, err := t.FileHash(k.Source)
	if err != nil {
		return "", err
	}
	if d, ok := o.Digests[id]; ok {
		return d, nil
	}

	var d string
	if o.Digest != nil {
		d, err = o.Digest(t.FS, k.Source)
	} else {
		d, err = o.sealed(t, r, k)
	}

	if err == nil && id != "" {
		o.Digests[id] = d
	}

	return d, err
}

// sealed opens a key and takes the keyed digest of its value.
func (o *Opener) sealed(t *tree.Tree, r *Rendering, k *service.Key) (string, error) {
	v, err := o.Value(t.FS, r, k)
	if err != nil {
		return "", err
	}
	defer clear(v)
	return o.Seal(v), nil
}
