package look

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/host/keyfiles"
	"bellhop/internal/host/owned"
)

// keys looks which keys are in place. Their values stay unread.
func (l *looker) keys() error {
	in := keyfiles.Of(l.m).Reader()
	defer in.Close()

	for _, k := range l.now.Manifest.Keys {
		if there, err := in.InPlace(k); err != nil || !there {
			l.seen.KeysMissing = append(l.seen.KeysMissing, k.Name)
		}
	}

	return nil
}

// contents reads the files whose bytes are wanted.
func (l *looker) contents() error {
	if len(l.ask.Contents) == 0 {
		return nil
	}

	in := l.m.Tree().Looker(l.ctx)
	defer in.Close()

	left := int64(bundle.MaxLookBytes)
	hidden := l.keyValues()
	for _, p := range l.ask.Contents {
		c := l.content(in, p, min(left, bundle.MaxLookFile))
		if c.Why == "" && !wire.PassesFilter(c.Bytes, hidden) {
			c = bundle.Content{Why: bundle.WhyKey}
		}

		left -= int64(len(c.Bytes))
		l.seen.Contents = append(l.seen.Contents, c)
	}

	return nil
}

// keyValues takes the values of all keys of the host out of a text. Where they can't be read, nothing of a
// text is left.
func (l *looker) keyValues() func(string) string {
	mask, err := keyfiles.Of(l.m).Mask(l.now.Manifest.Keys...)
	if err != nil {
		return func(string) string { return "" }
	}
	return mask
}

// content reads the file at p, unless it has more than most bytes.
func (l *looker) content(in *owned.Looker, p string, most int64) bundle.Content {
	o, mine := l.now.Owned.Paths[p]
	if l.isKey(p, o.Now) {
		return bundle.Content{Why: bundle.WhyKey}
	}
	if !mine || o.Now.Kind == owned.Nothing {
		return bundle.Content{Why: bundle.WhyNotOwned}
	}

	dir, err := in.Parent(p)
	if err != nil {
		return bundle.Content{Why: whyNot(err)}
	}
	f, st, err := owned.OpenRegular(dir, path.Base(p))
	if err != nil {
		return bundle.Content{Why: whyNot(err)}
	}
	defer f.Close()

	if st.Size > most {
		return bundle.Content{Why: bundle.WhyTooLarge}
	}
	bytes, err := io.ReadAll(io.LimitReader(f, most+1))
	switch {
	case err != nil:
		return bundle.Content{Why: whyNot(err)}
	case int64(len(bytes)) > most:
		return bundle.Content{Why: bundle.WhyTooLarge} // it grows
	}

	return bundle.Content{Bytes: bytes}
}

func whyNot(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return bundle.WhyMissing
	}
	return bundle.WhyNotRegular
}

// isKey says whether p is a key, or the link by which a service finds one.
func (l *looker) isKey(p string, want owned.Entry) bool {
	below := func(p string) bool { return owned.Below(path.Clean(p), bundle.KeyDir) }
	target := want.Target
	if !strings.HasPrefix(target, "/") {
		target = path.Join(path.Dir(p), target)
	}
	return below(p) || want.Kind == owned.Link && below(target)
}
