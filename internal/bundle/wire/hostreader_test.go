package wire_test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/plain"
)

// hostKinds are what a host may say.
var hostKinds = map[string]byte{
	"hello": bundle.FrameHello, "want": bundle.FrameWant, "event": bundle.FrameEvent, "result": bundle.FrameResult, "reply": bundle.FrameReply,
}

// rawFrame is a frame of any payload, as a host may write it.
func rawFrame(kind byte, payload []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(payload))), payload...)
}

func deflatedFrame(kind byte, payload []byte) []byte {
	var z bytes.Buffer
	w, err := flate.NewWriter(&z, flate.BestCompression)
	if err != nil {
		panic(err)
	}
	w.Write(payload)
	w.Close()
	return rawFrame(kind|0x80, z.Bytes())
}

// allocated is how many bytes f allocates in all.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A few kilobytes of a host may not cost the deployer its memory: each of these took hundreds of
// megabytes.
func TestHostileFramesAreRefusedCheaply(t *testing.T) {
	const n = 8 << 20
	fill := func(head, unit, tail string) []byte {
		return []byte(head + strings.Repeat(unit, n/len(unit)) + tail)
	}

	for name, c := range map[string]struct {
		kind    byte
		payload []byte
	}{
		"empty keys in a hello":     {bundle.FrameHello, fill(`{"keys":[`, `{},`, `{}]}`)},
		"warnings in its last":      {bundle.FrameHello, fill(`{"last":{"warnings":[`, `"",`, `""]}}`)},
		"a long machine id":         {bundle.FrameHello, fill(`{"machine":"`, `m`, `"}`)},
		"unknown fields":            {bundle.FrameHello, fill(`{`, `"x":0,`, `"x":0}`)},
		"digests that it asks for":  {bundle.FrameWant, fill(`{"files":[`, `"",`, `""]}`)},
		"macs":                      {bundle.FrameWant, fill(`{"keys":{`, `"k":"",`, `"k":""}}`)},
		"the text of an event":      {bundle.FrameEvent, fill(`{"text":"`, `A`, `"}`)},
		"nothing in an event":       {bundle.FrameEvent, fill(`{`, ` `, `}`)},
		"lists in a result":         {bundle.FrameResult, fill(`{"changed":[`, `"",`, `""]}`)},
		"the same list many times":  {bundle.FrameResult, fill(`{`, `"changed":["a"],`, `"run":""}`)},
		"brackets without an end":   {bundle.FrameResult, fill(`{"changed":`, `[`, ``)},
		"a number without an end":   {bundle.FrameResult, fill(`{"took_ms":`, `9`, `}`)},
		"the error of a reply":      {bundle.FrameReply, fill(`{"error":"`, `\u0000`, `"}`)},
		"drift in a seen":           {bundle.FrameSeen, fill(`{"drift":[`, `{},`, `{}]}`)},
		"a manifest as reply":       {bundle.FrameReply, fill(`{"manifest":{"files":[`, `{},`, `{}]}}`)},
		"a manifest, towards us":    {bundle.FrameManifest, fill(`{"files":[`, `{},`, `{}]}`)},
		"data, towards us":          {bundle.FrameData, fill(``, `x`, ``)},
		"a kind that nobody speaks": {'!', fill(``, `x`, ``)},
	} {
		t.Run(name, func(t *testing.T) {
			for form, frame := range map[string][]byte{"deflated": deflatedFrame(c.kind, c.payload), "plain": rawFrame(c.kind, c.payload)} {
				var err error
				cost := allocated(func() { _, err = wire.NewHostReader(bytes.NewReader(frame), 10).Next() })
				if !errors.Is(err, wire.ErrProtocol) {
					t.Errorf("%s, %d bytes on the wire: %v, want ErrProtocol", form, len(frame), err)
				}
				if cost > 16<<20 {
					t.Errorf("%s, %d bytes on the wire cost %d bytes of memory", form, len(frame), cost)
				}
			}
		})
	}
}

