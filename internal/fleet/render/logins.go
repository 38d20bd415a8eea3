package render

import (
	"bytes"
	"path"
	"strings"
)

// A Logins is an authorized_keys file of a bundle. It replaces the one on the host, with the line that
// lets bellhop in.
type Logins struct {
	path   string // on the host
	Source string // in the repo
	data   []byte
}

// ShutsOut says what is wrong when the file is that of the user whom bellhop logs in as, and
// does not name the deployer's key; "" when nothing is.
func (l *Logins) ShutsOut(user, deployer string) string {
	home := strings.TrimSuffix(l.path, "/.ssh/authorized_keys")
	owner := path.Base(home) // of /root it is root
	if owner != user {
		return ""
	}

	fields := strings.Fields(deployer)
	if len(fields) < 2 {
		return ""
	}

	for line := range bytes.Lines(l.data) {
		line = bytes.TrimSpace(line)
		if !bytes.HasPrefix(line, []byte("#")) && bytes.Contains(line, []byte(fields[1])) {
			return ""
		}
	}

	return "the deployer's key is not in it, so bellhop could not log in as " + user + " any more; add the line that stands as deployer: in bellhop.yaml"
}
