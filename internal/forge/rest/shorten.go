package rest

import "io"

// maxString is how much of one string of an answer is kept, in bytes as JSON has them. What bellhop reads of answers is short: names,
// ids, the beginning of a comment; the longest is the private key of an App. What strangers write is not: a page of fifty
// requests, whose texts anybody can fill, would be longer than maxAnswer.
const maxString = 4 << 10

// shortened passes JSON on with its long strings cut, and keeps nothing of it.
type shortened struct {
	of   io.ReadCloser
	left int64 // bytes that are read at most, before strings are cut

	in     bool // a string
	kept   int  // bytes of that string
	escape int  // bytes that still belong to an escape; -1: the byte behind the backslash says how many
	isCut  bool // the escape is left out
}

// maxLongAnswer is how long an answer may be before its strings are cut.
const maxLongAnswer = 256 << 20

func shorten(of io.ReadCloser) *shortened { return &shortened{of: of, left: maxLongAnswer} }

// Read returns what is left of the next bytes of the answer: it may be nothing.
func (s *shortened) Read(p []byte) (int, error) {
	if s.left <= 0 {
		return 0, errLongAnswer
	}
	n, err := s.of.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)

	kept := 0
	for _, b := range p[:n] {
		if s.keeps(b) {
			p[kept] = b
			kept++
		}
	}
	return kept, err
}

// keeps follows the text by one byte. A string is cut between escapes, so that what is left of it can be read.
func (s *shortened) keeps(b byte) bool {
	isEnd := b == '"' && s.escape == 0
	switch {
	case isEnd:
		s.in, s.kept = !s.in, 0
		return true
	case !s.in:
		return true
	case s.escape == -1 && b == 'u': // \u00e9
		s.escape = 4
	case s.escape == -1:
		s.escape = 0
	case s.escape > 0:
		s.escape--
	case b == '\\':
		s.escape, s.isCut = -1, s.kept >= maxString
	default:
		s.isCut = s.kept >= maxString
	}
	if !s.isCut {
		s.kept++
	}
	return !s.isCut
}

// Close closes the answer.
func (s *shortened) Close() error { return s.of.Close() }
