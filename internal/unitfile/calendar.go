package unitfile

import (
	"errors"
	"slices"
	"strings"
)

// errCalendar says that a text is no calendar time.
var errCalendar = errors.New("is no time that systemd's calendar reads")

const decimal = "0123456789"

// calendarWords are the times that have a name.
var calendarWords = []string{
	"minutely", "hourly", "daily", "monthly", "annually", "yearly", "anually", "weekly", "quarterly",
	"biannually", "bi-annually", "semiannually", "semi-annually",
}

// CheckCalendar tells whether OnCalendar= takes s: a name, or weekdays, a date and a time of day,
// each of which may be missing, and a time zone ("Mon..Fri *-*-1/2 12:00/15 Europe/Berlin"). A
// zone of the right form counts as known: the zones are on the host.
func CheckCalendar(s string) error {
	s = withoutZone(s)
	if slices.Contains(calendarWords, strings.ToLower(s)) {
		return nil
	}

	if s == "" || len(s) > 1024 {
		return errCalendar
	}

	p := &calendarParser{rest: s}
	for _, part := range []func() bool{p.weekdays, p.date, p.time} {
		if !part() {
			return errCalendar
		}
	}

	if p.rest != "" {
		return errCalendar
	}

	return nil
}

// singleZones are the zones without a slash.
var singleZones = strings.Fields("CET CST6CDT Cuba EET EST EST5EDT Egypt Eire Factory GB GB-Eire GMT GMT+0 GMT-0 GMT0 Greenwich HST Hongkong " +
	"Iceland Iran Israel Jamaica Japan Kwajalein Libya MET MST MST7MDT NZ NZ-CHAT Navajo PRC PST8PDT Poland Portugal ROC ROK Singapore " +
	"Turkey UCT UTC Universal W-SU WET Zulu CEST EDT CDT PDT BST")

// withoutZone removes a time zone at the end.
func withoutZone(s string) string {
	i := strings.LastIndexByte(s, ' ')
	if i < 0 {
		return s
	}

	zone := s[i+1:]
	if strings.EqualFold(zone, "UTC") || slices.Contains(singleZones, zone) {
		return s[:i]
	}

	region, city, ok := strings.Cut(zone, "/")
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"
	isRegion := region != "" && strings.Trim(region, letters) == ""
	isCity := city != "" && strings.Trim(city, letters+"0123456789+-/") == ""
	if ok && isRegion && isCity {
		return s[:i]
	}

	return s
}

// A calendarParser takes parts from the beginning of rest.
type calendarParser struct{ rest string }

var dayNames = []string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}

// day takes the name of a day, whole or of three letters: its number, and -1 when there is none.
func (p *calendarParser) day() int {
	low := strings.ToLower(p.rest[:min(len(p.rest), 9)])
	for i, name := range dayNames {
		switch {
		case strings.HasPrefix(low, name):
			p.rest = p.rest[len(name):]
			return i
		case strings.HasPrefix(low, name[:3]):
			p.rest = p.rest[3:]
			return i
		}
	}

	return -1
}

// weekdays takes "Mon", "Mon,Wed", "Mon..Fri"; a list may end in a comma.
func (p *calendarParser) weekdays() bool {
	from := -1 // of an open range
	for first := true; ; first = false {
		day := p.day()
		if day < 0 {
			return first // the days are missing
		}
		if p.rest != "" && strings.IndexByte("-., ", p.rest[0]) < 0 || from > day {
			return false
		}

		open := from >= 0
		switch {
		case p.rest == "":
			return true
		case p.rest[0] == ' ':
			p.blanks()
			return true
		case strings.HasPrefix(p.rest, "..") && !open:
			from, p.rest = day, p.rest[2:]
		case p.rest[0] == '-' && !open:
			from, p.rest = day, p.rest[1:]
		case p.rest[0] == ',':
			from, p.rest = -1, p.rest[1:]
		default:
			return false
		}

		if p.rest == "" || p.rest[0] == ' ' {
			p.blanks()
			return from < 0
		}
	}
}

func (p *calendarParser) blanks() { p.rest = strings.TrimLeft(p.rest, " ") }

// ends tells whether the part ends here: at the end or at a blank, which are taken.
func (p *calendarParser) ends() bool {
	if p.rest != "" && p.rest[0] != ' ' {
		return false
	}

	p.blanks()
	return true
}

// date takes "YEAR-MONTH-DAY" or "MONTH-DAY"; "~" before the day counts from the end of the month.
// A part that is a time of day is left.
func (p *calendarParser) date() bool {
	if p.rest == "" {
		return true
	}

	if rest, ok := strings.CutPrefix(p.rest, "@"); ok {
		return p.epoch(rest)
	}

	whole := p.rest
	first, ok := p.chain(false)
	if !ok {
		return false
	}

	if p.rest == "" || p.rest[0] == ':' {
		p.rest = whole
		return true
	}

	fromEnd, ok := p.dash()
	if !ok {
		return false
	}

	second, ok := p.chain(false)
	if !ok {
		return false
	}

	if p.ends() {
		return first.within(1, 12, false) && second.within(1, 31, fromEnd)
	}

	if fromEnd {
		return false
	}

	if fromEnd, ok = p.dash(); !ok {
		return false
	}

	third, ok := p.chain(false)
	if !ok || !p.ends() {
		return false
	}

	return first.years().within(1970, 2199, false) && second.within(1, 12, false) && third.within(1, 31, fromEnd)
}

