// Package mask takes the values of keys out of text.
//
// A Filter knows values by the names of their keys. In what a program printed, or a host said, it
// puts ‹key NAME› in their place, however they are spelt, and drops what would move a cursor. Its
// promise: of a value of eight bytes and more no part that long passes in one text, and what knows
// many large values holds a few bytes for each of their spellings.
//
// The deployer asks it before it shows or stores what a host says, and a host before it stores what
// its units wrote.
package mask

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"bellhop/internal/plain"
)

// MaxText is how much text from a host a Filter lets through, unless its Max says otherwise.
const MaxText = 64 << 10

// The shortest pieces that are replaced. A whole value counts from minValue bytes on, so that a
// PIN is caught; parts of a value, and encoded forms, only from minPart bytes on, so that "true"
// in an env file does not turn a log into riddles.
const (
	minValue = 4
	minPart  = 8
)

// A Filter makes text from a host fit to be stored and shown: secret values become ‹key NAME›,
// control bytes are dropped, and there is no more of it than Max. A value is found raw, base64
// (standard and URL, at any alignment), hex, URL-escaped and JSON-escaped, as a whole and by line;
// of KEY=value lines the value counts too, also as Compose reads it, and of JSON every string.
// Values under four bytes cannot be told from other text, and stay.
//
// The zero Filter knows no values. Text may be called from many goroutines; Add may not run
// beside it.
//
// A key of a megabyte has more spellings than anybody wants to hold. So the Filter holds the
// pieces of each value, and where their spellings begin and end: eight bytes of each. A text that
// has none of those eight bytes in it holds no part of a spelling that counts; for one that has,
// the spellings of the pieces in question are made again.
type Filter struct {
	Max      int // bytes of output; 0 means MaxText
	pieces   []piece
	ends     []end             // by bytes, then piece
	short    map[string]string // spellings too short to have ends, and their tags
	prepared bool
}

// A piece is what is a secret by itself, with what takes its place.
type piece struct {
	text, tag string
	raw       bool // found as it is, and in no other spelling
}

// An end is the first or last eight bytes of a spelling of a piece.
type end struct {
	bytes uint64
	piece int
}

func (a end) compare(b end) int {
	return cmp.Or(cmp.Compare(a.bytes, b.bytes), cmp.Compare(a.piece, b.piece))
}

// Of returns what takes those values, by the names of their keys, out of a text. It holds copies, and
// may be called from many goroutines.
func Of(keys map[string][]byte) func(string) string {
	var f Filter
	for name, value := range keys {
		f.Add(name, value)
	}
	f.Prepare()
	return f.Text
}

// Add makes value known by the name of its key. The filter holds copies for as long as it lives.
func (f *Filter) Add(name string, value []byte) {
	tag := "‹key " + stripControl(name) + "›"
	whole := strings.TrimRight(string(value), "\r\n")
	if len(whole) >= minValue {
		f.pieces = append(f.pieces, piece{whole, tag, true})
	}
	for _, part := range parts(whole) {
		f.pieces = append(f.pieces, piece{part, tag, false})
	}
	f.prepared = false
}

// spellings are the ways in which p is found, each also as it is left when control bytes are
// dropped. Of what is longer than any text only the ends can be in one.
func (f *Filter) spellings(p piece) []string {
	head, tail, cut := cutTo(p.text, f.longest())
	all := spell(head, p.raw)
	if cut {
		all = append(all, spell(tail, p.raw)...)
	}
	return all
}

func spell(text string, raw bool) []string {
	all := []string{text}
	if !raw {
		all = encodings(text)
	}
	for _, s := range all {
		if t := stripControl(s); t != s && len(t) >= minValue {
			all = append(all, t)
		}
	}

	return all
}

// cutTo gives the ends of a text that is much longer than n; of another all of it. The tail begins
// where base64 begins a group, so that its spelling is the tail of the whole one's.
func cutTo(text string, n int) (head, tail string, cut bool) {
	if len(text) <= 2*n {
		return text, text, false
	}
	return text[:n], text[(len(text)-n)/3*3:], true
}

