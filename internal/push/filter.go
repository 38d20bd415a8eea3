package push

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/plain"
)

// A Filter makes text of what one host says: values of keys are taken out, those of what is
// pushed and of what stands there. The values are opened when the first text comes that the
// deployer did not say itself. Where they can't be opened, texts are withheld.
//
// A value can be split over texts that follow each other, or over lines. So the end of what was
// said before is kept, and a text that goes on with a value is withheld as a whole.
//
// It is for one goroutine and one session, and is dropped after it.
type Filter struct {
	masking func(keys map[string][]byte) func(string) string // nil: no values are known
	open    []func() (map[string][]byte, error)
	known   map[string][]byte // what the first of open would return; nil: it must be called
	said    map[string]bool   // by the deployer, and repeated by the host
	more    func() []string   // see AlsoSaid

	ready   bool
	mask    func(string) string // nil: the values can't be opened
	hasKeys bool
	before  string // the end of what was said before, as one line
}

// What stands in place of a text that is withheld.
const (
	withheldKey  = "‹withheld: a key's value goes on here›"
	withheldText = "‹withheld: the keys of this host can't be opened, so a value of one may stand here›"
)

const (
	keepBefore = 1 << 10 // bytes of what was said before
	maxText    = 16 << 10
)

// words are what any host may say.
var words = []string{
	bundle.OutcomeDone, bundle.OutcomeNothing, bundle.OutcomeRefused, bundle.OutcomeRolledBack, bundle.OutcomeFailed, bundle.OutcomeUnconfirmed,
	bundle.RefusedBase, bundle.RefusedDeployer, bundle.RefusedNetwork, bundle.RefusedBusy, bundle.RefusedBundle, bundle.RefusedBefore, bundle.RefusedRegistry,
	"pushed", "sealed", "active", "inactive", // of keys
	// How units and containers do, as systemd and engines have it: nearly every run tells that, and should open no keys for it.
	"activating", "deactivating", "reloading", "masked", "missing",
	"running", "exited", "dead", "waiting", "elapsed", "listening", "mounted", "plugged", "start", "start-pre", "start-post", "stop", "auto-restart", "condition",
	"created", "restarting", "paused", "healthy", "unhealthy", "starting",
}

// isCount matches how far a step is. Fewer digits than a value has that can be found.
var isCount = regexp.MustCompile(`^\d{1,3} of \d{1,3}$`)

// NewFilter is the filter of a host. said are texts of the deployer that the host repeats; each
// of open opens values of keys that the host holds or is sent.
func (p *Pusher) NewFilter(said []string, open ...func() (map[string][]byte, error)) *Filter {
	f := &Filter{masking: p.Mask, open: open, said: make(map[string]bool, len(said))}
	for _, s := range said {
		f.said[s] = true
	}
	return f
}

// filterOf is the filter of the host of j.
func (p *Pusher) filterOf(j *Job) *Filter {
	open := []func() (map[string][]byte, error){KeysOf(j.Bundle)}
	if j.Former != nil {
		open = append(open, j.Former)
	}

	f := p.NewFilter(j.Said, open...)
	waiting := fmt.Sprintf("waiting up to %v", j.Confirm) // to be confirmed
	for _, s := range []string{j.Run, j.Bundle.Digest, p.Deployer, j.Network, j.Host, waiting} {
		f.said[s] = true
	}
	for _, k := range j.Bundle.Keys {
		f.said[k.Name] = true
	}
	return f
}

// KeysOf opens the keys of b, which may be nil.
func KeysOf(b *fleet.Bundle) func() (map[string][]byte, error) {
	return func() (map[string][]byte, error) {
		if b == nil {
			return nil, nil
		}
		return OpenKeys(b)
	}
}

// know gives the values of the first keys, which are open already; nil takes them back, before
// they are cleared.
func (f *Filter) know(values map[string][]byte) { f.known = values }

// Text is s as it can be stored and shown. It may have several lines.
func (f *Filter) Text(s string) string {
	isOurs := f.said[s] || slices.Contains(words, s)
	if s == "" || isOurs || isCount.MatchString(s) {
		return s
	}
	if f.masking == nil {
		return plain.Text(s, maxText)
	}
	if !f.ready {
		f.prepare()
	}
	if f.mask == nil {
		return f.withoutKeys(s)
	}

	shown := plain.Text(f.mask(s), maxText)
	if f.hasKeys && f.goesOn(s, shown) {
		return withheldKey
	}
	return shown
}

// AlsoSaid has f ask for more texts of the deployer, once, when it would withhold all.
func (f *Filter) AlsoSaid(more func() []string) { f.more = more }

// withoutKeys is s where the keys can't be opened that might stand in it.
func (f *Filter) withoutKeys(s string) string {
	if more := f.more; more != nil {
		f.more = nil
		for _, text := range more() {
			f.said[text] = true
		}
	}
	if f.said[s] {
		return s
	}
	return withheldText
}

// Word is an id that a host gave itself, "" where the filter would change it.
func (f *Filter) Word(said plain.Foreign) string {
	const most = 64
	if word := f.line(said, most); said.Is(word) {
		return word
	}
	return ""
}

func (f *Filter) line(said plain.Foreign, limit int) string {
	return plain.Line(said.Filtered(f.Text), limit)
}

// Reveal is the text of err, with what the host said in it.
func (f *Filter) Reveal(err error) string { return plain.Reveal(err, f.Text) }

// goesOn says whether a text, of which shown would be shown, goes on with a value that began
// before it, or holds one that is broken by lines or spaces. It remembers the end of the text.
func (f *Filter) goesOn(text, shown string) bool {
	pieces := strings.FieldsFunc(joinWords(tags.ReplaceAllString(shown, "\x00")), func(r rune) bool { return r == 0 })
	found := hides(f.mask(f.before+joinLines(text)), pieces) || hides(f.mask(f.before+joinWords(text)), pieces)

	f.before += joinLines(text)
	f.before = f.before[max(0, len(f.before)-keepBefore):]
	return found
}

// tags are what a mask puts in place of a value.
var tags = regexp.MustCompile("‹[^‹›]*›")

// hides says whether the mask of a joined text took out a piece that would be shown.
func hides(masked string, pieces []string) bool {
	masked = joinWords(plain.Text(masked, 2*maxText))
	for _, p := range pieces {
		_, rest, ok := strings.Cut(masked, p)
		if !ok {
			return true
		}
		masked = rest
	}
	return false
}

var (
	lineJoiner = strings.NewReplacer("\n", "", "\r", "")
	wordJoiner = strings.NewReplacer("\n", "", "\r", "", " ", "", "\t", "")
)

func joinLines(s string) string { return lineJoiner.Replace(s) }
func joinWords(s string) string { return wordJoiner.Replace(s) }

// prepare opens the values, and gives them to the masks, which keep copies.
func (f *Filter) prepare() {
	f.ready = true
	all := map[string][]byte{}
	var err error

	for i, open := range f.open {
		values := f.known
		if i > 0 || values == nil {
			var oerr error
			values, oerr = open()
			defer ClearKeys(values)
			err = errors.Join(err, oerr)
		}
		for name, v := range values {
			all[name+strings.Repeat(" ", i)] = v // a key may have a former value too
		}
	}

	f.hasKeys = len(all) > 0
	if err == nil {
		f.mask = f.masking(all)
	}
}

// Drop ends the filter: texts that come later are withheld.
func (f *Filter) Drop() { f.mask, f.ready, f.known = nil, true, nil }
