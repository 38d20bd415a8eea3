package bundle

import (
	"fmt"
	"path"
	"strings"
	"unicode/utf8"
)

// Limits of a path on a host, which Linux sets: a path and the target of a link, and one name in
// them, in bytes.
const (
	MaxPath     = 4000
	MaxPathName = 255
)

// BadPath says why p can't be a path on a host; "" when it can. The deployer tells it of the repo
// before a push, and the host refuses by the same rule.
func BadPath(p string) string {
	if p == "/" || !path.IsAbs(p) || path.Clean(p) != p {
		return "want a clean absolute path"
	}
	return badText("path", p)
}

// BadTarget says why a link can't point to target; "" when it can. It may be relative.
func BadTarget(target string) string {
	if target == "" {
		return "a link to nowhere"
	}
	return badText("link's target", target)
}

func badText(what, p string) string {
	if !utf8.ValidString(p) {
		return "a " + what + " that is not UTF-8"
	}
	if strings.ContainsFunc(p, isControl) {
		return "control characters in a " + what
	}
	if len(p) > MaxPath {
		return fmt.Sprintf("a %s longer than %d bytes", what, MaxPath)
	}

	for name := range strings.SplitSeq(p, "/") {
		if len(name) > MaxPathName {
			return fmt.Sprintf("a name in a %s that is longer than %d bytes", what, MaxPathName)
		}
	}

	return ""
}

// isControl tells characters that move a terminal's cursor, of ASCII and of Latin-1.
func isControl(r rune) bool { return r < ' ' || (0x7f <= r && r < 0xa0) }
