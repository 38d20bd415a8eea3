package syntax

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var (
	nameRule    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	accountRule = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,30}$`)
	commandRule = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._+-]*$`)
)

// NameWords and accountWords say what such a name is made of, for messages.
const NameWords = "a letter or digit first, then letters, digits, . _ -, at most 64"
const AccountWords = "a small letter or _ first, then small letters, digits, _ -, at most 31"

// Arches are the architectures that a host or a package can have, as Go names them.
var Arches = []string{"amd64", "arm64", "arm", "386", "riscv64", "ppc64le", "s390x", "loong64", "mips64le"}
var archAliases = map[string]string{"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armv7": "arm", "armv7l": "arm", "armhf": "arm", "i386": "386", "i686": "386"}

// ArchHint is "" for a name that Go knows, else what to say.
func ArchHint(arch string) string {
	if slices.Contains(Arches, arch) {
		return ""
	}
	if a, ok := archAliases[arch]; ok {
		return fmt.Sprintf("unknown architecture %q; Go calls it %q", arch, a)
	}
	return fmt.Sprintf("unknown architecture %q; known: %s", arch, strings.Join(Arches, ", "))
}

// CheckName says what is wrong with a name for a host, a service, a key or whatever what is; nil when it
// will do.
func CheckName(what, name string) error {
	if nameRule.MatchString(name) {
		return nil
	}
	return fmt.Errorf("bad name %q for a %s: %s", name, what, NameWords)
}

// IsName says whether a host, a service, a key or a reader can be called so.
func IsName(s string) bool { return nameRule.MatchString(s) }

// IsAccount says whether a user or a group can be called so.
func IsAccount(s string) bool { return accountRule.MatchString(s) }

// IsCommand says whether needs: can name a command so.
func IsCommand(s string) bool { return commandRule.MatchString(s) }