// dense are messages that take the most memory for their bytes.
var dense = map[string][]struct{ head, unit, tail string }{
	"hello":  {{`{"keys":[`, `{},`, `{}]}`}, {`{"last":{"warnings":[`, `"a",`, `""]}}`}, {`{"x":[`, `0,`, `0]}`}},
	"want":   {{`{"files":[`, `"a",`, `""]}`}, {`{"keys":{`, `"%08d":"",`, `"k":""}}`}},
	"event":  {{`{"text":"`, `\n`, `"}`}},
	"result": {{`{"changed":[`, `"a",`, `""]}`}, {`{"keys":[`, `{"name":"a"},`, `{}]}`}},
	"reply":  {{`{"error":"`, `\n`, `"}`}},
}

// A frame of each kind at its cap is either refused or costs little.
func TestFrameAtItsCap(t *testing.T) {
	for name, forms := range dense {
		for _, form := range forms {
			worst := uint64(0)
			for size := 1 << 10; size <= 2<<20; size += size / 2 {
				var p strings.Builder
				p.WriteString(form.head)
				for i := 0; p.Len() < size; i++ {
					if strings.Contains(form.unit, "%") {
						fmt.Fprintf(&p, form.unit, i)
					} else {
						p.WriteString(form.unit)
					}
				}
				p.WriteString(form.tail)

				frame := deflatedFrame(hostKinds[name], []byte(p.String()))
				worst = max(worst, allocated(func() { wire.NewHostReader(bytes.NewReader(frame), 0).Next() }))
			}
			if worst > 12<<20 {
				t.Errorf("a %s of %s… costs up to %d bytes of memory", name, form.head, worst)
			}
		}
	}
}

// endless repeats a frame.
type endless struct {
	frame []byte
	at    int
	n     int64
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.frame[e.at:])
	e.at = (e.at + n) % len(e.frame)
	e.n += int64(n)
	return n, nil
}

// A session has a budget: events without end, however small or well packed, end it.
func TestSessionHasABudget(t *testing.T) {
	for name, frame := range map[string][]byte{
		"small events":    rawFrame(bundle.FrameEvent, []byte(`{}`)),
		"large events":    rawFrame(bundle.FrameEvent, []byte(`{"text":"`+strings.Repeat("A", 15<<10)+`"}`)),
		"deflated events": deflatedFrame(bundle.FrameEvent, []byte(`{"text":"`+strings.Repeat("A", 15<<10)+`"}`)),
		"deflated blanks": deflatedFrame(bundle.FrameEvent, []byte(`{}`+strings.Repeat(" ", 15<<10))),
	} {
		from := &endless{frame: frame}
		r := wire.NewHostReader(from, 10)
		var err error
		frames := 0
		cost := allocated(func() {
			for ; err == nil; frames++ {
				_, err = r.Next()
			}
		})
		if !errors.Is(err, wire.ErrProtocol) {
			t.Errorf("%s: %v, want ErrProtocol", name, err)
		}
		if from.n > 4<<20 || cost > 64<<20 || frames > 100_000 {
			t.Errorf("%s: %d frames, %d bytes of the wire and %d of memory before the session ended", name, frames, from.n, cost)
		}
	}
}

