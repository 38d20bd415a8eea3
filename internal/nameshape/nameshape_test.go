package nameshape_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"bellhop/internal/nameshape"
)

// A shape takes what the regular expression that says the same takes, for each byte in each place and for
// each length.
func TestShape(t *testing.T) {
	for _, c := range []struct {
		first, rest string
		most        int
	}{
		{"a-z", "a-z0-9-", 40},
		{"A-Za-z_", "A-Za-z0-9_-", 31},
		{"A-Za-z0-9", "A-Za-z0-9._:/@-", 12},
		{"A-Za-z0-9:_.@", "A-Za-z0-9:_.@-", 255},
		{"0-9a-df-np-sv-z", "0-9a-df-np-sv-z", 1},
	} {
		is := regexp.MustCompile(fmt.Sprintf(`^[%s][%s]{0,%d}$`, c.first, c.rest, c.most-1))
		shape := nameshape.New(c.first, c.rest, c.most)
		names := []string{"", "\n", "a\n", "ä", "a\x00"}
		for b := range 256 {
			names = append(names, string([]byte{byte(b)}), string([]byte{'a', byte(b)}), string([]byte{'a', byte(b), '1'}))
		}
		for _, n := range []int{c.most - 1, c.most, c.most + 1} {
			names = append(names, strings.Repeat("a", n))
		}

		for _, n := range names {
			if got := shape.MatchString(n); got != is.MatchString(n) {
				t.Errorf("%v: %q is %v", is, n, got)
			}
		}
	}
}

func TestBackslash(t *testing.T) {
	shape := nameshape.Of(`a-z\@-`, 10)
	for name, want := range map[string]bool{`a\x2d`: false, `a\b@-`: true, `-`: true, `A`: false, `[`: false} {
		if shape.MatchString(name) != want {
			t.Errorf("%q is %v", name, !want)
		}
	}
	if new(nameshape.Shape).MatchString("a") {
		t.Error("the zero shape takes a name")
	}
}
