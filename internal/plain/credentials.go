package plain

import (
	"regexp"
	"strings"
	"sync"
)

// webLogin is what stands before the @ of a web address, and sshPassword the password of another.
var (
	webLogin    = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?i)\b(https?://)[^\s/?#@"'<>]+@`) })
	sshPassword = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)\b([a-z][a-z0-9+.-]*://[^\s/?#@:"'<>]*:)[^\s/?#@"'<>]+@`)
	})
)

// WithoutLogin returns s with the tokens and passwords of all addresses in it masked: of a web
// address whatever is before the @, since a token is often the user; of others the password.
func WithoutLogin(s string) string {
	if !strings.Contains(s, "@") || !strings.Contains(s, "://") {
		return s
	}
	s = webLogin().ReplaceAllString(s, "${1}***@")
	return sshPassword().ReplaceAllString(s, "${1}***@")
}
