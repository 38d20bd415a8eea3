// Package nameshape says which names are taken: by the bytes that they may have, and by their length.
//
// It stands where a regular expression such as ^[a-z][a-z0-9]{0,254}$ would do, in what runs on a host for
// the length of one push: to compile a dozen of those takes longer than the rest of such a program's start.
package nameshape

// A Shape is what a name may look like. The zero Shape takes none.
type Shape struct {
	first, rest [256]bool
	most        int
}

// New makes the shape of names of 1 to most bytes. The first byte is one of first and all others are of rest,
// which are written as within the brackets of a regular expression: single bytes, ranges such as a-z, and
// a dash at the end for itself.
func New(first, rest string, most int) *Shape {
	return &Shape{first: set(first), rest: set(rest), most: most}
}

// Of is New for names whose first byte is like the others.
func Of(bytes string, most int) *Shape { return New(bytes, bytes, most) }

// MatchString says whether s is such a name.
func (n *Shape) MatchString(s string) bool {
	if len(s) == 0 || len(s) > n.most || !n.first[s[0]] {
		return false
	}

	for i := 1; i < len(s); i++ {
		if !n.rest[s[i]] {
			return false
		}
	}
	return true
}

// set reads bytes and ranges.
func set(s string) (in [256]bool) {
	for len(s) > 0 {
		if len(s) < 3 || s[1] != '-' {
			in[s[0]] = true
			s = s[1:]
			continue
		}

		for c := int(s[0]); c <= int(s[2]); c++ {
			in[c] = true
		}
		s = s[3:]
	}
	return in
}
