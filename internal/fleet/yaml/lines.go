package yaml

import "bytes"

// plainLines is a YAML file as the parser reads it best, with every line at its number: line ends of
// Windows are plain ones, and the directives before a document (%YAML 1.2) are blank, since they say
// nothing that is not so anyway.
func plainLines(data []byte) []byte {
	if bytes.Contains(data, []byte("\r\n")) {
		data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	}

	end := directivesEnd(data)
	if end == 0 {
		return data
	}
	blank := bytes.Repeat([]byte("\n"), bytes.Count(data[:end], []byte("\n")))
	return append(blank, data[end:]...)
}

// directivesEnd is where the --- after the directives at the top begins; 0 when there are none, or no
// document follows.
func directivesEnd(data []byte) int {
	at, seen := 0, false
	for line := range bytes.Lines(data) {
		switch text := bytes.TrimSpace(line); {
		case bytes.HasPrefix(line, []byte("%")):
			seen = true
		case len(text) == 0, text[0] == '#':
		case seen && (bytes.Equal(text, []byte("---")) || bytes.HasPrefix(line, []byte("--- "))):
			return at
		default:
			return 0
		}
		at += len(line)
	}

	return 0
}
