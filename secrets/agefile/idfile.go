package agefile

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"
)

// PersonFiles lists the identity files that a person has, in the order in which they are tried
// when none is named: bellhop's own, those of age's other users, SSH keys.
func PersonFiles() []string {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil
	}

	config, err := os.UserConfigDir()
	if err != nil {
		config = filepath.Join(home, ".config")
	}

	var out []string
	for _, f := range []string{
		filepath.Join(config, "bellhop", "identity.age"),
		filepath.Join(config, "age", "keys.txt"),
		filepath.Join(config, "sops", "age", "keys.txt"),
		filepath.Join(home, ".ssh", "id_ed25519"),
		filepath.Join(home, ".ssh", "id_rsa"),
	} {
		if info, err := os.Stat(f); err == nil && info.Mode().IsRegular() {
			out = append(out, f)
		}
	}

	return out
}

// NewIdentity makes the text of an identity file as age-keygen writes it.
func NewIdentity() ([]byte, error) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, err
	}
	made := time.Now().UTC().Format(time.RFC3339)
	return fmt.Appendf(nil, "# created: %s\n# public key: %s\n%s\n", made, key.Recipient(), key), nil
}

// Recipients are the public halves that are known and can be written in bellhop.yaml, age keys first.
// Those of plugins and of encrypted files not yet unlocked are left out.
func (ids *Identities) Recipients() []string {
	var out []string
	for _, id := range ids.list {
		for p := range strings.SplitSeq(id.known(), ", ") {
			if _, err := ParseRecipient(p); err == nil {
				out = append(out, p)
			}
		}
	}

	return out
}

func jsonString(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		return []byte(`""`)
	}
	return b
}
