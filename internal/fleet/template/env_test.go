package template

import (
	"strings"
	"testing"
)

// readEnv reads the value of one line as systemd's environment files have it: a port of
// parse_env_file_internal for a value that starts the line.
func readEnv(s string) (string, bool) {
	if !strings.HasPrefix(s, `"`) {
		return s, !strings.ContainsAny(s, " \t\n\"'\\")
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), i == len(s)-1
		case '\\':
			i++
			if i == len(s) {
				return "", false
			}
			if !strings.ContainsRune("\"\\`$", rune(s[i])) {
				b.WriteByte('\\')
			}
			b.WriteByte(s[i])
		default:
			b.WriteByte(s[i])
		}
	}
	return "", false
}

func FuzzEnvQuote(f *testing.F) {
	for _, s := range []string{"", "a", "a b", `"`, `\`, "$HOME", "`id`", "#x", "a\nb", "\x00", "ä", "\xff", "'", "=;", "\t", `\"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q, err := EnvQuote(s)
		if err != nil {
			if q != "" || len(s) > 8 && strings.Contains(err.Error(), s) {
				t.Errorf("EnvQuote(%q) = %q, %v", s, q, err)
			}
			return
		}
		if strings.ContainsAny(q, "\n\r\x00") {
			t.Errorf("EnvQuote(%q) = %q breaks the line", s, q)
		}
		if got, ok := readEnv(q); !ok || got != s {
			t.Errorf("EnvQuote(%q) = %q, which reads as %q", s, q, got)
		}
	})
}
