package secrets

import (
	"bytes"
	"regexp"
)

// What private keys look like. Each pattern wants some of the key's body, so that a page that
// only talks about keys passes. Line breaks may be written as \n, as JSON does.
var privateKeys = []struct {
	hint []byte // what must be there before the pattern is tried
	name string
	re   *regexp.Regexp
}{
	{[]byte("AGE-SECRET-KEY-"), "age", regexp.MustCompile(`AGE-SECRET-KEY-(?:PQ-)?1[AC-HJ-NP-Z02-9]{40}`)},
	{[]byte("AGE-PLUGIN-"), "age plugin", regexp.MustCompile(`AGE-PLUGIN-[A-Z0-9+._-]+-1[AC-HJ-NP-Z02-9]{8}`)},
	{[]byte("PRIVATE KEY"), "PEM", regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?:\\[nr]|[\s"'+>|\\])*(?:[A-Za-z0-9+/]{16}|Proc-Type:|Version:|Comment:|DEK-Info:)`)},
	{[]byte("PuTTY-User-Key-File-"), "PuTTY", regexp.MustCompile(`Private-Lines: [0-9]`)},
}

// findPrivateKey gives the kind of the first private key in data and its line.
func findPrivateKey(data []byte) (kind string, line int) {
	if wide := fromUTF16(data); wide != nil {
		data = wide
	}
	for _, k := range privateKeys {
		// Most files have none of the hints, and searching for those is fast. From the first one on
		// the pattern looks at the rest once, so a file full of hints costs no more than its length.
		i := bytes.Index(data, k.hint)
		if i < 0 {
			continue
		}
		from := max(i-64, 0) // a pattern begins before its hint, or after it
		if loc := k.re.FindIndex(data[from:]); loc != nil {
			return k.name, 1 + bytes.Count(data[:from+loc[0]], []byte("\n"))
		}
	}
	return "", 0
}

// fromUTF16 drops the zero bytes of text that was saved as UTF-16; nil if data is no such text.
func fromUTF16(data []byte) []byte {
	if !bytes.HasPrefix(data, []byte("\xff\xfe")) && !bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return nil
	}
	return bytes.ReplaceAll(data[2:], []byte{0}, nil)
}
