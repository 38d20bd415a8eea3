package secrets

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"golang.org/x/crypto/ssh"
)

// GenerateOptions say what to make.
type GenerateOptions struct {
	Kind    string // "password", "hex", "base64", "ssh" or "wireguard"
	Length  int    // letters of a password (0: 32), bytes of hex and base64 (0: 32)
	Comment string // of an SSH key; empty: the secret's name
	Newline bool   // end a password, hex or base64 with a newline
	Force   bool   // replace an existing secret
}

// Kinds are the values of GenerateOptions.Kind.
var Kinds = []string{"password", "hex", "base64", "ssh", "wireguard"}

// alphabet leaves out what shells, URLs and env files would want quoted.
const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// Generate makes a random value and seals it; nobody sees it. Of key pairs the public half is
// written in clear beside it: secrets/wg0.pub for secrets/wg0.age.
func (s *Store) Generate(name string, opt GenerateOptions) (*Written, error) {
	file, err := Path(name)
	if err != nil {
		return nil, err
	}
	w, err := s.generate(file, opt)
	if err != nil {
		return nil, fmt.Errorf("generate %s: %w", file, err)
	}
	return w, nil
}

func (s *Store) generate(file string, opt GenerateOptions) (*Written, error) {
	base := strings.TrimSuffix(file, ".age")
	old, err := s.existing(file)
	if err != nil {
		return nil, bare(err)
	}
	if old != nil && !opt.Force {
		return nil, errors.New("it is there already; --force replaces its value")
	}
	if opt.Comment == "" {
		opt.Comment = base[strings.LastIndex(base, "/")+1:]
	}

	value, public, err := random(opt)
	if err != nil {
		return nil, err
	}
	defer clear(value)
	data, readers, err := s.sealFor(file, value, old)
	if err != nil {
		return nil, err
	}

	w := &Written{File: file, Created: old == nil, Changed: true, Readers: readerNames(readers)}
	_, w.EndsInNewline = trimNewline(value)
	writes := []*write{{file: file, data: data, old: old}}
	if public != nil {
		w.Public = base + ".pub"
		oldPublic, err := s.existing(w.Public)
		if err != nil {
			return nil, bare(err)
		}
		if oldPublic != nil && !opt.Force {
			return nil, fmt.Errorf("%s is there already; --force replaces it", w.Public)
		}
		writes = append(writes, &write{file: w.Public, data: public, old: oldPublic})
	}

	return w, s.replace(writes)
}

// random makes a value of a kind, and its public half if it has one.
func random(opt GenerateOptions) (value, public []byte, err error) {
	n := opt.Length
	if n == 0 {
		n = 32
	}
	if n < 8 || n > 4096 {
		return nil, nil, fmt.Errorf("a length of %d: want 8 to 4096", n)
	}

	switch opt.Kind {
	case "password", "":
		value, err = password(n)
	case "hex":
		value = hex.AppendEncode(nil, randomBytes(n))
	case "base64":
		value = base64.StdEncoding.AppendEncode(nil, randomBytes(n))
	case "ssh":
		return sshPair(opt.Comment)
	case "wireguard":
		return wireguardPair()
	default:
		return nil, nil, fmt.Errorf("unknown kind %q: want one of %s", opt.Kind, strings.Join(Kinds, ", "))
	}

	if opt.Newline {
		value = append(value, '\n')
	}

	return value, nil, err
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}

func password(n int) ([]byte, error) {
	out := make([]byte, n)
	for i := range out {
		k, err := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet))))
		if err != nil {
			return nil, err
		}
		out[i] = alphabet[k.Int64()]
	}

	return out, nil
}

func sshPair(comment string) (private, public []byte, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	defer clear(priv)
	block, err := ssh.MarshalPrivateKey(priv, comment)
	if err != nil {
		return nil, nil, err
	}

	sp, err := ssh.NewPublicKey(pub)
	if err != nil {
		return nil, nil, err
	}

	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(sp))) + " " + comment + "\n"
	return pem.EncodeToMemory(block), []byte(line), nil
}

// wireguardPair is what `wg genkey` and `wg pubkey` print, newline included.
func wireguardPair() (private, public []byte, err error) {
	b := randomBytes(32)
	defer clear(b)
	b[0] &= 248
	b[31] = b[31]&127 | 64
	k, err := ecdh.X25519().NewPrivateKey(b)
	if err != nil {
		return nil, nil, err
	}
	line := func(b []byte) []byte { return append(base64.StdEncoding.AppendEncode(nil, b), '\n') }
	return line(b), line(k.PublicKey().Bytes()), nil
}
