package wire

import (
	"fmt"
	"reflect"

	"bellhop/internal/bundle"
	"bellhop/internal/plain"
)

// MaxResult is how much text a filtered result keeps, bytes: what is stored of a run on one
// host, and shown.
const MaxResult = 64 << 10

// MaxError is how much of that its error may be, bytes.
const MaxError = 8 << 10

// FilterResult is what a host said of a run, as it can be stored and shown: each text as filter
// makes it, at most MaxResult bytes in all, and MaxEvidence bytes of evidence beside that. Of a list
// that is cut, the last entry says how many are left out; of lines of evidence the first are, since
// the last ones tell most. Keys are not cut.
func FilterResult(in *bundle.HostResult, filter func(string) string) *bundle.Result {
	out := new(bundle.Result)
	c := copier{filter: filter, left: MaxResult}
	c.copy(reflect.ValueOf(out).Elem(), reflect.ValueOf(in).Elem())
	out.Units = unitsSeen(out.Units)
	return out
}

// FilterKeys is the same for how keys do.
func FilterKeys(in []bundle.HostKeyState, filter func(string) string) []bundle.KeyState {
	var out []bundle.KeyState
	c := copier{filter: filter, left: MaxResult}
	c.copy(reflect.ValueOf(&out).Elem(), reflect.ValueOf(&in).Elem())
	return out
}

// A copier turns the deployer's reading of a message into strings. It goes by reflection, so
// that a field which is added to a message can't be forgotten here.
type copier struct {
	filter func(string) string
	left   int  // bytes
	lines  bool // the text at hand may have several lines
}

var (
	foreign  = reflect.TypeFor[plain.Foreign]()
	keyState = reflect.TypeFor[bundle.HostKeyState]()
	evidence = reflect.TypeFor[bundle.HostEvidence]()
	content  = reflect.TypeFor[bundle.ContentOf[plain.Foreign]]()
)

func (c *copier) copy(dst, src reflect.Value) {
	if src.Type() == foreign {
		dst.SetString(c.text(src.Interface().(plain.Foreign)))
		return
	}

	if src.Type() == content {
		c.content(dst, src)
		return
	}

	switch src.Kind() {
	case reflect.Struct:
		for i := range src.NumField() {
			c.lines = src.Type().Field(i).Name == "Error"
			c.copy(dst.Field(i), src.Field(i))
		}

	case reflect.Pointer:
		if !src.IsNil() {
			dst.Set(reflect.New(dst.Type().Elem()))
			c.copy(dst.Elem(), src.Elem())
		}

	case reflect.Slice:
		c.list(dst, src)

	default:
		dst.Set(src)
	}
}

// list copies a list. One that is long gets half of what is left, so that those after it are
// heard too.
func (c *copier) list(dst, src reflect.Value) {
	if src.IsNil() {
		return
	}
	if src.Type().Elem() == keyState { // their number counts, and each is small
		was := c.left
		c.left = MaxResult + src.Len()*perThing
		c.all(dst, src, src.Len())
		c.left = was
		return
	}

	if src.Type().Elem() == content { // as many as were asked for
		was := c.left
		c.left = bundle.MaxLookPaths * MaxError
		c.all(dst, src, src.Len())
		c.left = was
		return
	}

	if src.Type().Elem() == evidence {
		was := c.left
		c.left = bundle.MaxEvidence
		c.evidence(dst, src)
		c.left = was
		return
	}

	rest := c.left / 2
	c.left -= rest
	c.all(dst, src, src.Len())
	c.left = rest + max(c.left, 0)
}

func (c *copier) all(dst, src reflect.Value, n int) {
	out := reflect.MakeSlice(dst.Type(), 0, min(n, 64))
	for i := range n {
		if c.left <= 0 {
			if src.Type().Elem() == foreign {
				more := reflect.New(dst.Type().Elem()).Elem()
				more.SetString(fmt.Sprintf("… and %d more", n-i))
				out = reflect.Append(out, more)
			}
			break
		}

		one := reflect.New(dst.Type().Elem()).Elem()
		c.copy(one, src.Index(i))
		out = reflect.Append(out, one)
	}

	dst.Set(out)
}

// evidence copies what was seen of things that failed, each with as many of its last lines as there
// is room for. All lines go through the filter, in their order: a value may be split over several.
func (c *copier) evidence(dst, src reflect.Value) {
	out := reflect.MakeSlice(dst.Type(), 0, min(src.Len(), 64))
	for i := range src.Len() {
		if c.left <= 0 {
			break
		}
		c.left -= perEvidence
		from := src.Index(i)
		one := reflect.New(dst.Type().Elem()).Elem()
		for f := range from.NumField() {
			if from.Field(f).Kind() != reflect.Slice {
				c.lines = false
				c.copy(one.Field(f), from.Field(f))
			}
		}
		e := from.Interface().(bundle.HostEvidence)
		one.FieldByName("Lines").Set(reflect.ValueOf(c.lastLines(e.Lines)))
		out = reflect.Append(out, one)
	}

	dst.Set(out)
}

// lastLines are the last of lines, filtered, that there is room for.
func (c *copier) lastLines(lines []plain.Foreign) []string {
	all := make([]string, len(lines))
	for i, l := range lines {
		all[i] = plain.Line(l.Filtered(c.filter), maxEvidenceLine)
	}

	first := len(all)
	for first > 0 && c.left >= len(all[first-1])+entryCost {
		first--
		c.left -= len(all[first]) + entryCost
	}
	if first == len(all) {
		return nil
	}

	return all[first:]
}

// perEvidence is what one thing that failed costs beside its texts.
const perEvidence = 64

// maxEvidenceLine is how much is kept of one line of evidence, bytes.
const maxEvidenceLine = 4 << 10

// entryCost is what a text costs beside its bytes.
const entryCost = 4

func (c *copier) text(f plain.Foreign) string {
	if f.IsEmpty() {
		return ""
	}

	most := max(min(c.left, MaxError), len("…"))
	s := f.Filtered(c.filter)
	if c.lines {
		s = plain.Text(s, most)
	} else {
		s = plain.Line(s, most) // a line break would make a line of its own where it is shown
	}

	c.left -= len(s) + entryCost
	return s
}