// What an honest host with hundreds of things says is far from the caps.
func TestHonestHostIsHeard(t *testing.T) {
	const things = 3000
	var hello bundle.Hello
	var res bundle.Result
	want := bundle.Want{Keys: map[string][]byte{}}
	for i := range things {
		name := fmt.Sprintf("service-number-%d", i)
		path := "file:/etc/" + name + "/conf.d/" + name + ".conf"
		res.Changed, res.Restarted = append(res.Changed, path), append(res.Restarted, name+".service")
		want.Files = append(want.Files, bundle.DigestBytes([]byte(name)))
		if i < 1000 {
			hello.Keys = append(hello.Keys, bundle.KeyState{Name: name, Present: true, Since: 1700000000, Source: "pushed", Unit: "active"})
			want.Keys[name] = bundle.KeyMAC([]byte(name), nil)
		}
	}
	res.Keys, hello.Last = hello.Keys, &res

	var sent bytes.Buffer
	for _, f := range []struct {
		kind byte
		v    any
	}{{bundle.FrameHello, hello}, {bundle.FrameWant, want}, {bundle.FrameResult, res}} {
		if err := wire.WriteFrame(&sent, f.kind, f.v); err != nil {
			t.Fatal(err)
		}
	}
	for range 2000 {
		wire.WriteFrame(&sent, bundle.FrameEvent, bundle.Event{At: 1700000000000, Step: "start", Text: "waits for service-number-1.service"})
	}

	r := wire.NewHostReader(&sent, things)
	for n := 0; ; n++ {
		m, err := r.Next()
		if err == io.EOF && n == 2003 {
			return
		}
		if err != nil {
			t.Fatalf("message %d: %v", n, err)
		}
		if w, ok := m.(*bundle.HostWant); ok && (w.Files.Len() != things || !w.Files.Has(want.Files[7])) {
			t.Errorf("%d files were asked for, want %d", w.Files.Len(), things)
		}
	}
}

// Numbers that would break arithmetic, JSON or a calendar are refused.
func TestHostileNumbers(t *testing.T) {
	for _, p := range []string{
		`{"systemd":-1}`, `{"systemd":9000000000}`, `{"record":{"generation":-1}}`, `{"record":{"generation":9223372036854775807}}`,
		`{"keys":[{"since":9223372036854775807}]}`, `{"keys":[{"since":-62135596801}]}`, `{"last":{"took_ms":9223372036854775807}}`,
		`{"last":{"evidence":[{"exit":-1}]}}`, `{"last":{"evidence":[{"exit":9223372036854775807}]}}`,
		`{"systemd":1e400}`, `{"record":{"generation":1e30}}`,
	} {
		if _, err := wire.NewHostReader(bytes.NewReader(rawFrame(bundle.FrameHello, []byte(p))), 0).Hello(); !errors.Is(err, wire.ErrProtocol) {
			t.Errorf("hello %s: %v, want ErrProtocol", p, err)
		}
	}
}

// No text of a host can leave its message as a string, but through a filter: a field that is
// added to a message of a helper must be of the type of its texts.
func TestTextsOfAHostAreForeign(t *testing.T) {
	for _, m := range []any{bundle.HostHello{}, bundle.HostEvent{}, bundle.HostResult{}, bundle.HostReply{}, bundle.HostWant{}} {
		findStrings(t, reflect.TypeOf(m), reflect.TypeOf(m).Name())
	}
}

func findStrings(t *testing.T, typ reflect.Type, path string) {
	if typ == reflect.TypeFor[plain.Foreign]() {
		return
	}
	switch typ.Kind() {
	case reflect.String, reflect.Map, reflect.Interface:
		t.Errorf("%s is a %s: use the T of its message, and plain.Foreign where a host is read", path, typ)
	case reflect.Struct:
		for f := range typ.Fields() {
			if f.IsExported() {
				findStrings(t, f.Type, path+"."+f.Name)
			}
		}
	case reflect.Slice, reflect.Pointer, reflect.Array:
		findStrings(t, typ.Elem(), path)
	}
}