// limit is how much text passes, and longest how much of one is looked at.
func (f *Filter) limit() int {
	if f.Max <= 0 {
		return MaxText
	}
	return f.Max
}

func (f *Filter) longest() int { return 4*f.limit() + 1024 }

// Prepare builds the tables; Text does so when first called, which is not safe from many
// goroutines at once.
func (f *Filter) Prepare() {
	f.ends, f.short = nil, map[string]string{}
	for i, p := range f.pieces {
		head, tail, cut := cutTo(p.text, 32*minPart) // more would spell what only makes the middle
		heads := spell(head, p.raw)
		tails := heads
		if cut {
			tails = spell(tail, p.raw)
		}
		f.addEnds(i, heads, tails)
	}

	slices.SortFunc(f.ends, end.compare)
	f.prepared = true
}

// addEnds adds each end once: most spellings of a piece begin and end alike.
func (f *Filter) addEnds(piece int, heads, tails []string) {
	first := len(f.ends)
	add := func(s string) {
		if e := (end{window(s), piece}); !slices.Contains(f.ends[first:], e) {
			f.ends = append(f.ends, e)
		}
	}

	for _, s := range heads {
		if len(s) >= minPart {
			add(s)
		} else if _, ok := f.short[s]; !ok {
			f.short[s] = f.pieces[piece].tag
		}
	}

	for _, s := range tails {
		if len(s) >= minPart {
			add(s[len(s)-minPart:])
		}
	}
}

// window is the first eight bytes of s.
func window(s string) uint64 {
	var b [minPart]byte
	copy(b[:], s)
	return binary.LittleEndian.Uint64(b[:])
}

// A replacement takes the spellings that may be in one text out of it.
type replacement struct {
	forms map[string]string // and their tags
	order []string          // forms, longest first
	swap  *strings.Replacer
}

// replacementFor is the one for those texts; nil when they hold nothing.
func (f *Filter) replacementFor(texts ...string) *replacement {
	forms := map[string]string{}
	for s, tag := range f.short {
		if slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(text, s) }) {
			forms[s] = tag
		}
	}

	for _, i := range f.within(texts) {
		p := f.pieces[i]
		for _, s := range f.spellings(p) {
			if _, ok := forms[s]; !ok {
				forms[s] = p.tag
			}
		}
	}

	if len(forms) == 0 {
		return nil
	}
	return newReplacement(forms)
}

// within lists the pieces of which a spelling may begin or end in one of texts.
func (f *Filter) within(texts []string) []int {
	var found []int
	for _, text := range texts {
		for i := 0; i+minPart <= len(text) && len(f.ends) > 0; i++ {
			w := window(text[i:])
			n, _ := slices.BinarySearchFunc(f.ends, end{bytes: w}, end.compare)
			for ; n < len(f.ends) && f.ends[n].bytes == w; n++ {
				found = append(found, f.ends[n].piece)
			}
		}
	}

	slices.Sort(found)
	return slices.Compact(found)
}

func newReplacement(forms map[string]string) *replacement {
	r := &replacement{forms: forms, order: slices.Collect(maps.Keys(forms))}
	// Longest first: a whole value goes before a line of it. Then by text, so that equal input
	// gives equal output.
	slices.SortFunc(r.order, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})

	pairs := make([]string, 0, 2*len(r.order))
	for _, s := range r.order {
		pairs = append(pairs, s, r.forms[s])
	}
	r.swap = strings.NewReplacer(pairs...)
	return r
}

// Text gives the text without secrets and control bytes, capped. Values go first as they came,
// then once more after control bytes were dropped from between their letters.
func (f *Filter) Text(text string) string {
	limit := f.limit()
	if !f.prepared {
		f.Prepare()
	}
	// A longer text is cut before the work, with room for what replacing may shorten. What that
	// cut leaves of a value at the end is cut off again below.
	if long := f.longest(); len(text) > long {
		text = text[:long]
	}

	plain := stripControl(text)
	r := f.replacementFor(text, plain)
	if r == nil {
		return capped(plain, limit)
	}

	text = r.swap.Replace(stripControl(r.swap.Replace(text)))
	return capped(r.edges(text), limit)
}

