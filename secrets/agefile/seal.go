package agefile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// SealOptions are the knobs of Seal. The zero value makes a binary file and runs no plugin.
type SealOptions struct {
	Armor   bool    // PEM-like text instead of bytes
	Plugins Plugins // for recipients such as age1yubikey1…
}

// Seal encrypts plaintext for every recipient in to, and notes in the header who they are.
// age 1.1.1 and later open the file as any other.
func Seal(plaintext []byte, to []Recipient, opt SealOptions) ([]byte, error) {
	if len(plaintext) > MaxValue {
		return nil, fmt.Errorf("seal: the value is larger than %d KiB", MaxValue>>10)
	}

	rs, err := wrappers(to, opt.Plugins)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}

	var out bytes.Buffer
	dst, end := io.Writer(&out), func() error { return nil }
	if opt.Armor {
		w := armor.NewWriter(&out)
		dst, end = w, w.Close
	}

	w, err := age.Encrypt(dst, rs...)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	if _, err := w.Write(plaintext); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	if err := errors.Join(w.Close(), end()); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}

	return out.Bytes(), nil
}

// wrappers turns recipients into age's, the last of them carrying the readers stanza. Doubles
// are dropped, so that stanzas and fingerprints count alike.
func wrappers(to []Recipient, plugins Plugins) ([]age.Recipient, error) {
	to = unique(to)
	if len(to) == 0 {
		return nil, errors.New("nobody would be able to open it: there are no recipients")
	}

	var named []Reader
	for _, r := range to {
		named = append(named, Reader{r.Short(), r})
	}
	if err := Compatible(named); err != nil {
		return nil, err
	}
	slices.SortFunc(to, func(a, b Recipient) int { return compareFingerprints(a.Fingerprint(), b.Fingerprint()) }) // as the note has them: see place
	rs := make([]age.Recipient, len(to))
	for i, r := range to {
		rs[i] = r.age
		if r.plugin != "" {
			p, err := plugins.recipient(r)
			if err != nil {
				return nil, err
			}
			rs[i] = p
		}
	}

	last := len(rs) - 1
	rs[last] = &noted{rs[last], readersStanza(to)}
	return rs, nil
}

func unique(to []Recipient) []Recipient {
	var out []Recipient
	for _, r := range to {
		if !slices.ContainsFunc(out, func(o Recipient) bool { return o.text == r.text }) {
			out = append(out, r)
		}
	}

	return out
}

// noted is a recipient whose stanza is followed by one more. It passes the labels on, so that
// age's own check of mixed recipients stays as it is.
type noted struct {
	age.Recipient
	note *age.Stanza
}

func (n *noted) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	ss, _, err := n.WrapWithLabels(fileKey)
	return ss, err
}

func (n *noted) WrapWithLabels(fileKey []byte) (ss []*age.Stanza, labels []string, err error) {
	if r, ok := n.Recipient.(age.RecipientWithLabels); ok {
		ss, labels, err = r.WrapWithLabels(fileKey)
	} else {
		ss, err = n.Recipient.Wrap(fileKey)
	}

	if err != nil {
		return nil, nil, err
	}
	return append(ss, n.note), labels, nil
}
