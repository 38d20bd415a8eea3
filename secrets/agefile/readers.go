package agefile

import (
	"bytes"
	"slices"
	"strings"

	"filippo.io/age"
)

// readersType is the type of the stanza that names the readers. Other programs skip stanzas
// of types they do not know, as the age format asks of them. Its one argument is a version,
// its body the fingerprints one after the other, sorted.
const readersType = "bellhop.dev/readers"

const readersVersion = "1"

// Audience is what a file's header says about who can open it.
type Audience struct {
	Known   bool          // the file carries a readers stanza that fits the other stanzas
	Readers []Fingerprint // sorted; nil unless Known
	Stanzas int           // recipient stanzas, the readers stanza not counted
	Types   []string      // their types, in order
	tags    []string      // tags of SSH stanzas, in order

	EmptyValue bool // nothing is sealed in the file; set by Inspect
}

// Kinds lists the types of the stanzas, equal ones counted: "X25519 ×2, ssh-ed25519".
func (a Audience) Kinds() string { return stanzaList(a.Types) }

// Lacks says that no stanza is for r. Of a file without a readers stanza only SSH keys are known not to
// be there, since their stanzas carry a tag.
func (a Audience) Lacks(r Recipient) bool {
	if a.Known {
		return !slices.Contains(a.Readers, r.Fingerprint())
	}
	tag := r.sshTag()
	return tag != "" && !slices.Contains(a.tags, tag)
}

// Readers reads who can open an age file, without a private key. Of a file written by plain age
// only the number and types of its readers are known. The stanza is covered by the header's
// MAC, which whoever opens the file checks; it cannot stop someone who may replace the file.
func Readers(data []byte) (Audience, error) {
	a, class := Inspect(data)
	if class == "" || class == Passphrase || class == Truncated {
		return a, nil // the header is whole
	}
	return Audience{}, &OpenError{Name: "the age file", Class: class}
}

// Inspect says who can open a file, and what is wrong with it as far as that shows without a private
// key: "" is nothing. Of a file that is cut short or sealed with a passphrase the audience is given too.
func Inspect(data []byte) (Audience, Class) {
	raw, class := unwrapArmor(data, MaxFile)
	if class != "" {
		return Audience{}, class
	}

	header, stanzas, class := parseHeader(raw)
	if class != "" {
		return Audience{}, class
	}

	a := audience(stanzas)
	if refusePassphrase(stanzas) != "" {
		return a, Passphrase
	}

	const nonce, overhead = 16, 16 // of the payload: an empty one is as long as that
	sealed := len(raw) - len(header)
	if sealed < nonce+overhead {
		return a, Truncated
	}

	a.EmptyValue = sealed == nonce+overhead
	return a, ""
}

// greaseSuffix ends the type of a stanza that is nobody's: rage and others add one at random, so that
// programs do not come to rely on the stanzas that they know.
const greaseSuffix = "-grease"

func audience(stanzas []*age.Stanza) Audience {
	var a Audience
	var notes []*age.Stanza
	for _, s := range stanzas {
		if s.Type == readersType {
			notes = append(notes, s)
			continue
		}

		if strings.HasSuffix(s.Type, greaseSuffix) {
			continue
		}
		a.Types = append(a.Types, s.Type)
		if (s.Type == "ssh-ed25519" || s.Type == "ssh-rsa") && len(s.Args) > 0 {
			a.tags = append(a.tags, s.Args[0])
		}
	}

	a.Stanzas = len(a.Types)
	if len(notes) == 1 {
		a.Readers, a.Known = readNote(notes[0], a.Stanzas)
	}

	return a
}

// place is where the stanza for id is, as far as the note says: bellhop writes both in one
// order, and before the note. It is a hint, and wrong for files of before that order.
func (a Audience) place(id *identity) (at int, known bool) {
	switch id.key.(type) {
	case *age.X25519Identity, *age.HybridIdentity, *lazy:
	default: // SSH stanzas carry a hint of their own, and a plugin is asked once
		return 0, false
	}

	if public := id.known(); a.Known && public != "" {
		at = slices.Index(a.Readers, Recipient{text: public}.Fingerprint())
		return at, at >= 0
	}

	return 0, false
}

// readNote believes a note only if it names as many readers as there are stanzas.
func readNote(s *age.Stanza, stanzas int) ([]Fingerprint, bool) {
	const size = len(Fingerprint{})
	if len(s.Args) != 1 || s.Args[0] != readersVersion || len(s.Body) != stanzas*size {
		return nil, false
	}
	var fps []Fingerprint
	for b := range slices.Chunk(s.Body, size) {
		fps = append(fps, Fingerprint(b))
	}
	return fps, slices.IsSortedFunc(fps, compareFingerprints)
}

func readersStanza(to []Recipient) *age.Stanza {
	fps := fingerprints(to)
	s := &age.Stanza{Type: readersType, Args: []string{readersVersion}}
	for _, f := range fps {
		s.Body = append(s.Body, f[:]...)
	}
	return s
}

func fingerprints(to []Recipient) []Fingerprint {
	var fps []Fingerprint
	for _, r := range to {
		fps = append(fps, r.Fingerprint())
	}
	slices.SortFunc(fps, compareFingerprints)
	return fps
}

func compareFingerprints(a, b Fingerprint) int { return bytes.Compare(a[:], b[:]) }
