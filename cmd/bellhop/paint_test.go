package main

import "testing"

func TestVisible(t *testing.T) {
	for s, want := range map[string]string{
		"a/b.yaml:1:2: grüße 漢\n\tx \ufffd": "a/b.yaml:1:2: grüße 漢\n\tx \ufffd",
		"\x1b[2J\x07\r":                     `\x1b[2J\a\r`,
		"c1 \u009b bidi \u202e bom \ufeff":  `c1 \u009b bidi \u202e bom \ufeff`,
		"torn \xff\xc3":                     `torn \xff\xc3`,
		`it's \a`:                           `it's \a`,
	} {
		if got := visible(s); got != want {
			t.Errorf("visible(%q) = %q, want %q", s, got, want)
		}
	}
}
