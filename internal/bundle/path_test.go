package bundle_test

import (
	"strings"
	"testing"

	"bellhop/internal/bundle"
)

// Deployer and host judge paths and targets of links by one rule.
func TestBadPathsAndTargets(t *testing.T) {
	long := "/" + strings.Repeat(strings.Repeat("x", 200)+"/", 20) + "y"
	for _, c := range []struct {
		text         string
		path, target bool // whether it is good
	}{
		{"/etc/x", true, true},
		{"/etc/größe", true, true},
		{"../conf/x", false, true},
		{"", false, false},
		{"/", false, true},
		{"/etc/../x", false, true},
		{"/etc/a\nb", false, false},
		{"/etc/a\x1b]0;owned\a", false, false},
		{"/etc/a\u009b31m", false, false},
		{"/etc/a\x7f", false, false},
		{"/etc/a\x00", false, false},
		{"/etc/\xff", false, false},
		{"/etc/" + strings.Repeat("x", 256), false, false},
		{long, false, false},
	} {
		if got := bundle.BadPath(c.text) == ""; got != c.path {
			t.Errorf("BadPath(%.40q) = %q", c.text, bundle.BadPath(c.text))
		}
		if got := bundle.BadTarget(c.text) == ""; got != c.target {
			t.Errorf("BadTarget(%.40q) = %q", c.text, bundle.BadTarget(c.text))
		}
	}
}
