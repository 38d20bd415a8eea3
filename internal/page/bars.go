package page

import (
	"fmt"
	"html/template"
	"slices"
	"strings"

	"bellhop/internal/history"
)

// Bars are the newest runs beside a host: one column each, the newest on the right, so that columns of different hosts
// that are below each other are one run. A run that did nothing on a host leaves its column empty. Each kind of outcome
// is one path of an SVG, and has a form of its own: a whole bar is good, a broken one bad, a short one waits.
//
// A fleet of a thousand hosts has thirty thousand bars, so each is a few bytes.
type bars struct {
	Paths []barPath
	Words string // the same for those who can't see it
}

// A barPath draws all bars of one kind.
type barPath struct {
	Look string
	d    []byte
}

// barStep is the width of a column, in units of the drawing.
const barStep = 5

// barForms are what is drawn from the top of a column down, by the look of an outcome.
var barForms = map[string]string{"good": "1v17", "bad": "1v10m0 3v4", "wait": "10v8", "work": "10v8"}

// barsAt are the forms in each column.
var barsAt = func() (at [barRuns]map[string]string) {
	for i := range at {
		at[i] = map[string]string{}
		for kind, form := range barForms {
			at[i][kind] = fmt.Sprintf("M%d %s", i*barStep+2, form)
		}
	}
	return at
}()

// barsOf are those of all hosts in runs, which are the newest first.
func barsOf(runs []history.Run) map[string]bars {
	outcomes := map[string]*[barRuns]string{}
	for i, run := range runs {
		for _, h := range run.Hosts {
			if outcomes[h.Name] == nil {
				outcomes[h.Name] = new([barRuns]string)
			}
			outcomes[h.Name][barRuns-1-i] = outcomeWord(h.Outcome)
		}
	}

	all := make(map[string]bars, len(outcomes))
	for host, words := range outcomes {
		all[host] = draw(words[:])
	}
	return all
}

// draw makes the bars of outcomes, the oldest first; "" is an empty column.
func draw(outcomes []string) bars {
	var b bars
	for at, word := range outcomes {
		if word != "" {
			b.add(look(word), barsAt[at])
		}
	}

	var words []string
	for _, word := range outcomes {
		isTold := word == "" || slices.ContainsFunc(words, func(w string) bool { return strings.HasSuffix(w, " "+word) })
		if !isTold {
			words = append(words, fmt.Sprintf("%d %s", countOf(outcomes, word), word))
		}
	}
	b.Words = strings.Join(words, ", ")
	return b
}

// SVG is the drawing. It is not left to the template, whose calls would cost more than all else of a row; what is in it comes
// from the tables above, and words that history has pass the same escaper.
func (b bars) SVG() template.HTML {
	if len(b.Paths) == 0 {
		return "–"
	}
	var out strings.Builder
	out.Grow(200 + 20*barRuns)
	out.WriteString(`<svg class="bars" viewBox="0 0 150 19" role="img" aria-label="` + template.HTMLEscapeString(b.Words) + `">`)
	for _, p := range b.Paths {
		out.WriteString(`<path class="` + p.Look + `" d="`)
		out.Write(p.d)
		out.WriteString(`"/>`)
	}
	out.WriteString("</svg>")
	return template.HTML(out.String())
}

// add draws one more bar of a kind.
func (b *bars) add(kind string, forms map[string]string) {
	i := slices.IndexFunc(b.Paths, func(p barPath) bool { return p.Look == kind })
	if i < 0 {
		i = len(b.Paths)
		b.Paths = append(b.Paths, barPath{Look: kind, d: make([]byte, 0, barRuns*len("M100 1v10m0 3v4"))})
	}
	b.Paths[i].d = append(b.Paths[i].d, forms[kind]...)
}

func countOf(all []string, word string) (n int) {
	for _, one := range all {
		if one == word {
			n++
		}
	}
	return n
}