func TestFilterResult(t *testing.T) {
	full := bundle.HostResult{}
	fillTexts(reflect.ValueOf(&full).Elem())
	got := wire.FilterResult(&full, func(s string) string { return "seen " + s })
	if len(got.Units) != 0 {
		t.Errorf("%q is a unit", got.Units)
	}
	got.Units = []bundle.UnitSeen{{Name: "seen text", Active: "seen text", Sub: "seen text"}} // see TestFilterResultKeepsUnits
	checkTexts(t, reflect.ValueOf(*got), "Result")

	long := &bundle.HostResult{Error: plain.NewForeign(strings.Repeat("e", 1<<20)), Outcome: plain.NewForeign("failed")}
	for range 5000 {
		long.Warnings = append(long.Warnings, plain.NewForeign("w\n"+strings.Repeat("w", 16<<10)))
		long.Changed = append(long.Changed, plain.NewForeign("c"))
		long.Keys = append(long.Keys, bundle.HostKeyState{Name: plain.NewForeign("key"), Present: true})
	}
	res := wire.FilterResult(long, func(s string) string { return s })
	size := len(res.Error)
	for _, s := range append(res.Warnings, res.Changed...) {
		size += len(s)
		if strings.Contains(s, "\n") {
			t.Fatal("an entry of a list has two lines")
		}
	}
	if size > wire.MaxResult+1<<10 || len(res.Keys) != 5000 {
		t.Errorf("a result holds %d bytes of text and %d keys, want at most %d and all", size, len(res.Keys), wire.MaxResult)
	}
	for _, list := range [][]string{res.Warnings, res.Changed} {
		if last := list[len(list)-1]; !strings.Contains(last, "more") && len(list) != 5000 {
			t.Errorf("a list of 5000 is cut to %d without a word: %q", len(list), last)
		}
	}
}

// Lines stay lines, the last ones are kept, and evidence takes no room from the rest.
func TestFilterOfEvidence(t *testing.T) {
	res := &bundle.HostResult{Error: plain.NewForeign("it failed")}
	for i := range 3 {
		e := bundle.HostEvidence{Unit: plain.NewForeign(fmt.Sprintf("u%d.service", i)), Exit: i}
		for n := range 50 {
			e.Lines = append(e.Lines, plain.NewForeign(fmt.Sprintf("line %d\tof\x1b[31m\n%s", n, strings.Repeat("x", 200))))
		}
		res.Evidence = append(res.Evidence, e)
	}
	got := wire.FilterResult(res, func(s string) string { return strings.ReplaceAll(s, "of", "OF") })
	for i, e := range got.Evidence {
		if len(e.Lines) != 50 || e.Exit != i || e.Unit != fmt.Sprintf("u%d.service", i) {
			t.Fatalf("evidence %d is %+v with %d lines, want all 50", i, e, len(e.Lines))
		}
		if l := e.Lines[49]; !strings.HasPrefix(l, "line 49") || !strings.Contains(l, "OF") || strings.ContainsAny(l, "\n\x1b") {
			t.Errorf("a line is %q, want it filtered and one line", l)
		}
	}

	for i := range res.Evidence {
		for n := range res.Evidence[i].Lines {
			res.Evidence[i].Lines[n] = plain.NewForeign(fmt.Sprint(n, strings.Repeat("y", 20<<10)))
		}
	}
	res.Evidence = append(res.Evidence, make([]bundle.HostEvidence, 100_000)...)
	got = wire.FilterResult(res, func(s string) string { return s })
	size := 0
	for _, e := range got.Evidence {
		for _, l := range e.Lines {
			size += len(l)
		}
	}
	first := got.Evidence[0].Lines
	if size > bundle.MaxEvidence || size < bundle.MaxEvidence/2 || !strings.HasPrefix(first[len(first)-1], "49") || len(got.Evidence) > 1000 {
		t.Errorf("%d bytes in %d things, the last line %.20q; want at most %d bytes that end with the last line", size, len(got.Evidence), first[len(first)-1], bundle.MaxEvidence)
	}
	if got.Error != "it failed" {
		t.Errorf("error %q", got.Error)
	}
}

// What a host says of its units is names and words of systemd, or it is left out: people are shown it beside commands.
func TestFilterResultKeepsUnits(t *testing.T) {
	res := &bundle.HostResult{}
	for _, u := range []bundle.UnitSeen{
		{Name: "web.service", Active: "active", Sub: "running"}, {Name: "$(reboot).service\n", Active: "active"},
		{Name: "a.service", Active: "\x1b[31mactive"}, {Name: "b.service", Active: "active", Sub: "<script>"}, {Name: "shop:db", Active: "active"},
	} {
		res.Units = append(res.Units, bundle.UnitSeenOf[plain.Foreign]{Name: plain.NewForeign(u.Name), Active: plain.NewForeign(u.Active), Sub: plain.NewForeign(u.Sub)})
	}

	want := []bundle.UnitSeen{{Name: "web.service", Active: "active", Sub: "running"}, {Name: "shop:db", Active: "active"}}
	if got := wire.FilterResult(res, func(s string) string { return s }).Units; !slices.Equal(got, want) {
		t.Errorf("units %q, want %q", got, want)
	}
}

