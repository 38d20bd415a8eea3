package fleet

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Select lists the hosts that expr names, in the order of names: hosts, globs, @tag, ! to
// exclude, parted by commas. "" is all of them; so is an expr that only excludes, less those.
// A word that fits no host is an error: nothing should be left out by a slip of the finger.
func (f *Fleet) Select(expr string) ([]*Host, error) {
	if strings.TrimSpace(expr) == "" {
		return slices.Clone(f.Hosts), nil
	}
	words, err := selectorWords(expr)
	if err != nil {
		return nil, err
	}
	in := make([]bool, len(f.Hosts))
	if !slices.ContainsFunc(words, func(w word) bool { return !w.not }) {
		for i := range in {
			in[i] = true
		}
	}
	for _, not := range []bool{false, true} {
		for _, w := range words {
			if w.not != not {
				continue
			}
			if !f.mark(w, in) {
				return nil, fmt.Errorf("no host fits %q%s", w.text, f.selectHint(w))
			}
		}
	}
	var out []*Host
	for i, h := range f.Hosts {
		if in[i] {
			out = append(out, h)
		}
	}
	return out, nil
}

// A word is one part of a selector.
type word struct {
	text string // without !
	not  bool
}

func selectorWords(expr string) ([]word, error) {
	var words []word
	for _, part := range strings.Split(expr, ",") {
		w := word{text: strings.TrimSpace(part)}
		for strings.HasPrefix(w.text, "!") {
			w.not, w.text = !w.not, strings.TrimSpace(w.text[1:])
		}
		if w.text == "" || w.text == "@" {
			return nil, fmt.Errorf("hosts %q: an empty word; want names, globs or @tags, as in '@bots,!kos-mos'", expr)
		}
		if _, err := path.Match(w.text, ""); err != nil {
			return nil, fmt.Errorf("hosts %q: bad pattern %q", expr, w.text)
		}
		words = append(words, w)
	}
	return words, nil
}

// mark sets in for the hosts that w names; false when there are none.
func (f *Fleet) mark(w word, in []bool) bool {
	hit := false
	for i, h := range f.Hosts {
		if w.fits(h) {
			in[i], hit = !w.not, true
		}
	}
	return hit
}

func (w word) fits(h *Host) bool {
	if tag, ok := strings.CutPrefix(w.text, "@"); ok {
		return slices.ContainsFunc(h.Tags, func(t string) bool { ok, _ := path.Match(tag, t); return ok })
	}
	ok, _ := path.Match(w.text, h.Name)
	return ok
}

func (f *Fleet) selectHint(w word) string {
	if tag, ok := strings.CutPrefix(w.text, "@"); ok {
		tags := map[string]bool{}
		for _, h := range f.Hosts {
			for _, t := range h.Tags {
				tags[t] = true
			}
		}
		return didYouMean(tag, sortedKeys(tags))
	}
	return didYouMean(w.text, sortedKeys(f.config.byName))
}
