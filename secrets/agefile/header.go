package agefile

import (
	"bytes"
	"encoding/base64"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// Limits on what is opened. Headers have age's own on top: 2 MiB and 1,024 stanzas.
const (
	MaxFile  = 8 << 20 // bytes of an age file, armored or not
	MaxValue = 1 << 20 // bytes of a value; also what a systemd credential may hold
)

const intro = "age-encryption.org/v1\n"

// Sniff says what data looks like before anything parses it: age's own errors quote the first
// line, which of a plaintext file is the secret. "" is an age file, armored or not.
func Sniff(data []byte) (class Class, armored bool) {
	trimmed := bytes.TrimLeft(data, " \t\r\n")
	switch {
	case len(data) == 0:
		return Empty, false
	case bytes.HasPrefix(data, []byte(intro)):
		return "", false
	case bytes.HasPrefix(trimmed, []byte(armor.Header)):
		return "", true
	case damagedIntro(data):
		return Mangled, false
	}

	return NotAge, false
}

// damagedIntro sees the intro through what editors and git do to text: CRLF, a byte order
// mark, UTF-16 of either order.
func damagedIntro(data []byte) bool {
	head := data[:min(len(data), 256)]
	plain := bytes.ReplaceAll(head, []byte{0}, nil)
	for _, bom := range []string{"\xef\xbb\xbf", "\xff\xfe", "\xfe\xff"} {
		plain = bytes.TrimPrefix(plain, []byte(bom))
	}
	plain = bytes.TrimLeft(plain, " \t\r\n")
	return bytes.HasPrefix(plain, []byte(strings.TrimSpace(intro))) || bytes.HasPrefix(plain, []byte(armor.Header))
}

// unwrapArmor gives the binary form of an age file.
func unwrapArmor(data []byte, limit int) ([]byte, Class) {
	if len(data) > limit {
		return nil, TooLarge
	}

	class, armored := Sniff(data)
	if class != "" || !armored {
		return data, class
	}

	raw, err := io.ReadAll(armor.NewReader(bytes.NewReader(data)))
	if err != nil {
		return nil, BadArmor
	}
	if class, armored := Sniff(raw); class != "" || armored {
		return nil, BadHeader
	}

	return raw, ""
}

// parseHeader gives the header's bytes and its stanzas. age parses first and strictly; what it
// returns is canonical, and splitting that into stanzas again cannot fail for a reason of its own.
func parseHeader(raw []byte) (header []byte, stanzas []*age.Stanza, class Class) {
	header, err := age.ExtractHeader(bytes.NewReader(raw))
	if err != nil || !bytes.HasPrefix(raw, header) {
		return nil, nil, BadHeader
	}

	lines := strings.Split(strings.TrimSuffix(string(header), "\n"), "\n")
	for _, line := range lines[1 : len(lines)-1] {
		if args, ok := strings.CutPrefix(line, "-> "); ok {
			f := strings.Split(args, " ")
			stanzas = append(stanzas, &age.Stanza{Type: f[0], Args: f[1:]})
			continue
		}

		body, err := base64.RawStdEncoding.DecodeString(line)
		if err != nil || len(stanzas) == 0 {
			return nil, nil, BadHeader
		}
		s := stanzas[len(stanzas)-1]
		s.Body = append(s.Body, body...)
	}

	return header, stanzas, ""
}

// IsArmored says whether a file is kept as text, so that it stays that way when it is sealed again.
func IsArmored(data []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte(armor.Header))
}
