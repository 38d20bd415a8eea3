package wire

import (
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"bellhop/internal/bundle"
	"bellhop/internal/nameshape"
)

// unitWord is what systemd and engines call a state of a unit.
var unitWord = nameshape.Of(`a-z-`, 40)

// maxFailed is how many failed units are kept of one host.
const maxFailed = 256

// maxUnits is how many states of units are kept of one host.
const maxUnits = 4096

// MaxSeen is how much text a filtered Seen keeps, bytes, beside Contents.
const MaxSeen = 256 << 10

// FilterSeen is what a look saw, as it can be stored and shown: each text as filter makes it, at most
// MaxSeen bytes in all. Drift that has no room is counted in DriftMore. Bytes of a file come whole, or not
// at all where filter would change them.
func FilterSeen(in *bundle.HostSeen, filter func(string) string) *bundle.Seen {
	out := new(bundle.Seen)
	c := copier{filter: filter, left: MaxSeen}
	c.copy(reflect.ValueOf(out).Elem(), reflect.ValueOf(in).Elem())
	out.DriftMore += len(in.Drift) - len(out.Drift)
	out.FailedUnits = slices.DeleteFunc(out.FailedUnits, func(u bundle.FailedUnit) bool { return !bundle.IsUnitName(u.Name) }) // they are shown within commands for people to type
	out.FailedUnits = out.FailedUnits[:min(len(out.FailedUnits), maxFailed)]
	out.Units = unitsSeen(out.Units)
	return out
}

// unitsSeen are those of all that can be states of units.
func unitsSeen(all []bundle.UnitSeen) []bundle.UnitSeen {
	all = slices.DeleteFunc(all, func(u bundle.UnitSeen) bool {
		hasSub := u.Sub == "" || unitWord.MatchString(u.Sub)
		return !hasSub || !bundle.IsUnitName(u.Name) || !unitWord.MatchString(u.Active)
	})
	return all[:min(len(all), maxUnits)]
}

// PassesFilter says whether a filter of texts takes nothing out of p but what nobody sees. A filter cuts
// what is long, so it is asked about pieces that overlap: what it looks for lies whole in one of them, or
// goes on from one to the next.
func PassesFilter(p []byte, filter func(string) string) bool {
	const most, step = 8 << 10, 4 << 10
	for at := 0; at < len(p); at += step {
		end := min(at+most, len(p))
		s := string(p[at:end])
		if visible(filter(s)) != visible(s) {
			return false
		}
		if end == len(p) {
			break
		}
	}

	return true
}

// visible is s without blanks and what a filter drops of a text that is no key's: control characters and
// bytes that are no characters.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) || unicode.IsSpace(r) || r == utf8.RuneError {
			return -1
		}
		return r
	}, s)
}

// content copies one file of a look.
func (c *copier) content(dst, src reflect.Value) {
	c.copy(dst.FieldByName("Why"), src.FieldByName("Why"))
	if p := src.FieldByName("Bytes").Bytes(); PassesFilter(p, c.filter) {
		dst.FieldByName("Bytes").SetBytes(p)
	} else {
		dst.FieldByName("Why").SetString(bundle.WhyKey)
	}
}
