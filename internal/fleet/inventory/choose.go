package inventory

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"bellhop/internal/fleet/problem"
)

// A Named is what a selector knows of a host.
type Named struct {
	Name string
	Tags []string
}

// Choose returns the places in all of the hosts that expr names: names, globs, @tag, and ! to
// exclude, separated by commas. "" names all of them; an expr that only excludes names all but
// those. A word that fits no host is an error, so that a typing mistake leaves nobody out; so is
// an expr that leaves no host.
func Choose(all []Named, expr string) ([]int, error) {
	var words []word
	if strings.TrimSpace(expr) != "" {
		var err error
		if words, err = selectorWords(expr); err != nil {
			return nil, err
		}
	}

	in := make([]bool, len(all))
	if !slices.ContainsFunc(words, func(w word) bool { return !w.not }) {
		for i := range in {
			in[i] = true
		}
	}

	for _, not := range []bool{false, true} { // exclusions last, wherever they are written
		for _, w := range words {
			if w.not == not && !w.mark(all, in) {
				return nil, fmt.Errorf("no host fits %q%s", w.text, w.similar(all))
			}
		}
	}

	var chosen []int
	for i, isIn := range in {
		if isIn {
			chosen = append(chosen, i)
		}
	}

	if len(chosen) == 0 && len(words) > 0 {
		return nil, fmt.Errorf("hosts %q: no host is left", expr)
	}

	return chosen, nil
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
func (w word) mark(all []Named, in []bool) bool {
	hit := false
	for i, h := range all {
		if w.fits(h) {
			in[i], hit = !w.not, true
		}
	}

	return hit
}

func (w word) fits(h Named) bool {
	if tag, ok := strings.CutPrefix(w.text, "@"); ok {
		return slices.ContainsFunc(h.Tags, func(t string) bool { ok, _ := path.Match(tag, t); return ok })
	}
	ok, _ := path.Match(w.text, h.Name)
	return ok
}

// similar suggests the host or the tag that w may have meant: a tag without its @ too.
func (w word) similar(all []Named) string {
	hosts, tags := map[string]bool{}, map[string]bool{}
	for _, h := range all {
		hosts[h.Name] = true
		for _, t := range h.Tags {
			tags["@"+t] = true
		}
	}

	tag, isTag := strings.CutPrefix(w.text, "@")
	switch {
	case isTag && hosts[tag]:
		return fmt.Sprintf("; did you mean %q?", tag)
	case isTag:
		return problem.DidYouMean(w.text, slices.Sorted(maps.Keys(tags)))
	case tags["@"+w.text]:
		return fmt.Sprintf("; did you mean %q?", "@"+w.text)
	}

	return problem.DidYouMean(w.text, slices.Sorted(maps.Keys(hosts)))
}
