package agefile

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"filippo.io/age"
	"golang.org/x/crypto/chacha20poly1305"
)

// openLimit is how long opening one file may take: a plugin may wait for a touch, and so may
// a person asked for a passphrase.
const openLimit = 60 * time.Second

// Open decrypts one age file, armored or not. It returns the whole value, authenticated to its
// end, or an *OpenError and not one byte. name is what errors call the file.
func (ids *Identities) Open(name string, data []byte) ([]byte, error) {
	type answer struct {
		value []byte
		err   *OpenError
	}

	done := make(chan answer, 1)
	go func() {
		v, err := ids.open(data)
		done <- answer{v, err}
	}()

	limit := time.NewTimer(ids.limit())
	defer limit.Stop()
	a := answer{err: &OpenError{Class: TimedOut}}
	select {
	case a = <-done:
	case <-limit.C:
		go func() { clear((<-done).value) }()
	}

	if a.err != nil {
		a.err.Name = name
		return nil, a.err
	}

	return a.value, nil
}

func (ids *Identities) open(data []byte) ([]byte, *OpenError) {
	raw, class := unwrapArmor(data, ids.maxValue()*(MaxFile/MaxValue))
	if class != "" {
		return nil, &OpenError{Class: class}
	}

	header, stanzas, class := parseHeader(raw)
	if class != "" {
		return nil, &OpenError{Class: class}
	}
	if class := refusePassphrase(stanzas); class != "" {
		return nil, &OpenError{Class: class}
	}
	if ids == nil || len(ids.list) == 0 {
		e := noMatch(stanzas, nil)
		e.err = ErrNoIdentity
		return nil, e
	}

	key, err := fileKey(header, ids.list, audience(stanzas))
	if err != nil {
		if err.Class == NoMatch {
			return nil, noMatch(stanzas, ids)
		}
		return nil, err
	}
	defer clear(key)
	return payload(raw, len(header), key, ids.maxValue())
}

// refusePassphrase stops a pushed file from costing the deployer seconds of scrypt.
func refusePassphrase(stanzas []*age.Stanza) Class {
	for _, s := range stanzas {
		if s.Type == "scrypt" {
			if len(stanzas) > 1 {
				return BadHeader
			}
			return Passphrase
		}
	}
	return ""
}

func noMatch(stanzas []*age.Stanza, ids *Identities) *OpenError {
	a := audience(stanzas)
	e := &OpenError{Class: NoMatch, Types: a.Types}
	for _, f := range a.Readers {
		e.Readers = append(e.Readers, f.String())
	}
	if ids != nil {
		e.Tried = ids.public()
	}
	return e
}

// fileKey finds the key of the payload. Whether an identity had already given one is what
// distinguishes a changed header from a malformed stanza: age has no types for either.
func fileKey(header []byte, ids []*identity, a Audience) ([]byte, *OpenError) {
	matched := false
	keys := make([]age.Identity, len(ids))
	for i, id := range ids {
		place, known := a.place(id)
		keys[i] = &watched{id.key, &matched, place, known}
	}

	key, err := age.DecryptHeader(header, keys...)
	if err == nil {
		return key, nil
	}

	var none *age.NoIdentityMatchError
	var locked *lockedError
	var refused *pluginError
	switch {
	case matched:
		return nil, &OpenError{Class: BadMAC}
	case errors.As(err, &none):
		return nil, &OpenError{Class: NoMatch}
	case errors.As(err, &refused) && refused.gone:
		return nil, &OpenError{Class: PluginMissing, err: refused}
	case errors.As(err, &refused):
		return nil, &OpenError{Class: PluginFailed, err: refused}
	case errors.As(err, &locked):
		return nil, &OpenError{Class: Locked, err: locked}
	}

	return nil, &OpenError{Class: BadHeader}
}

// watched notes that an identity gave a key. It tries the stanza at place first: each other costs a
// curve's arithmetic, for each reader before it. So a malformed stanza of another reader is not
// seen there, where age would refuse the file; that the header is whole is proved by its MAC either way.
type watched struct {
	age.Identity
	matched  *bool
	place    int
	isPlaced bool // place is known
}

func (w *watched) Unwrap(ss []*age.Stanza) (key []byte, err error) {
	if w.isPlaced && w.place < len(ss) {
		if key, err = w.Identity.Unwrap(ss[w.place : w.place+1]); err == nil {
			*w.matched = true
			return key, nil
		}
	}

	key, err = w.Identity.Unwrap(ss)
	*w.matched = *w.matched || err == nil
	return key, err
}

// payload decrypts what follows the header, whole or not at all.
func payload(raw []byte, header int, key []byte, limit int) ([]byte, *OpenError) {
	const nonce, overhead = 16, 16
	if len(raw)-header < nonce+overhead {
		return nil, &OpenError{Class: Truncated}
	}
	if v, ok := oneChunk(raw[header:], key); ok {
		if len(v) <= limit {
			return v, nil
		}
		clear(v)
		return nil, &OpenError{Class: TooLarge}
	}

	r, err := age.Decrypt(bytes.NewReader(raw), age.NewInjectedFileKeyIdentity(key))
	if err != nil {
		return nil, &OpenError{Class: BadHeader}
	}

	buf := make([]byte, 0, min(len(raw)-header, limit+1))
	out := bytes.NewBuffer(buf)
	n, err := io.Copy(out, io.LimitReader(r, int64(limit)+1))
	if err == nil && n <= int64(limit) {
		return out.Bytes(), nil
	}
	clear(out.Bytes())
	return nil, &OpenError{Class: payloadClass(n, err)}
}

// oneChunk decrypts a payload of up to 64 KiB, as nearly all secrets are: age's own reader reserves
// twice that for each, which a host with hundreds of keys pays for. What it can't decrypt is left to
// that reader, which knows why. The format is that of C2SP age, "Payload".
func oneChunk(payload, key []byte) ([]byte, bool) {
	const nonce, chunk = 16, 64<<10 + chacha20poly1305.Overhead
	if len(payload) > nonce+chunk {
		return nil, false
	}

	k, err := hkdf.Key(sha256.New, key, payload[:nonce], "payload", chacha20poly1305.KeySize)
	if err != nil {
		return nil, false
	}
	defer clear(k)
	aead, err := chacha20poly1305.New(k)
	if err != nil {
		return nil, false
	}

	last := [chacha20poly1305.NonceSize]byte{chacha20poly1305.NonceSize - 1: 1} // the first chunk, and the last
	v, err := aead.Open(nil, last[:], payload[nonce:], nil)
	return v, err == nil
}

func payloadClass(n int64, err error) Class {
	switch {
	case err == nil:
		return TooLarge
	case errors.Is(err, io.ErrUnexpectedEOF):
		return Truncated
	case strings.HasPrefix(err.Error(), "trailing data"):
		return Trailing
	}
	return Corrupt
}

// lockedError is an identity that could not be unlocked.
type lockedError struct {
	source string
	why    string
}

func (e *lockedError) Error() string { return fmt.Sprintf("%s: %s", e.source, e.why) }
