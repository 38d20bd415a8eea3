package nixfleet

import (
	"context"
	"net"
	"os/exec"
	"strings"

	"golang.org/x/crypto/ssh"

	"bellhop/internal/child"
)

// KnownKey is the Ed25519 key, else another one, that a file of known hosts has for an address, as a line of
// authorized_keys; "" where it has none. Whoever deployed with NixOps or Colmena has it from there.
func KnownKey(ctx context.Context, file, address string) string {
	name := address
	if host, port, err := net.SplitHostPort(address); err == nil {
		if name = host; port != "22" {
			name = "[" + host + "]:" + port
		}
	}
	if strings.HasPrefix(name, "-") {
		return ""
	}

	cmd := exec.CommandContext(ctx, "ssh-keygen", "-F", name, "-f", file)
	cmd.Env = child.Env(nil)
	out, err := cmd.Output()
	if err != nil {
		return "" // it has none, or there is no such file
	}

	found := ""
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) != 3 { // a comment, or a line with a mark such as @revoked
			continue
		}

		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(fields[1] + " " + fields[2]))
		if err != nil {
			continue
		}
		if found == "" || key.Type() == ssh.KeyAlgoED25519 {
			found = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
		}
		if key.Type() == ssh.KeyAlgoED25519 {
			break
		}
	}

	return found
}
