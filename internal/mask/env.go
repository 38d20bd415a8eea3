package mask

import (
	"strconv"
	"strings"
	"unicode"
)

// An envReader reads an env file as Compose does, so that what a container gets is known, and not only
// what stands in the file. It goes on where Compose would refuse the file: of a key that is no env file
// it takes some pieces too many, which does no harm.
type envReader struct {
	add  func(string)
	vars map[string]string
	left int // bytes that may still be filled in for variables
}

const (
	maxFilled = 64 << 10 // bytes, beside as many as the file has, that are filled in for variables
	maxNested = 8        // defaults within defaults
)

// envParts adds what a container gets of the lines of an env file, and pieces of lines as a program may
// read them that takes each for itself.
func envParts(text string, add func(string)) {
	r := &envReader{add: add, vars: map[string]string{}, left: len(text) + maxFilled}
	for rest := text; rest != ""; {
		rest = r.statement(rest)
	}

	for line := range strings.SplitSeq(text, "\n") {
		bare, _, hasNote := strings.Cut(line, " #")
		if hasNote {
			add(bare)
		}
		for _, sep := range []string{"=", ":"} {
			if _, v, ok := strings.Cut(line, sep); ok {
				r.value(v)
			}
		}
	}
}

// statement reads what text begins with, an assignment or a line that is none, and gives the rest.
func (r *envReader) statement(text string) (rest string) {
	text = strings.TrimLeftFunc(text, unicode.IsSpace)
	line, after, _ := strings.Cut(text, "\n")
	n := strings.IndexAny(line, "=:")
	if n < 0 || line[0] == '#' {
		return after
	}

	name := strings.TrimSpace(line[:n])
	if short, ok := strings.CutPrefix(name, "export"); ok && strings.TrimSpace(short) != short {
		name = strings.TrimSpace(short)
	}
	value, rest := r.value(text[n+1:])
	r.vars[name] = value
	return rest
}

// value reads the value that text begins with, adds it, and gives what follows it.
func (r *envReader) value(text string) (value, rest string) {
	text = strings.TrimLeft(text, " \t\v\f\r")
	value, rest, isQuoted := quoted(text)
	switch {
	case !isQuoted:
		value, rest, _ = strings.Cut(text, "\n")
		value, _, _ = strings.Cut(value, " #")
		value = r.expand(strings.TrimRightFunc(value, unicode.IsSpace), 0)
	case text[0] == '"':
		value = r.expand(unescape(value), 0)
	}

	r.add(value)
	if strings.Contains(value, "\n") {
		for line := range strings.SplitSeq(value, "\n") {
			r.add(line)
		}
	}
	return value, rest
}

// quoted is what stands between the quotes that text begins with, over several lines where need be.
func quoted(text string) (value, rest string, ok bool) {
	if text == "" || text[0] != '"' && text[0] != '\'' {
		return "", text, false
	}

	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == text[0]:
			return b.String(), text[i+1:], true
		case c == '\\' && i+1 < len(text):
			i++
			if text[i] != text[0] {
				b.WriteByte('\\')
			}

			b.WriteByte(text[i])
		default:
			b.WriteByte(c)
		}
	}

	return "", text, false
}

// unescape reads the escapes of a value in double quotes. A dollar that is escaped becomes two, of which
// expand leaves one.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}

	var b strings.Builder
	for s != "" {
		before, after, ok := strings.Cut(s, `\`)
		b.WriteString(before)
		if !ok {
			break
		}

		text, n := escape(after)
		b.WriteString(text)
		s = after[n:]
	}

	return b.String()
}

// escape is what a backslash and the first n bytes of after mean.
func escape(after string) (text string, n int) {
	switch {
	case after == "":
		return `\`, 0
	case after[0] == '$':
		return "$$", 1
	case strings.IndexByte(`abfnrtv"\`, after[0]) >= 0:
		c, _, _, _ := strconv.UnquoteChar(`\`+after[:1], '"')
		return string(c), 1
	case after[0] == '0':
		if len(after) >= 4 {
			if c, err := strconv.ParseUint(after[1:4], 8, 8); err == nil {
				return string(rune(c)), 4
			}
		}
		return `\`, 1 // Compose drops the zero of what is no octal number
	}
	return `\`, 0
}

// expand fills in variables of the same file, as far as there is room. Of a value that has others in it
// each piece between variables is added by itself, and so is what stands for one that is not set: what
// the container gets depends on where it runs.
func (r *envReader) expand(s string, depth int) string {
	if !strings.Contains(s, "$") {
		return s
	}

	var b strings.Builder
	begin, hasVariables := 0, false // of the piece since the last variable
	for s != "" {
		before, after, ok := strings.Cut(s, "$")
		b.WriteString(before)
		if !ok {
			break
		}

		name, operator, word, n := reference(after)
		if n == 0 {
			b.WriteByte('$')
			s = strings.TrimPrefix(after, "$") // two stand for one
			continue
		}

		hasVariables = true
		r.addPiece(b.String()[begin:])
		b.WriteString(r.fill(name, operator, word, depth))
		begin, s = b.Len(), after[n:]
	}

	if hasVariables {
		r.addPiece(b.String()[begin:])
	}

	return b.String()
}

// addPiece adds the text between two variables, unless it only says which protocol an address is of.
func (r *envReader) addPiece(s string) {
	if !strings.HasSuffix(s, "://") {
		r.add(s)
	}
}

// fill is what takes the place of a variable.
func (r *envReader) fill(name, operator, word string, depth int) string {
	if operator != "" && depth < maxNested {
		word = r.expand(word, depth+1)
		r.add(word)
	}

	value, isSet := r.vars[name]
	if strings.HasPrefix(operator, ":") {
		isSet = value != ""
	}

	switch {
	case strings.HasSuffix(operator, "-") && !isSet, strings.HasSuffix(operator, "+") && isSet:
		value = word
	case strings.HasSuffix(operator, "+"):
		value = ""
	}

	if len(value) > r.left {
		return ""
	}

	r.left -= len(value)
	return value
}

// reference reads the variable that s, which follows a dollar, begins with: NAME, {NAME} or {NAME:-word}
// with one of the operators -, +, ?, :-, :+ and :?. n is its length; 0 where there is none.
func reference(s string) (name, operator, word string, n int) {
	if !strings.HasPrefix(s, "{") {
		n = nameLength(s)
		return s[:n], "", "", n
	}
	inner, ok := braced(s)
	length := nameLength(inner)
	if !ok || length == 0 {
		return "", "", "", 0
	}

	name, word = inner[:length], inner[length:]
	operator = strings.TrimRight(word[:min(2, len(word))], " ")
	if !strings.HasPrefix(operator, ":") {
		operator = operator[:min(1, len(operator))]
	}
	return name, operator, word[len(operator):], len(inner) + 2
}

func nameLength(s string) int {
	for i := range len(s) {
		c := s[i]
		isSmall, isCapital := 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z'
		isLetter := isSmall || isCapital || c == '_'
		isDigit := '0' <= c && c <= '9'
		if !isLetter && (i == 0 || !isDigit) {
			return i
		}
	}
	return len(s)
}

// braced is what stands between the brace that s begins with and its own end.
func braced(s string) (inner string, ok bool) {
	const longest = 1 << 10 // beyond it a text is no variable, or many braces would take long
	depth := 0
	for i := range min(len(s), longest) {
		switch s[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return s[1:i], true
			}
		}
	}
	return "", false
}