func fillTexts(v reflect.Value) {
	switch {
	case v.Type() == reflect.TypeFor[plain.Foreign]():
		v.Set(reflect.ValueOf(plain.NewForeign("text")))
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fillTexts(v.Field(i))
		}
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillTexts(v.Elem())
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fillTexts(v.Index(0))
	case v.CanInt():
		v.SetInt(7)
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	}
}

func checkTexts(t *testing.T, v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.String:
		if v.String() != "seen text" {
			t.Errorf("%s is %q: it did not pass the filter", path, v.String())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			checkTexts(t, v.Field(i), path+"."+v.Type().Field(i).Name)
		}
	case reflect.Pointer, reflect.Slice:
		if v.IsNil() || v.Kind() == reflect.Slice && v.Len() != 1 {
			t.Errorf("%s was left out", path)
			return
		}
		if v.Kind() == reflect.Slice {
			v = v.Index(0).Addr()
		}
		checkTexts(t, v.Elem(), path)
	default:
		if v.IsZero() {
			t.Errorf("%s was left out", path)
		}
	}
}

func FuzzHostHello(f *testing.F) {
	fuzzHost(f, bundle.FrameHello, `{"protocol":1,"keys":[{"name":"a"}],"last":{"run":"r"}}`)
}
func FuzzHostWant(f *testing.F) { fuzzHost(f, bundle.FrameWant, `{"files":["a"],"keys":{"k":"AAAA"}}`) }
func FuzzHostEvent(f *testing.F) {
	fuzzHost(f, bundle.FrameEvent, `{"at":1,"step":"files","text":"\u2028x"}`)
}
func FuzzHostResult(f *testing.F) {
	fuzzHost(f, bundle.FrameResult, `{"run":"r","outcome":"done","changed":["file:/x"]}`,
		`{"run":"r","outcome":"rolled-back","failing":["web"],"evidence":[{"service":"web","unit":"web.service","result":"exit-code","exit":1,"lines":["a","\u2028b"]}]}`,
		`{"outcome":"unconfirmed","evidence":[{"probe":"http http://127.0.0.1","result":"status 500","exit":500},{"exit":-1},{"lines":[""]}]}`)
}
func FuzzHostSeen(f *testing.F) {
	fuzzHost(f, bundle.FrameSeen, `{"boot_id":"b","drift":[{"kind":"file","name":"/x","what":"mode"}],"contents":[{"bytes":"AAAA"}],"failed":[{"name":"a","since":1}]}`)
}
func FuzzHostReply(f *testing.F) { fuzzHost(f, bundle.FrameReply, `{"error":"no"}`) }

// fuzzHost reads a message of a host: it must not panic, and not take more memory than its cap
// explains.
func fuzzHost(f *testing.F, kind byte, good ...string) {
	for _, g := range good {
		f.Add([]byte(g), false)
	}
	f.Add(bytes.Repeat([]byte(`[{"`), 100), true)
	f.Fuzz(func(t *testing.T, payload []byte, isDeflated bool) {
		frame := rawFrame(kind, payload)
		if isDeflated {
			frame[0] |= 0x80
		}
		cost := allocated(func() {
			r := wire.NewHostReader(bytes.NewReader(frame), 0)
			r.ExpectSeen(bundle.Look{Contents: []string{"/x"}})
			m, err := r.Next()
			if seen, ok := m.(*bundle.HostSeen); ok && err == nil {
				wire.FilterSeen(seen, func(s string) string { return s })
			}
			if res, ok := m.(*bundle.HostResult); ok && err == nil {
				wire.FilterResult(res, func(s string) string { return s })
			}
		})
		if cost > 32<<20 {
			t.Fatalf("%d bytes cost %d bytes of memory", len(frame), cost)
		}
	})
}
