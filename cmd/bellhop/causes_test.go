package main

import (
	"strings"
	"testing"
)

func TestCausesAreFolded(t *testing.T) {
	for _, c := range []struct {
		name, known string
		errs        []hostError
		want        string
	}{
		{name: "one cause on three hosts", errs: []hostError{{"a", "login refused"}, {"b", "login refused"}, {"c", "login refused"}},
			want: "a, b, c: login refused\n"},
		{name: "the name before the text is not told again", errs: []hostError{{"kos-mos", "kos-mos: kos-mos: secrets/db.age does not open"}},
			want: "kos-mos: secrets/db.age does not open\n"},
		{name: "texts that name their host", errs: []hostError{{"a", "it failed\nwhat it said: bellhop logs a web.service"}, {"b", "it failed\nwhat it said: bellhop logs b web.service"}},
			want: "a, b: it failed\n  what it said: bellhop logs HOST web.service\n"},
		{name: "two causes", errs: []hostError{{"a", "x"}, {"b", "y"}, {"c", "x"}}, want: "a, c: x\nb: y\n"},
		{name: "a name within another word is no name", errs: []hostError{{"a", "a-b is bad"}, {"b", "a-a is bad"}}, want: "a: a-b is bad\nb: a-a is bad\n"},
		{name: "what the whole run ended by", known: "bellhop.yaml:3: no such group", errs: []hostError{{"a", "bellhop.yaml:3: no such group"}}, want: ""},
	} {
		var out strings.Builder
		printCauses(&out, paint(false), "", foldCauses(c.errs, c.known))
		if out.String() != c.want {
			t.Errorf("%s:\n got %q\nwant %q", c.name, out.String(), c.want)
		}
	}
}

func TestManyHostsOfOneCauseAreCounted(t *testing.T) {
	var errs []hostError
	for range 20 {
		errs = append(errs, hostError{"h", "x"})
	}
	var out strings.Builder
	printCauses(&out, paint(false), "", foldCauses(errs, ""))
	if !strings.Contains(out.String(), "and 12 more: x") {
		t.Errorf("20 hosts of one cause: %q", out.String())
	}
}
