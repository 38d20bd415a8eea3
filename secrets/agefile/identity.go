package agefile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"

	"bellhop/secrets/privatefile"
)

// Sources says where private keys come from and what may be done to use them.
type Sources struct {
	Files      []string                            // identity files, tried in this order
	Passphrase func(prompt string) ([]byte, error) // nil: encrypted identities are refused when loaded
	Plugins    Plugins                             // zero: no program is ever run
	Limit      time.Duration                       // for opening one file; 0 means a minute
}

// Identities opens secrets. Printing one in any way shows only public keys. It is safe for use
// by many goroutines.
type Identities struct {
	list []*identity
	max  time.Duration
	room int // bytes of a value and, eightfold, of its file; 0 means MaxValue. Tests raise it
}

// An identity is one private key; what is printed of it is its public half or its source.
type identity struct {
	key    age.Identity
	public string // "" until unlocked, where a file hides it
	source string // the file it came from
}

// Load reads the identity files: age keys (classic and post-quantum, many to a file), age identity
// files encrypted with a passphrase, OpenSSH keys. Passphrase is called once for each encrypted file,
// when it is first needed (or by Unlock). Keys that need nobody's help are tried first when a file is
// opened, so that nobody is asked in vain. Errors name the file and quote nothing of it.
func (s Sources) Load() (*Identities, error) {
	ids := &Identities{max: s.Limit}
	for _, name := range s.Files {
		data, err := privatefile.Read(name)
		if err != nil {
			return nil, fmt.Errorf("read identity: %w", err)
		}
		list, err := s.parse(name, data)
		clear(data)
		if err != nil {
			return nil, fmt.Errorf("read identity %s: %w", name, err)
		}
		ids.list = append(ids.list, list...)
	}

	slices.SortStableFunc(ids.list, func(a, b *identity) int { return rank(a.key) - rank(b.key) })
	return ids, nil
}

func rank(k age.Identity) int {
	switch k.(type) {
	case *age.X25519Identity, *age.HybridIdentity:
		return 0
	case *agessh.Ed25519Identity, *agessh.RSAIdentity:
		return 1
	case *lazy, *sshLazy:
		return 2
	}
	return 3
}

func (s Sources) parse(name string, data []byte) ([]*identity, error) {
	class, armored := Sniff(data)
	switch {
	case class == "" || armored:
		return s.encrypted(name, bytes.Clone(data))
	case class == Empty:
		return nil, errors.New("the file is empty")
	case bytes.Contains(data, []byte("-----BEGIN ")):
		return s.sshKey(name, bytes.Clone(data))
	}

	return s.lines(name, data)
}

// lines reads age's own format: one key a line, # comments. Errors give the line's number only.
func (s Sources) lines(name string, data []byte) ([]*identity, error) {
	var list []*identity
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, err := s.line(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		id.source = name
		list = append(list, id)
	}

	if len(list) == 0 {
		return nil, errors.New("there is no key in it")
	}

	return list, nil
}

func (s Sources) line(line string) (*identity, error) {
	switch {
	case strings.HasPrefix(line, "AGE-SECRET-KEY-PQ-1"):
		if k, err := age.ParseHybridIdentity(line); err == nil {
			return &identity{key: k, public: k.Recipient().String()}, nil
		}
		return nil, errors.New("malformed post-quantum key")

	case strings.HasPrefix(line, "AGE-SECRET-KEY-1"):
		if k, err := age.ParseX25519Identity(line); err == nil {
			return &identity{key: k, public: k.Recipient().String()}, nil
		}
		return nil, errors.New("malformed key")

	case strings.HasPrefix(line, "AGE-PLUGIN-"):
		return s.Plugins.identity(line)
	case strings.HasPrefix(line, "age1"), strings.HasPrefix(line, "ssh-"):
		return nil, errors.New("this is a public key; the private one is needed")
	}
	return nil, errors.New("not an age key")
}

// encrypted is a passphrase-encrypted age identity file: its public halves are not known until
// it is unlocked.
func (s Sources) encrypted(name string, data []byte) ([]*identity, error) {
	if s.Passphrase == nil {
		return nil, errors.New("it is encrypted with a passphrase, and there is nobody to ask")
	}

	id := &identity{source: name}
	id.key = &lazy{source: name, load: func() ([]age.Identity, string, error) {
		pass, err := s.Passphrase("Passphrase for " + name + ": ")
		if err != nil {
			return nil, "", err
		}
		defer clear(pass)
		plain, err := openPassphrase(data, pass)
		if err != nil {
			return nil, "", err
		}
		defer clear(plain)
		list, err := s.lines(name, plain)
		if err != nil {
			return nil, "", err
		}
		var keys []age.Identity
		var public []string
		for _, l := range list {
			keys, public = append(keys, l.key), append(public, l.public)
		}
		return keys, strings.Join(public, ", "), nil
	}}

	return []*identity{id}, nil
}

