package rest

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

func shortenText(t testing.TB, text string) string {
	t.Helper()
	b, err := io.ReadAll(shorten(io.NopCloser(iotest.OneByteReader(strings.NewReader(text)))))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestLongStringsAreCut(t *testing.T) {
	long := strings.Repeat("x", 3*maxString)
	for text, want := range map[string]string{
		`{"a":"b\"c\\","n":1}`:                     `{"a":"b\"c\\","n":1}`,
		`["` + long + `","z"]`:                     `["` + long[:maxString] + `","z"]`,
		`["` + long[:maxString-1] + `\u00e9tail"]`: `["` + long[:maxString-1] + `\u00e9"]`,
		`["` + long[:maxString] + `\u00e9\"",2]`:   `["` + long[:maxString] + `",2]`,
		`["` + long + `\\"]`:                       `["` + long[:maxString] + `"]`,
	} {
		if got := shortenText(t, text); got != want {
			t.Errorf("%.60q… became %.60q… of %d bytes, want %d", text, got, len(got), len(want))
		}
	}
}

// What is shortened is still the same JSON: the same values but for strings, which are beginnings of what they were.
func FuzzShorten(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":["b\\\"",{"\u00e9":null}]}`, `"` + strings.Repeat(`\u00e9`, maxString) + `"`, `["` + strings.Repeat("é", maxString) + `"]`, `"\`} {
		f.Add([]byte(seed), uint16(0))
	}
	f.Fuzz(func(t *testing.T, text []byte, more uint16) {
		text = bytes.Replace(text, []byte("LONG"), bytes.Repeat([]byte("y"), int(more)), 1)
		short, err := io.ReadAll(shorten(io.NopCloser(bytes.NewReader(text))))
		if err != nil {
			t.Fatal(err)
		}
		if len(short) > len(text) {
			t.Fatalf("it became longer: %d to %d", len(text), len(short))
		}

		var was, is any
		if json.Unmarshal(text, &was) != nil {
			return
		}
		if err := json.Unmarshal(short, &is); err != nil {
			t.Fatalf("it can't be read any more: %v", err)
		}
		checkBeginnings(t, was, is)
	})
}

func checkBeginnings(t *testing.T, was, is any) {
	switch was := was.(type) {
	case string:
		is, ok := is.(string)
		head := strings.TrimRight(is, string(utf8.RuneError)) // a rune that was cut
		if !ok || !strings.HasPrefix(was, head) || len(was) < maxString/6 && was != is {
			t.Fatalf("%.80q became %.80q", was, is)
		}
	case []any:
		is, ok := is.([]any)
		if !ok || len(was) != len(is) {
			t.Fatalf("a list of %d became %T", len(was), is)
		}
		for i := range was {
			checkBeginnings(t, was[i], is[i])
		}
	case map[string]any:
		if _, ok := is.(map[string]any); !ok { // long names may have become the same
			t.Fatalf("an object became %T", is)
		}
	default:
		if was != is {
			t.Fatalf("%v became %v", was, is)
		}
	}
}

// An answer without end is not read to its end.
func TestAnswerWithoutEnd(t *testing.T) {
	s := shorten(io.NopCloser(strings.NewReader(strings.Repeat("x", 100))))
	s.left = 50
	if b, err := io.ReadAll(s); err != errLongAnswer || len(b) != 50 {
		t.Errorf("read %d bytes, %v", len(b), err)
	}
}
