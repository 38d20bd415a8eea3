package agefile

import (
	"os"
	"strings"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"
)

// PublicOf reads the public half of an age identity file or of an SSH key beside its .pub;
// "" when there is none to be had.
func PublicOf(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	defer clear(b)
	if ids, err := age.ParseIdentities(strings.NewReader(string(b))); err == nil {
		for _, id := range ids {
			switch id := id.(type) {
			case *age.X25519Identity:
				return id.Recipient().String()
			case *age.HybridIdentity:
				return id.Recipient().String()
			}
		}
	}

	pub, err := os.ReadFile(path + ".pub")
	if err != nil {
		return ""
	}

	key, _, _, _, err := ssh.ParseAuthorizedKey(pub)
	if err != nil || key.Type() != ssh.KeyAlgoED25519 {
		return ""
	}

	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}
