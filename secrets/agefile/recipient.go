package agefile

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/plugin"
	"filippo.io/age/tag"
	"golang.org/x/crypto/ssh"
)

// A Recipient is a public key that files can be sealed for.
type Recipient struct {
	text   string        // canonical: lower case, or an SSH key without its comment
	age    age.Recipient // nil for a plugin's: nothing is run until a file is sealed
	plugin string        // the plugin's name
	pq     bool          // safe against quantum computers
}

// A Fingerprint names a recipient inside a file without repeating the whole key.
type Fingerprint [16]byte

// String is the fingerprint in hex.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// ParseRecipient reads an age or SSH public key. Plugin recipients are recognised, and
// nothing is run: that takes Plugins, when a file is sealed. Errors never quote the text,
// since a private key pasted in the wrong place is a common slip.
func ParseRecipient(s string) (Recipient, error) {
	s = strings.TrimSpace(s)
	switch {
	case strings.HasPrefix(strings.ToUpper(s), "AGE-SECRET-KEY-"), strings.HasPrefix(s, "AGE-PLUGIN-"), strings.Contains(s, "PRIVATE KEY"):
		return Recipient{}, errors.New("this is a private key, not a recipient: take it out and make a new one")
	case strings.HasPrefix(s, "ssh-"):
		return parseSSH(s)
	case strings.HasPrefix(s, "age1"):
		return parseAge(s)
	case strings.HasPrefix(s, "ecdsa-"), strings.HasPrefix(s, "sk-"):
		return Recipient{}, errors.New("age cannot seal for this kind of SSH key; ssh-ed25519 and ssh-rsa work")
	}

	return Recipient{}, errors.New("not a recipient: expected age1…, ssh-ed25519 or ssh-rsa")
}

func parseAge(s string) (Recipient, error) {
	r := Recipient{text: s}
	var err error
	switch {
	case strings.HasPrefix(s, "age1tag1"), strings.HasPrefix(s, "age1tagpq1"):
		r.pq = strings.HasPrefix(s, "age1tagpq1")
		r.age, err = tag.ParseRecipient(s)
	case strings.HasPrefix(s, "age1pq1"):
		r.pq = true
		r.age, err = age.ParseHybridRecipient(s)
	case strings.LastIndex(s, "1") > len("age"):
		r.plugin, _, err = plugin.ParseRecipient(s)
	default:
		r.age, err = age.ParseX25519Recipient(s)
	}

	if err != nil {
		return Recipient{}, errors.New("malformed age recipient: it is mistyped or cut short")
	}

	return r, nil
}

func parseSSH(s string) (Recipient, error) {
	pub, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(s))
	if err != nil || len(rest) > 0 {
		return Recipient{}, errors.New("malformed SSH recipient: it is mistyped or cut short")
	}
	text := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub)))
	r, err := agessh.ParseRecipient(text)
	if err != nil {
		return Recipient{}, fmt.Errorf("age cannot seal for this SSH key (%s): ssh-ed25519, or ssh-rsa of 2048 bits and more", pub.Type())
	}
	return Recipient{text: text, age: r}, nil
}

// String is the recipient as it is written in bellhop.yaml.
func (r Recipient) String() string { return r.text }

// Fingerprint names the recipient.
func (r Recipient) Fingerprint() Fingerprint {
	sum := sha256.Sum256([]byte("bellhop reader 1\n" + r.text))
	return Fingerprint(sum[:16])
}

// PostQuantum says whether files sealed for r alone are safe against quantum computers. What a
// plugin does is known only to the plugin: false.
func (r Recipient) PostQuantum() bool { return r.pq }

// Short is the recipient for messages: post-quantum ones have 1,959 letters.
func (r Recipient) Short() string { return shorten(r.text) }

func shorten(s string) string {
	if len(s) <= 84 {
		return s
	}
	return s[:24] + "…" + s[len(s)-8:]
}

// sshTag is the four-byte hint that SSH stanzas carry; empty for other recipients.
func (r Recipient) sshTag() string {
	kind, rest, _ := strings.Cut(r.text, " ")
	if !strings.HasPrefix(kind, "ssh-") {
		return ""
	}
	wire, err := base64.StdEncoding.DecodeString(rest)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(wire)
	return base64.RawStdEncoding.EncodeToString(sum[:4])
}

// A MixedError says that post-quantum and classic recipients cannot share a file: age refuses,
// since the classic ones would undo what the others are for.
type MixedError struct {
	PostQuantum []string // names, or the keys themselves
	Classic     []string
}

// Error says who is on which side, and the way out.
func (e *MixedError) Error() string {
	return fmt.Sprintf("post-quantum readers (%s) and classic readers (%s) cannot share a file: "+
		"give the classic ones post-quantum keys (age-keygen -pq; SSH keys cannot be), or keep apart rules for each",
		strings.Join(e.PostQuantum, ", "), strings.Join(e.Classic, ", "))
}

// Compatible is a *MixedError if readers cannot share a file: age finds that too, but names nobody.
// Plugins are left out, since only they know.
func Compatible(readers []Reader) error {
	var e MixedError
	for _, r := range readers {
		switch {
		case r.plugin != "":
		case r.pq:
			e.PostQuantum = append(e.PostQuantum, r.Name)
		default:
			e.Classic = append(e.Classic, r.Name)
		}
	}

	if len(e.PostQuantum) == 0 || len(e.Classic) == 0 {
		return nil
	}
	e.PostQuantum, e.Classic = slices.Compact(e.PostQuantum), slices.Compact(e.Classic)
	return &e
}

// A Reader is a recipient with the name it has in the config repo.
type Reader struct {
	Name string // "cadey"; the key itself where a rule names a bare key
	Recipient
}
