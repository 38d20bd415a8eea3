package template

import (
	"fmt"
	"strings"
)

// The parser of text/template calls itself for each {{if}} within another and for each parenthesis: a
// file of them alone would overflow the stack, which ends the process. They are counted before it
// sees any.

const (
	maxTemplate = 1 << 20 // bytes
	maxNested   = 100     // blocks in each other, each else-if of a chain counted
	maxParens   = 64
)

// scanTemplate says why text is nested too deep to be parsed; nil when it is not.
func scanTemplate(src, text string) error {
	if len(text) > maxTemplate {
		return fmt.Errorf("template: %s:1: larger than %d MiB", src, maxTemplate>>20)
	}

	s := templateScan{line: 1}
	for {
		before, rest, ok := strings.Cut(text, "{{")
		s.line += strings.Count(before, "\n")
		if !ok {
			return nil
		}
		n := s.action(rest)
		if s.nested > maxNested {
			return fmt.Errorf("template: %s:%d: more than %d blocks in each other", src, s.line, maxNested)
		}
		if s.parens > maxParens {
			return fmt.Errorf("template: %s:%d: more than %d parentheses in each other", src, s.line, maxParens)
		}
		s.line += strings.Count(rest[:n], "\n")
		text = rest[n:]
	}
}

// A templateScan follows how deep the actions are nested.
type templateScan struct {
	line   int
	open   []int // for each open block, 1 and its else-ifs
	nested int   // sum of open
	parens int   // most that were open in the last action
}

// action looks at one action, and returns where it ends in text, which begins behind its {{.
func (s *templateScan) action(text string) int {
	i, open := 0, 0
	s.parens = 0
	body := strings.TrimLeft(strings.TrimPrefix(text, "- "), " \t\r\n")
	if strings.HasPrefix(body, "/*") {
		end := strings.Index(text, "*/")
		if end < 0 {
			return len(text)
		}
		return end + 2
	}

	s.block(body)

	for i < len(text) {
		switch c := text[i]; c {
		case '"', '\'', '`':
			i += quoted(text[i:])
			continue
		case '(':
			open++
			s.parens = max(s.parens, open)
		case ')':
			open--
		case '}':
			if strings.HasPrefix(text[i:], "}}") {
				return i + 2
			}
		}
		i++
	}

	return i
}

// quoted is the length of the quoted text that s begins with.
func quoted(s string) int {
	q := s[0]
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && q != '`':
			i++
		case s[i] == q, s[i] == '\n' && q != '`': // the lexer ends there, with an error
			return i + 1
		}
	}

	return len(s)
}

// block follows the words that begin, go on and end a block.
func (s *templateScan) block(body string) {
	word, rest := firstWord(body)
	switch word {
	case "if", "with", "range", "block", "define":
		s.open = append(s.open, 1)
		s.nested++
	case "else":
		next, _ := firstWord(rest)
		if len(s.open) > 0 && (next == "if" || next == "with") {
			s.open[len(s.open)-1]++
			s.nested++
		}

	case "end":
		if n := len(s.open) - 1; n >= 0 {
			s.nested -= s.open[n]
			s.open = s.open[:n]
		}
	}
}

func firstWord(s string) (word, rest string) {
	s = strings.TrimLeft(s, " \t\r\n")
	end := strings.IndexFunc(s, func(r rune) bool { return r < 'a' || r > 'z' })
	if end < 0 {
		end = len(s)
	}
	return s[:end], s[end:]
}
