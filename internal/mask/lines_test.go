package mask_test

import (
	"slices"
	"testing"

	"bellhop/internal/mask"
)

// What a unit wrote is stored line by line, and a value may be spread over lines.
func TestLines(t *testing.T) {
	m := mask.Of(map[string][]byte{"db": []byte("correct-horse-battery-staple\n"), "pem": []byte("-----BEGIN-----\nMIIEowIBAAKCAQEA\nqwertyuiopas\n-----END-----\n")})
	for name, tt := range map[string]struct{ in, want []string }{
		"nothing":           {nil, nil},
		"plain":             {[]string{"starting", "", "ready"}, []string{"starting", "", "ready"}},
		"one line":          {[]string{"login", "password=correct-horse-battery-staple refused"}, []string{"login", "password=‹key db› refused"}},
		"broken":            {[]string{"login", "correct-hor", "se-battery-staple"}, []string{mask.Withheld}},
		"as it was written": {[]string{"key:", "-----BEGIN-----", "MIIEowIBAAKCAQEA", "qwertyuiopas", "-----END-----", "end"}, []string{"key:", "‹key pem›", "‹key pem›", "‹key pem›", "‹key pem›", "end"}},
		"a part of it":      {[]string{"MIIEowIBAAKCAQEA"}, []string{"‹key pem›"}},
	} {
		if got := mask.Lines(m, tt.in); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}