// openPassphrase opens what `age -p` made, through the same steps as every other file.
func openPassphrase(data, pass []byte) ([]byte, error) {
	k, err := age.NewScryptIdentity(string(pass))
	if err != nil {
		return nil, errors.New("the passphrase is empty")
	}

	raw, class := unwrapArmor(data, MaxFile)
	if class != "" {
		return nil, &OpenError{Class: class}
	}

	header, _, class := parseHeader(raw)
	if class != "" {
		return nil, &OpenError{Class: class}
	}

	key, oerr := fileKey(header, []*identity{{key: k}}, Audience{})
	if oerr != nil {
		if oerr.Class == NoMatch {
			return nil, errors.New("the passphrase is wrong")
		}
		return nil, oerr
	}
	defer clear(key)
	v, oerr := payload(raw, len(header), key, MaxValue)
	if oerr != nil {
		return nil, oerr
	}

	return v, nil
}

func (s Sources) sshKey(name string, pem []byte) ([]*identity, error) {
	k, err := agessh.ParseIdentity(pem)
	var locked *ssh.PassphraseMissingError
	switch {
	case err == nil:
		public, err := sshPublic(pem)
		return []*identity{{key: k, public: public, source: name}}, err
	case !errors.As(err, &locked):
		return nil, errors.New("age cannot use this key: ssh-ed25519, or ssh-rsa of 2048 bits and more")
	case s.Passphrase == nil:
		return nil, errors.New("it is encrypted with a passphrase, and there is nobody to ask")
	}

	pub := locked.PublicKey
	if pub == nil {
		if pub, err = publicBeside(name); err != nil {
			return nil, err
		}
	}

	l := &sshLazy{source: name, ask: s.Passphrase}
	l.key, err = agessh.NewEncryptedSSHIdentity(pub, pem, l.passphrase)
	if err != nil {
		return nil, errors.New("age cannot use this key: ssh-ed25519, or ssh-rsa of 2048 bits and more")
	}

	l.pem = pem
	public := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub)))
	return []*identity{{key: l, public: public, source: name}}, nil
}

// publicBeside reads KEY.pub, since older PEM files hide their public half.
func publicBeside(name string) (ssh.PublicKey, error) {
	data, err := os.ReadFile(name + ".pub")
	if err != nil {
		return nil, errors.New("an encrypted key of the older PEM kind needs its .pub file beside it (or: ssh-keygen -p -o)")
	}
	pub, _, _, _, err := ssh.ParseAuthorizedKey(data)
	if err != nil {
		return nil, errors.New("the .pub file beside it is malformed")
	}
	return pub, nil
}

// sshPublic gives the public half, and refuses what age would refuse to seal for.
func sshPublic(pem []byte) (string, error) {
	signer, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		return "", errors.New("age cannot use this key: ssh-ed25519, or ssh-rsa of 2048 bits and more")
	}
	r, err := ParseRecipient(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	return r.text, err
}

// Len is how many identities there are; an encrypted file counts as one.
func (ids *Identities) Len() int { return len(ids.list) }

func (ids *Identities) limit() time.Duration {
	if ids == nil || ids.max <= 0 {
		return openLimit
	}
	return ids.max
}

func (ids *Identities) maxValue() int {
	if ids == nil || ids.room <= 0 {
		return MaxValue
	}
	return ids.room
}

// public lists what may be shown of each identity.
func (ids *Identities) public() []string {
	var out []string
	for _, id := range ids.list {
		p := id.known()
		if p == "" {
			p = id.source
		}
		out = append(out, shorten(p))
	}

	return out
}

// String lists public keys, never private ones.
func (ids *Identities) String() string {
	if ids == nil {
		return "identities()"
	}
	return "identities(" + strings.Join(ids.public(), ", ") + ")"
}

// GoString is String: %#v shows no more than %v.
func (ids *Identities) GoString() string { return ids.String() }

// Format is String for every verb.
func (ids *Identities) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, ids.String()) }

// LogValue is String.
func (ids *Identities) LogValue() slog.Value { return slog.StringValue(ids.String()) }

// MarshalText is String; encoding/json and friends use it.
func (ids *Identities) MarshalText() ([]byte, error) { return []byte(ids.String()), nil }

// MarshalJSON is String as a JSON string. A public key needs no escaping; a file name may.
func (ids *Identities) MarshalJSON() ([]byte, error) { return jsonString(ids.String()), nil }