// edges replaces what looks like the rest of a value at either end: hosts cap their output too,
// and a cut through a value would let half of it pass.
func (r *replacement) edges(text string) string {
	for _, s := range r.order {
		for n := min(len(s)-1, len(text)); n >= minPart; n-- {
			if strings.HasSuffix(text, s[:n]) {
				text = text[:len(text)-n] + r.forms[s]
				break
			}
		}
		for n := min(len(s)-1, len(text)); n >= minPart; n-- {
			if strings.HasPrefix(text, s[len(s)-n:]) {
				text = r.forms[s] + text[n:]
				break
			}
		}
	}
	return text
}

// capped cuts at a letter, never inside one, and says so.
func capped(s string, limit int) string {
	const more = "…"
	if len(s) <= limit {
		return s
	}
	n := max(limit-len(more), 0)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + more
}

// encodings spells s in the ways that programs print it.
func encodings(s string) []string {
	out := []string{s, s + "\n"}
	h := hex.EncodeToString([]byte(s))
	out = append(out, h, strings.ToUpper(h))
	for _, u := range []string{url.QueryEscape(s), url.PathEscape(s), encodeURIComponent(s)} {
		out = append(out, u, lowerEscapes(u))
	}
	for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		padded := e.WithPadding(base64.StdPadding)
		out = append(out, e.EncodeToString([]byte(s)), e.EncodeToString([]byte(s+"\n")))
		out = append(out, padded.EncodeToString([]byte(s)), padded.EncodeToString([]byte(s+"\n")))
		out = append(out, aligned(e, s)...)
	}

	out = append(out, jsonInner(s, true), jsonInner(s, false))
	return slices.DeleteFunc(out, func(e string) bool { return len(e) < minPart })
}

// encodeURIComponent is URL-escaping as JavaScript does it.
func encodeURIComponent(s string) string { return uriComponent.Replace(url.QueryEscape(s)) }

var uriComponent = strings.NewReplacer("+", "%20", "%21", "!", "%27", "'", "%28", "(", "%29", ")", "%2A", "*")

// lowerEscapes writes %2F as %2f.
func lowerEscapes(s string) string {
	b := []byte(s)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:i+3], strings.ToLower(s[i+1:i+3]))
			i += 2
		}
	}

	return string(b)
}

// aligned gives the letters of base64 that s alone decides when it stands one, two or three bytes
// into what was encoded: "user:" before a password must not hide it.
func aligned(e *base64.Encoding, s string) []string {
	var out []string
	for shift := range 3 {
		b := append(make([]byte, shift), s...)
		text := e.EncodeToString(b)
		first := (shift*8 + 5) / 6 // letters that the bytes before have a share in
		last := len(b) * 8 / 6     // letters that are whole
		if last-first >= minPart {
			out = append(out, text[first:last])
		}
	}

	return out
}

func jsonInner(s string, escapeHTML bool) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(escapeHTML)
	if e.Encode(s) != nil {
		return ""
	}
	t := strings.TrimSuffix(b.String(), "\n")
	return t[1 : len(t)-1]
}

// stripControl drops what plain.Text drops, and terminal sequences as a whole with it. It keeps the
// length: Text caps it, once the values are out.
func stripControl(s string) string {
	s = stripSequences(strings.ToValidUTF8(s, ""))
	return plain.Text(s, max(len(s), 1))
}

// stripSequences drops ESC [ … letter as a whole, so that colours leave no "[31m" behind.
func stripSequences(s string) string {
	if !strings.Contains(s, "\x1b[") {
		return s
	}
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(s, "\x1b[")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		n := strings.IndexFunc(after, func(r rune) bool { return r >= 0x40 && r <= 0x7e })
		if n < 0 || n > 32 {
			s = after
			continue
		}

		s = after[n+1:]
	}
}
