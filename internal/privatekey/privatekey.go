// Package privatekey finds private keys in text, and masks them.
//
// It knows age keys, keys of age plugins, PEM (OpenSSH, PKCS, PGP) and PuTTY files, also when line
// ends are written as \n, as JSON does, and when the key is base64 of one line.
//
// Its promise: what Mask returns has as many lines as the text, and no part of a key that Find
// would find in it.
package privatekey

import (
	"bytes"
	"encoding/base64"
	"regexp"
	"strings"
)

// mark is what stands in a key's place.
const mark = "‹private key›"

// A form is what a kind of private key looks like. The pattern wants some of the key's body, so
// that a page that only talks about keys passes. Line breaks may be written as \n.
type form struct {
	hint string // what must be there before the pattern is tried
	name string
	re   *regexp.Regexp // the beginning of a key
	all  *regexp.Regexp // all of it, as far as it is there
}

var forms = []form{
	{
		"AGE-SECRET-KEY-", "age",
		regexp.MustCompile(`(?i)AGE-SECRET-KEY-(?:PQ-)?1[AC-HJ-NP-Z02-9]{40}`),
		regexp.MustCompile(`(?i)AGE-SECRET-KEY-(?:PQ-)?1[A-Z0-9]{8,}`),
	},
	{
		"AGE-PLUGIN-", "age plugin",
		regexp.MustCompile(`(?i)AGE-PLUGIN-[A-Z0-9+._-]+-1[AC-HJ-NP-Z02-9]{8}`),
		regexp.MustCompile(`(?i)AGE-PLUGIN-[A-Z0-9+._-]+-1[A-Z0-9]{8,}`),
	},
	{
		"PRIVATE KEY", "PEM",
		regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?:\\[nr]|[\s"'+>|\\])*(?:[A-Za-z0-9+/]{16}|Proc-Type:|Version:|Comment:|DEK-Info:)`),
		regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\z)`),
	},
	{
		"PuTTY-User-Key-File-", "PuTTY",
		regexp.MustCompile(`Private-Lines: [0-9]`),
		regexp.MustCompile(`(?s)Private-Lines: [0-9].*?(?:Private-MAC: \S*|\z)`),
	},
}

// isIn says where the hint is, or -1: age takes its keys in lower case too.
func (f form) isIn(data []byte) int {
	i := bytes.Index(data, []byte(f.hint))
	if i < 0 && strings.HasPrefix(f.hint, "AGE-") {
		i = bytes.Index(data, []byte(strings.ToLower(f.hint)))
	}
	return i
}

// Find gives the kind of the first private key in data, and its line, from 1; "" has none.
func Find(data []byte) (kind string, line int) {
	if wide := fromUTF16(data); wide != nil {
		data = wide
	}

	for _, f := range forms {
		// Most files have none of the hints, and searching for those is fast. From the first one on
		// the pattern looks at the rest once, so a file full of hints costs no more than its length.
		i := f.isIn(data)
		if i < 0 {
			continue
		}

		from := max(i-64, 0) // a pattern begins before its hint, or after it
		if at := f.re.FindIndex(data[from:]); at != nil {
			return f.name, 1 + bytes.Count(data[:from+at[0]], []byte("\n"))
		}
	}

	return findEncoded(data)
}

// Mask returns text with every private key replaced, but the ends of its lines.
func Mask(text string) string {
	for _, f := range forms {
		if f.isIn([]byte(text)) >= 0 {
			text = f.all.ReplaceAllStringFunc(text, maskLines)
		}
	}

	if hasEncodedHint([]byte(text)) {
		text = encodedRun.ReplaceAllStringFunc(text, func(run string) string {
			if kind, _ := Find(decoded(run)); kind != "" {
				return mark
			}
			return run
		})
	}

	return text
}

// maskLines keeps line ends, so that a line of a masked file is the line of the same number.
func maskLines(key string) string {
	return mark + strings.Repeat("\n"+mark, strings.Count(key, "\n"))
}

// encodedRun is a piece of text that may be base64 of a key.
var encodedRun = regexp.MustCompile(`[A-Za-z0-9+/_-]{40,}={0,2}`)

// encodedHints are the hints as base64 shows them, at each of the three places in a group at which
// they can begin.
var encodedHints = func() (hints [][]byte) {
	for _, f := range forms {
		hints = append(hints, encodings(f.hint)...)
		if strings.HasPrefix(f.hint, "AGE-") {
			hints = append(hints, encodings(strings.ToLower(f.hint))...)
		}
	}

	return hints
}()

func encodings(hint string) (all [][]byte) {
	for shift := range 3 {
		text := base64.RawStdEncoding.EncodeToString(append(make([]byte, shift), hint...))
		head, tail := (8*shift+5)/6, 8*(shift+len(hint))/6 // the letters that hold bits of the hint alone
		all = append(all, []byte(text[head:tail]))
	}
	return all
}

func hasEncodedHint(data []byte) bool {
	for _, hint := range encodedHints {
		if bytes.Contains(data, hint) {
			return true
		}
	}
	return false
}

func findEncoded(data []byte) (kind string, line int) {
	if !hasEncodedHint(data) {
		return "", 0
	}

	for _, at := range encodedRun.FindAllIndex(data, -1) {
		run := data[at[0]:at[1]]
		if !hasEncodedHint(run) {
			continue
		}

		for _, f := range forms {
			if f.re.Match(decoded(string(run))) {
				return f.name + ", as base64", 1 + bytes.Count(data[:at[0]], []byte("\n"))
			}
		}
	}
	return "", 0
}

// decoded is what a run of base64 letters says, of either alphabet; nil when it says nothing.
func decoded(run string) []byte {
	run = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(run, "="))
	run = run[:len(run)/4*4] // the end of a run that was cut
	data, err := base64.RawStdEncoding.DecodeString(run)
	if err != nil {
		return nil
	}

	return data
}

// fromUTF16 drops the zero bytes of text that was saved as UTF-16; nil if data is no such text.
func fromUTF16(data []byte) []byte {
	if !bytes.HasPrefix(data, []byte("\xff\xfe")) && !bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return nil
	}
	return bytes.ReplaceAll(data[2:], []byte{0}, nil)
}
