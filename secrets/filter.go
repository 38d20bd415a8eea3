package secrets

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
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
// of KEY=value lines the value counts too, and of JSON every string. Values under four bytes
// cannot be told from other text, and stay.
//
// The zero Filter knows no values. Text may be called from many goroutines; Add may not run
// beside it.
type Filter struct {
	Max   int // bytes of output; 0 means MaxText
	forms map[string]string
	order []string // forms, longest first
	swap  *strings.Replacer
}

// Add makes value known by the name of its key. The filter holds copies for as long as it lives.
func (f *Filter) Add(name string, value []byte) {
	if f.forms == nil {
		f.forms = map[string]string{}
	}
	tag := "‹key " + stripControl(name) + "›"
	whole := strings.TrimRight(string(value), "\r\n")
	if len(whole) >= minValue {
		f.form(whole, tag)
	}
	for _, part := range parts(whole) {
		for _, form := range encodings(part) {
			f.form(form, tag)
		}
	}
	f.swap = nil
}

// form remembers one spelling, and the one that is left of it when control bytes are dropped.
func (f *Filter) form(s, tag string) {
	for _, s := range []string{s, stripControl(s)} {
		if _, ok := f.forms[s]; !ok && len(s) >= minValue {
			f.forms[s] = tag
		}
	}
}

// Prepare builds the tables; Text does so when first called, which is not safe from many
// goroutines at once.
func (f *Filter) Prepare() {
	f.order = make([]string, 0, len(f.forms))
	for s := range f.forms {
		f.order = append(f.order, s)
	}
	// Longest first: a whole value goes before a line of it. Then by text, so that equal input
	// gives equal output.
	slices.SortFunc(f.order, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	pairs := make([]string, 0, 2*len(f.order))
	for _, s := range f.order {
		pairs = append(pairs, s, f.forms[s])
	}
	f.swap = strings.NewReplacer(pairs...)
}

// Text gives the text without secrets and control bytes, capped. Values go first as they came,
// then once more after control bytes were dropped from between their letters.
func (f *Filter) Text(text string) string {
	limit := f.Max
	if limit <= 0 {
		limit = MaxText
	}
	if f.swap == nil {
		f.Prepare()
	}
	// A longer text is cut before the work, with room for what replacing may shorten. What that
	// cut leaves of a value at the end is cut off again below.
	if long := 4*limit + 1024; len(text) > long {
		text = text[:long]
	}
	text = f.swap.Replace(stripControl(f.swap.Replace(text)))
	return capped(f.edges(text), limit)
}

// edges replaces what looks like the rest of a value at either end: hosts cap their output too,
// and a cut through a value would let half of it pass.
func (f *Filter) edges(text string) string {
	for _, s := range f.order {
		for n := min(len(s)-1, len(text)); n >= minPart; n-- {
			if strings.HasSuffix(text, s[:n]) {
				text = text[:len(text)-n] + f.forms[s]
				break
			}
		}
		for n := min(len(s)-1, len(text)); n >= minPart; n-- {
			if strings.HasPrefix(text, s[len(s)-n:]) {
				text = f.forms[s] + text[n:]
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

// parts are the pieces of a value that are secrets by themselves.
func parts(whole string) []string {
	var out []string
	add := func(s string) {
		s = strings.TrimSpace(s)
		if len(s) >= minPart && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	add(whole)
	for line := range strings.SplitSeq(whole, "\n") {
		add(line)
		for _, sep := range []string{"=", ": "} {
			if _, v, ok := strings.Cut(line, sep); ok {
				add(strings.Trim(strings.TrimSpace(v), `"'`))
			}
		}
	}
	var v any
	if json.Unmarshal([]byte(whole), &v) == nil {
		jsonStrings(v, add)
	}
	return out
}

func jsonStrings(v any, add func(string)) {
	switch v := v.(type) {
	case string:
		add(v)
	case []any:
		for _, e := range v {
			jsonStrings(e, add)
		}
	case map[string]any:
		for _, e := range v {
			jsonStrings(e, add)
		}
	}
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
func encodeURIComponent(s string) string {
	return strings.NewReplacer("+", "%20", "%21", "!", "%27", "'", "%28", "(", "%29", ")", "%2A", "*").Replace(url.QueryEscape(s))
}

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

// stripControl drops control and formatting characters but tab and newline, terminal sequences
// with them, and broken UTF-8. Direction marks are among the dropped: they can make a line of a
// log read as another.
func stripControl(s string) string {
	s = strings.ToValidUTF8(s, "")
	s = stripSequences(s)
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
			return -1
		}
		return r
	}, s)
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
