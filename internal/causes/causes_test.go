package causes_test

import (
	"strings"
	"testing"

	"bellhop/internal/causes"
)

func TestCausesAreFolded(t *testing.T) {
	for _, c := range []struct {
		name, known string
		errs        []causes.Error
		want        string
	}{
		{name: "one cause on three hosts", errs: []causes.Error{{Host: "a", Text: "login refused"}, {Host: "b", Text: "login refused"}, {Host: "c", Text: "login refused"}},
			want: "a, b, c: login refused\n"},
		{name: "the name before the text is not told again", errs: []causes.Error{{Host: "kos-mos", Text: "kos-mos: kos-mos: secrets/db.age does not open"}},
			want: "kos-mos: secrets/db.age does not open\n"},
		{name: "texts that name their host", errs: []causes.Error{{Host: "a", Text: "it failed\nwhat it said: bellhop logs a web.service"}, {Host: "b", Text: "it failed\nwhat it said: bellhop logs b web.service"}},
			want: "a, b: it failed\nwhat it said: bellhop logs HOST web.service\n"},
		{name: "two causes", errs: []causes.Error{{Host: "a", Text: "x"}, {Host: "b", Text: "y"}, {Host: "c", Text: "x"}}, want: "a, c: x\nb: y\n"},
		{name: "a name within another word is no name", errs: []causes.Error{{Host: "a", Text: "a-b is bad"}, {Host: "b", Text: "a-a is bad"}}, want: "a: a-b is bad\nb: a-a is bad\n"},
		{name: "what the whole run ended by", known: "bellhop.yaml:3: no such group", errs: []causes.Error{{Host: "a", Text: "bellhop.yaml:3: no such group"}}, want: ""},
	} {
		out := ""
		for _, f := range causes.Fold(c.errs, c.known) {
			out += strings.Join(f.Hosts, ", ") + ": " + f.Text + "\n"
		}
		if out != c.want {
			t.Errorf("%s:\n got %q\nwant %q", c.name, out, c.want)
		}
	}
}