// epoch takes seconds since 1970: nothing may follow.
func (p *calendarParser) epoch(digits string) bool {
	p.rest = ""
	digits = strings.TrimLeft(digits, Whitespace)
	return digits != "" && len(digits) <= 11 && strings.Trim(digits, "0123456789") == ""
}

// dash takes what parts a date.
func (p *calendarParser) dash() (fromEnd, ok bool) {
	if p.rest == "" || p.rest[0] != '-' && p.rest[0] != '~' {
		return false, false
	}

	fromEnd = p.rest[0] == '~'
	p.rest = p.rest[1:]
	return fromEnd, true
}

// time takes "HOUR:MINUTE" or "HOUR:MINUTE:SECOND".
func (p *calendarParser) time() bool {
	if p.rest == "" {
		return true
	}

	hour, ok := p.chain(false)
	if !ok || !p.colon() {
		return false
	}

	minute, ok := p.chain(false)
	if !ok || !hour.within(0, 23, false) || !minute.within(0, 59, false) {
		return false
	}

	if p.rest == "" {
		return true
	}

	if !p.colon() {
		return false
	}

	second, ok := p.chain(true)
	return ok && second.within(0, 60*microsecond-1, false)
}

func (p *calendarParser) colon() bool {
	rest, ok := strings.CutPrefix(p.rest, ":")
	p.rest = rest
	return ok
}

// microsecond is a second in the unit that seconds are counted in.
const microsecond = 1000000

// A span is one number, range or repetition: "4", "1..5", "*/15".
type span struct{ start, stop, repeat int } // stop is -1 for none

type spans []span

// maxSpans is how many a list may have.
const maxSpans = 240

// chain takes "*" or a list of spans.
func (p *calendarParser) chain(seconds bool) (spans, bool) {
	if rest, ok := strings.CutPrefix(p.rest, "*"); ok {
		p.rest = rest
		if !strings.HasPrefix(rest, "/") {
			return nil, true
		}
		return nil, false // systemd reads "0/5", and refuses "*/5"
	}

	var list spans
	for {
		one, ok := p.span(seconds)
		if !ok || len(list) > maxSpans {
			return nil, false
		}
		list = append(list, one)
		rest, more := strings.CutPrefix(p.rest, ",")
		if !more {
			return list, true
		}
		p.rest = rest
	}
}

func (p *calendarParser) span(seconds bool) (span, bool) {
	s := span{stop: -1}
	var ok bool
	if s.start, ok = p.number(seconds); !ok {
		return s, false
	}

	if rest, isRange := strings.CutPrefix(p.rest, ".."); isRange {
		p.rest, s.repeat = rest, 1
		if seconds {
			s.repeat = microsecond
		}
		if s.stop, ok = p.number(seconds); !ok {
			return s, false
		}
	}

	if rest, repeats := strings.CutPrefix(p.rest, "/"); repeats {
		p.rest = rest
		if s.repeat, ok = p.number(seconds); !ok || s.repeat == 0 {
			return s, false
		}
	}

	return s, p.rest == "" || strings.IndexByte(" ,-~:", p.rest[0]) >= 0
}

// number takes digits; of seconds also up to six behind a point.
func (p *calendarParser) number(seconds bool) (int, bool) {
	n, ok := p.digits(9)
	if !ok || !seconds {
		return n, ok
	}

	n *= microsecond
	isPoint := strings.HasPrefix(p.rest, ".") && !strings.HasPrefix(p.rest, "..")
	if !isPoint {
		return n, n <= 1<<31-1
	}

	p.rest = p.rest[1:]
	before := len(p.rest)
	part, ok := p.digits(6)
	for range 6 - (before - len(p.rest)) {
		part *= 10
	}

	if p.rest != "" && p.rest[0] >= '5' && p.rest[0] <= '9' {
		part++ // rounded
	}

	p.rest = strings.TrimLeft(p.rest, "0123456789")
	return n + part, ok && n+part <= 1<<31-1
}

// digits takes a number of at most that many digits.
func (p *calendarParser) digits(most int) (n int, ok bool) {
	i := 0
	for i < min(len(p.rest), most) && strings.IndexByte(decimal, p.rest[i]) >= 0 {
		n = n*10 + int(p.rest[i]-'0')
		i++
	}

	p.rest = p.rest[i:]
	return n, i > 0
}

// years are spans with years of two digits made whole.
func (ss spans) years() spans {
	out := slices.Clone(ss)
	for i := range out {
		out[i].start, out[i].stop = year(out[i].start), year(out[i].stop)
	}

	return out
}

func year(n int) int {
	switch {
	case n < 0 || n >= 100:
		return n
	case n < 70:
		return n + 2000
	}

	return n + 1900
}

// within tells whether systemd takes ss for a field of numbers from low to high. Days that count
// from the end of the month end at 28, since every month has them.
func (ss spans) within(low, high int, fromEnd bool) bool {
	if fromEnd {
		high = 28
	}

	return !slices.ContainsFunc(ss, func(s span) bool { return !s.within(low, high, fromEnd) })
}

func (s span) within(low, high int, fromEnd bool) bool {
	if s.start < low || s.start > high {
		return false
	}

	if s.stop >= 0 {
		if s.stop < s.start || s.stop > high {
			return false
		}
		return true // what the repetition does not reach is left out
	}

	last := s.start + s.repeat
	if fromEnd {
		last = s.start - s.repeat
	}

	return last >= low && last <= high
}
